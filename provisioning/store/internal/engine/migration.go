package engine

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Migration is one step of a schema: the number its file name begins with, and its statements. A released one never changes.
type Migration struct {
	Version int
	Name    string
	Text    string
}

// Migrations returns the steps of a folder "schema" in order, numbered 1, 2, 3….
func Migrations(files fs.FS) ([]Migration, error) {
	names, err := fs.Glob(files, "schema/*.sql")
	if err != nil {
		return nil, err
	}
	var out []Migration
	for i, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		if v, err := strconv.Atoi(number); err != nil || v != i+1 {
			return nil, fmt.Errorf("the migration %s is out of order: want number %d", name, i+1)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		out = append(out, Migration{Version: i + 1, Name: path.Base(name), Text: string(text)})
	}
	return out, nil
}

// Newer refuses a schema that this program does not know.
func Newer(have, known int) error {
	if have <= known {
		return nil
	}
	return fmt.Errorf("it has schema %d and this program knows up to %d: a newer program has written it, "+
		"install that one again or restore a backup from before it", have, known)
}

// CheckSchema compares a schema, as texts by what they define, with what it should be: the rules of the plan are worth nothing where
// somebody has dropped a trigger.
func CheckSchema(want, have map[string]string) error {
	const hint = "restore a backup, or put it back as it was"
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch got, ok := have[name]; {
		case !ok:
			return fmt.Errorf("its schema was changed by hand: %s is missing: %s", name, hint)
		case got != want[name]:
			return fmt.Errorf("its schema was changed by hand: %s is not as this program made it: %s", name, hint)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[name]; !ok {
			return fmt.Errorf("its schema was changed by hand: %s is not of this program: %s", name, hint)
		}
	}
	return nil
}
