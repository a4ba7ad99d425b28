package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/pgtest"
	"github.com/towpath/towpath/provisioning/store/storetest"
)

func BenchmarkAllocate(b *testing.B) {
	storetest.Benchmark(b, func(t testing.TB) store.Store { return openAt(t, pgtest.Start(t)) })
}

// TestPlansUseTheIndexes fills a plan without statistics, inside one transaction that began with an empty plan, and then asks PostgreSQL
// how it runs what every allocation asks. A scan would make an allocation cost what the plan holds.
func TestPlansUseTheIndexes(t *testing.T) {
	s := openAt(t, pgtest.Start(t))
	err := s.Update(t.Context(), func(x store.Tx) error {
		if _, err := x.Ranges().Create(provisioning.Range{Kind: provisioning.RangePool, Prefix: storetest.BenchPool()}); err != nil {
			return err
		}
		space, err := ipam.NewSpace(storetest.BenchPool())
		if err != nil {
			return err
		}
		for i := range 2000 {
			if _, err := storetest.Allocate(x, space, i); err != nil {
				return err
			}
		}
		const p = `'10.0.7.9/32'::cidr`
		for _, query := range []string{
			strings.NewReplacer("$1", p, "$2", "'allocation'").Replace(conflictRange),
			strings.NewReplacer("$1", p, "$2", "'pool'").Replace(conflictRange),
			`SELECT id, prefix FROM ranges WHERE kind = 'pool' AND prefix >>= ` + p + ` ORDER BY masklen(prefix) LIMIT 1`,
			`SELECT FROM ranges AS a WHERE a.pool_id = 1 AND NOT EXISTS (SELECT FROM ranges AS p WHERE p.kind = 'pool' AND p.prefix >>= a.prefix)`,
			selectRange + `WHERE prefix && ` + p + orderRange,
			selectRange + `WHERE label = 'north'`,
			selectRange + `WHERE owner = 'hub' AND owner <> ''` + orderRange,
			selectRange + `WHERE until <= 1 AND owner <> ''` + orderRange,
			strings.Replace(sweepRanges, "$1", "1", 1),
			strings.NewReplacer("$1", p, "$2", "10").Replace(overlappingHistory),
		} {
			plan, err := all(x.(*tx), value, `EXPLAIN `+query)
			if err != nil {
				return err
			}
			if text := strings.Join(plan, "\n"); strings.Contains(text, "Seq Scan") || !strings.Contains(text, "Index") {
				t.Errorf("%s\n%s", query, text)
			}
		}
		return storetest.ErrRollBack
	})
	if !errors.Is(err, storetest.ErrRollBack) {
		t.Error(err)
	}
}
