package state_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/towpath/towpath/gateway/state"
)

func TestStandby(t *testing.T) {
	d, err := state.Open(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if got, err := d.Standby(); err != nil || len(got) != 0 {
		t.Errorf("at first: %v, %v", got, err)
	}
	want := map[string]string{"lab": "node_b"}
	if err := d.SaveStandby(want); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Standby(); err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if err := os.WriteFile(d.Path("standby.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Standby(); err == nil {
		t.Errorf("a damaged file gives %v", got)
	}
}
