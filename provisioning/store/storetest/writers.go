package storetest

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// disjoint fails the test for any two allocations or reservations that overlap, and for an allocation that meets a foreign range or
// leaves the pools.
func disjoint(t interface{ Errorf(string, ...any) }, rows []provisioning.Range) {
	of := func(kinds ...provisioning.RangeKind) *ipam.Set {
		var out []netip.Prefix
		for _, r := range rows {
			if slices.Contains(kinds, r.Kind) {
				out = append(out, r.Prefix)
			}
		}
		return ipam.NewSet(out...)
	}
	for a, b := range of(allocation, reserved).Collisions() {
		t.Errorf("%v overlaps %v", a, b)
	}
	pools, strangers := of(pool), of(foreign)
	for a, b := range pools.Collisions() {
		t.Errorf("the pool %v overlaps %v", a, b)
	}
	for p := range of(allocation).All() {
		if strangers.Overlaps(p) {
			t.Errorf("%v meets a foreign range", p)
		}
		inside := false
		for up := range pools.Overlapping(p) {
			inside = inside || up.Bits() <= p.Bits()
		}
		if !inside {
			t.Errorf("%v lies in no pool", p)
		}
	}
}

// testConcurrentWriters lets eight writers allocate and release side by side. Half of them choose inside the transaction and must always
// succeed; the others choose from what they saw before it, so that the database is what keeps them apart.
func testConcurrentWriters(t *testing.T, s store.Store) {
	const writers, rounds = 8, 30
	mustCreate(t, s, pool, "10.64.0.0/16")
	mustCreate(t, s, foreign, "10.64.64.0/18")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var refusals, created int
	for w := range writers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for range rounds {
				err := writeRange(t, s, random, w%2 == 0)
				mu.Lock()
				if errors.Is(err, store.ErrOverlap) && w%2 == 1 {
					refusals++
				} else if err != nil {
					t.Error(err)
				} else {
					created++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	rows := listRanges(t, s)
	disjoint(t, rows)
	t.Logf("%d transactions, %d refused by the database, %d ranges left", created, refusals, len(rows))
	if created == 0 || len(rows) < 10 {
		t.Error("the writers got nothing done")
	}
}

// writeRange releases an allocation in one of four calls and makes one in the others.
func writeRange(t *testing.T, s store.Store, random *rand.Rand, inside bool) error {
	bits := 24 + random.IntN(6)
	choose := func(tx store.Tx) (netip.Prefix, []provisioning.Range, error) {
		rows, err := tx.Ranges().List()
		if err != nil {
			return netip.Prefix{}, nil, err
		}
		space, err := ipam.NewSpace(netip.MustParsePrefix("10.64.0.0/16"))
		if err != nil {
			return netip.Prefix{}, nil, err
		}
		var mine []provisioning.Range
		for _, r := range rows {
			if r.Kind == pool {
				continue
			}
			if err := space.Take(r.Prefix); err != nil {
				return netip.Prefix{}, nil, err
			}
			if r.Kind == allocation {
				mine = append(mine, r)
			}
		}
		p, err := space.Find(bits)
		return p, mine, err
	}
	release := random.IntN(4) == 0
	pick := random.Uint64()
	var seen netip.Prefix
	if !inside {
		if err := s.View(t.Context(), func(tx store.Tx) (err error) {
			seen, _, err = choose(tx)
			return err
		}); err != nil {
			return err
		}
	}
	return s.Update(t.Context(), func(tx store.Tx) error {
		p := seen
		if inside {
			found, rows, err := choose(tx)
			if err != nil {
				return err
			}
			if release && len(rows) > 0 {
				return tx.Ranges().Remove(rows[pick%uint64(len(rows))].ID)
			}
			p = found
		}
		_, err := tx.Ranges().Create(provisioning.Range{Kind: allocation, Prefix: p, Owner: "site_x", Created: now()})
		return err
	})
}
