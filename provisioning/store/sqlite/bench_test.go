package sqlite

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/storetest"
)

func BenchmarkAllocate(b *testing.B) {
	storetest.Benchmark(b, func(t testing.TB) store.Store { return openAt(t, filepath.Join(t.TempDir(), "towpath.db")) })
}

// TestRulesUseTheIndexes asks SQLite how it would run what the triggers ask. A scan, or a search by family alone, would make every
// allocation cost what the plan holds.
func TestRulesUseTheIndexes(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "towpath.db"))
	lo := make([]byte, 16)
	for query, args := range map[string][]any{
		`SELECT hi FROM ranges WHERE kind = 'allocation' AND family = ?1 AND lo <= ?2 ORDER BY lo DESC LIMIT 1`: {4, lo},
		`SELECT 1 FROM ranges WHERE kind = 'foreign' AND family = ?1 AND lo BETWEEN ?2 AND ?2`:                  {4, lo},
		`SELECT 1 FROM foreign_lengths AS l WHERE l.family = ?1 AND ?2 <= (
			SELECT hi FROM ranges WHERE kind = 'foreign' AND family = ?1 AND bits = l.bits AND lo <= ?2 ORDER BY lo DESC LIMIT 1)`: {4, lo},
		overlappingRanges: {4, lo, lo},
		selectRange + `WHERE owner = ? AND owner <> ''` + orderRange: {"hub"},
		`DELETE FROM ranges WHERE until <= ?`:                        {1},
	} {
		rows, err := s.read.QueryContext(t.Context(), `EXPLAIN QUERY PLAN `+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Error(err)
			}
			if strings.HasPrefix(detail, "SCAN r") || strings.HasPrefix(detail, "SEARCH r USING COVERING INDEX ranges_foreign (family=?)") {
				t.Errorf("%s\n\t%s", query, detail)
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Error(err)
		}
	}
}
