package state_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/towpath/towpath/gateway/state"
)

// What is kept of other nodes survives, is not in clear, moves with the key store, and is agreed on anew where it cannot be read.
func TestPairsAreKept(t *testing.T) {
	d, err := state.Open(filepath.Join(t.TempDir(), "box"))
	if err != nil {
		t.Fatal(err)
	}
	enrolled(t, d)
	secret := bytes.Repeat([]byte("preshared"), 4)
	open := func(want ...string) *state.Pairs {
		t.Helper()
		p, err := d.Pairs()
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Load()
		if err != nil || !slices.Equal(slices.Sorted(maps.Keys(got)), want) {
			t.Fatalf("kept of %v (%v), want %v", slices.Collect(maps.Keys(got)), err, want)
		}
		for node, data := range got {
			if !bytes.Equal(data, append(slices.Clone(secret), node...)) {
				t.Errorf("of %s there is %q", node, data)
			}
		}
		return p
	}
	p := open()
	for _, node := range []string{"node_b", "node_a", "node_c", "node_b"} {
		if err := p.Save(node, append(slices.Clone(secret), node...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(p.Forget("node_c"), p.Forget("node_none")); err != nil {
		t.Fatal(err)
	}
	open("node_a", "node_b")
	store := mask{name: "mask"}
	d = reopen(t, d, state.WithSealer(store))
	if err := d.Reseal(); err != nil {
		t.Fatal(err)
	}
	open("node_a", "node_b")
	files, err := filepath.Glob(d.Path("pairs/*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v (%v)", files, err)
	}
	a, err := os.ReadFile(files[0])
	if err != nil || bytes.Contains(a, secret[:9]) || bytes.Contains(a, []byte("node_")) {
		t.Errorf("in clear: %q (%v)", a, err)
	}
	// A file in another's place, and one that is cut.
	for _, damaged := range [][]byte{a, a[:20], nil} {
		if err := os.WriteFile(files[1], damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := d.Pairs()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Load(); err != nil || len(got) != 1 {
			t.Errorf("%d bytes: kept of %v (%v)", len(damaged), slices.Collect(maps.Keys(got)), err)
		}
	}
	if err := os.WriteFile(d.Path("pairs.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	open() // anew
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
