package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// BenchPool has room for more than the largest plan, 100,000 ranges of 8 to 64 addresses.
func BenchPool() netip.Prefix { return netip.MustParsePrefix("10.0.0.0/9") }

// planOf fills a store with n ranges of mixed sizes, every tenth of them foreign, and returns the index that belongs to it.
func planOf(b *testing.B, s store.Store, n int) *ipam.Space {
	b.Helper()
	space, err := ipam.NewSpace(BenchPool())
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Update(b.Context(), func(tx store.Tx) error {
		if _, err := tx.Ranges().Create(provisioning.Range{Kind: provisioning.RangePool, Prefix: BenchPool()}); err != nil {
			return err
		}
		for i := range n {
			if _, err := Allocate(tx, space, i); err != nil {
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
	return space
}

// Allocate chooses a range and writes it.
func Allocate(tx store.Tx, space *ipam.Space, i int) (netip.Prefix, error) {
	p, err := space.Allocate(26 + i%4)
	if err != nil {
		return p, err
	}
	_, err = tx.Ranges().Create(provisioning.Range{
		Kind: provisioning.RangeAllocation, Prefix: p, Owner: fmt.Sprint("site_", i/3), Purpose: provisioning.PurposeOverlay,
	})
	return p, err
}

// ErrRollBack ends a transaction that shall leave nothing behind.
var ErrRollBack = errors.New("roll back")

// Benchmark is one allocation in a plan of n, for each engine: choose, insert, past the triggers. "commit" syncs each, "batch" is one transaction
// for all. "load" is what it costs to build the index from the database.
func Benchmark(b *testing.B, open func(testing.TB) store.Store) {
	b.Helper()
	for _, n := range []int{1_000, 10_000, 100_000} {
		s := open(b)
		space := planOf(b, s, n)
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
					space, err := ipam.NewSpace(BenchPool())
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
					p, err := Allocate(tx, space, i)
					if err != nil {
						return err
					}
					took = append(took, p)
				}
				return ErrRollBack
			})
			if !errors.Is(err, ErrRollBack) {
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
				if err := s.Update(b.Context(), func(tx store.Tx) error { _, err := Allocate(tx, space, i); return err }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
