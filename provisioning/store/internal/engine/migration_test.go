package engine

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

func TestMigrationsAreNumbered(t *testing.T) {
	for want, names := range map[string][]string{
		"":                  {"0001_a.sql", "0002_b.sql"},
		"want number 2":     {"0001_a.sql", "0003_b.sql"},
		"want number 1":     {"0002_b.sql"},
		"0001_b.sql is out": {"0001_a.sql", "0001_b.sql"},
		"x.sql is out":      {"0001_a.sql", "x.sql"},
	} {
		files := fstest.MapFS{}
		for _, n := range names {
			files["schema/"+n] = &fstest.MapFile{Data: []byte("SELECT 1")}
		}
		got, err := Migrations(files)
		if want == "" && (err != nil || len(got) != 2) || want != "" && !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v: %v, %v", names, got, err)
		}
	}
}
