package postgres

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/pgtest"
)

// benchPool has room for more than the largest plan, 100,000 ranges of 8 to 64 addresses.
func benchPool() netip.Prefix { return netip.MustParsePrefix("10.0.0.0/9") }

// planOf fills a store with n ranges of mixed sizes, every tenth of them foreign, and returns the index that belongs to it.
func planOf(b *testing.B, n int) (*Store, *ipam.Space) {
	b.Helper()
	s := openAt(b, pgtest.Start(b))
	space, err := ipam.NewSpace(benchPool())
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Update(b.Context(), func(tx store.Tx) error {
		if _, err := tx.Ranges().Create(provisioning.Range{Kind: provisioning.RangePool, Prefix: benchPool()}); err != nil {
			return err
		}
		for i := range n {
			if _, err := allocate(tx, space, i); err != nil {
				return err
			}
			if i%10 == 0 {
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i / 10), 0}), 20+i/10%9).Masked()
				if _, err := tx.Ranges().Create(provisioning.Range{Kind: provisioning.RangeForeign, Prefix: p}); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	return s, space
}

func allocate(tx store.Tx, space *ipam.Space, i int) (netip.Prefix, error) {
	p, err := space.Allocate(26 + i%4)
	if err != nil {
		return p, err
	}
	_, err = tx.Ranges().Create(provisioning.Range{Kind: provisioning.RangeAllocation, Prefix: p, Owner: fmt.Sprint("site_", i/3)})
	return p, err
}

var errRollBack = errors.New("roll back")

// BenchmarkAllocate is one allocation in a plan of n: choose, insert, past the triggers. "commit" syncs each, "batch" is one transaction
// for all. "load" is what it costs to build the index from the database.
func BenchmarkAllocate(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		s, space := planOf(b, n)
		b.Run(fmt.Sprintf("overlapping/%d", n), func(b *testing.B) {
			if err := s.View(b.Context(), func(tx store.Tx) error {
				for b.Loop() {
					if _, err := tx.Ranges().Overlapping(netip.MustParsePrefix("10.0.7.9/32")); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
		})
		b.Run(fmt.Sprintf("load/%d", n), func(b *testing.B) {
			for b.Loop() {
				if err := s.View(b.Context(), func(tx store.Tx) error {
					rows, err := tx.Ranges().List()
					if err != nil {
						return err
					}
					space, err := ipam.NewSpace(benchPool())
					if err != nil {
						return err
					}
					for _, r := range rows {
						if r.Kind != provisioning.RangePool {
							if err := space.Take(r.Prefix); err != nil {
								return err
							}
						}
					}
					return nil
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("batch/%d", n), func(b *testing.B) {
			var took []netip.Prefix
			err := s.Update(b.Context(), func(tx store.Tx) error {
				for i := 0; b.Loop(); i++ {
					p, err := allocate(tx, space, i)
					if err != nil {
						return err
					}
					took = append(took, p)
				}
				return errRollBack
			})
			if !errors.Is(err, errRollBack) {
				b.Fatal(err)
			}
			for _, p := range took {
				if err := space.Release(p); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("commit/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if err := s.Update(b.Context(), func(tx store.Tx) error { _, err := allocate(tx, space, i); return err }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestPlansUseTheIndexes fills a plan without statistics, inside one transaction that began with an empty plan, and then asks PostgreSQL
// how it runs what every allocation asks. A scan would make an allocation cost what the plan holds.
func TestPlansUseTheIndexes(t *testing.T) {
	s := openAt(t, pgtest.Start(t))
	err := s.Update(t.Context(), func(x store.Tx) error {
		if _, err := x.Ranges().Create(provisioning.Range{Kind: provisioning.RangePool, Prefix: benchPool()}); err != nil {
			return err
		}
		space, err := ipam.NewSpace(benchPool())
		if err != nil {
			return err
		}
		for i := range 2000 {
			if _, err := allocate(x, space, i); err != nil {
				return err
			}
		}
		const p, inPool = `'10.0.7.9/32'::cidr`, ` AND side && int8range(-3, -2) AND kind = 'pool'`
		for _, query := range []string{
			strings.NewReplacer("$1", p, "$2", "'allocation'").Replace(conflictRange),
			`SELECT id, prefix FROM ranges WHERE prefix >>= ` + p + inPool,
			selectRange + `WHERE prefix && ` + p + orderRange,
			selectRange + `WHERE owner = 'hub' AND owner <> ''` + orderRange,
			`DELETE FROM ranges WHERE until <= 1`,
		} {
			plan, err := all(x.(*tx), value, `EXPLAIN `+query)
			if err != nil {
				return err
			}
			if text := strings.Join(plan, "\n"); strings.Contains(text, "Seq Scan") || !strings.Contains(text, "Index") {
				t.Errorf("%s\n%s", query, text)
			}
		}
		return errRollBack
	})
	if !errors.Is(err, errRollBack) {
		t.Error(err)
	}
}
