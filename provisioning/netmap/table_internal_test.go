package netmap

import (
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"
)

// coarse has few hashes that differ: keys of it collide in all of them or in none.
func newCoarse(k int, v string) *entry[int, string] {
	return &entry[int, string]{hash: uint64(k%5) << 30, key: k, value: v}
}

// TestTable compares tables with maps, and holds that none changes after it was made.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			table table[int, string]
			want  map[int]string
		}
		versions := []version{{}}
		for i := range rapid.IntRange(0, 400).Draw(t, "steps") {
			last := versions[len(versions)-1]
			next := version{last.table, maps.Clone(last.want)}
			if next.want == nil {
				next.want = map[int]string{}
			}
			k := rapid.IntRange(0, 200).Draw(t, "key")
			if rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
				next.table = last.table.without(k)
				delete(next.want, k)
			} else {
				next.want[k] = fmt.Sprint(i)
				next.table = last.table.with(k, next.want[k])
			}
			versions = append(versions, next)
		}
		var loaded table[int, string]
		for k, v := range versions[len(versions)-1].want {
			loaded.load(k, "before")
			loaded.load(k, v)
		}
		versions = append(versions, version{loaded, versions[len(versions)-1].want})
		for i, v := range versions {
			if got := maps.Collect(v.table.all()); !maps.Equal(got, v.want) || v.table.len() != len(v.want) {
				t.Fatalf("version %d has %v, its size is %d, want %v", i, got, v.table.len(), v.want)
			}
			for k := range 201 {
				got, ok := v.table.get(k)
				if want, there := v.want[k]; got != want || ok != there || v.table.has(k) != there {
					t.Fatalf("version %d has %q (%v) at %d, want %q", i, got, ok, k, want)
				}
			}
		}
	})
}

// TestTableWithEqualHashes does the same below the hash function, where hashes are equal or differ late.
func TestTableWithEqualHashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, want := &branch[int, string]{}, map[int]string{}
		for i := range rapid.IntRange(0, 40).Draw(t, "steps") {
			k := rapid.IntRange(0, 20).Draw(t, "key")
			e := newCoarse(k, fmt.Sprint(i))
			_, there := want[k]
			before, was := b, maps.Clone(want)
			if rapid.Bool().Draw(t, "remove") {
				var had bool
				if b, had = b.without(k, e.hash, 0); had != there {
					t.Fatalf("there was %d: %v, want %v", k, had, there)
				}
				delete(want, k)
			} else {
				var grown bool
				if b, grown = b.put(e, 0, false); grown == there {
					t.Fatalf("it has grown by %d: %v, it was there: %v", k, grown, there)
				}
				want[k] = e.value
			}
			for who, pair := range map[string]struct {
				b    *branch[int, string]
				want map[int]string
			}{"new": {b, want}, "old": {before, was}} {
				got := map[int]string{}
				pair.b.walk(func(k int, v string) bool { got[k] = v; return true })
				if !maps.Equal(got, pair.want) {
					t.Fatalf("the %s one has %v, want %v", who, got, pair.want)
				}
			}
		}
	})
}
