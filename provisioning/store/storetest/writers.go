package storetest

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

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
	Sound(t, rows)
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
		_, err := tx.Ranges().Create(provisioning.Range{Kind: allocation, Prefix: p, Owner: "site_x", Purpose: provisioning.PurposeOverlay, Created: now()})
		return err
	})
}

// testConcurrentKinds lets eight writers change the plan at random and blindly, pools included. Only the database keeps it whole.
func testConcurrentKinds(t *testing.T, s store.Store) {
	const writers, rounds = 8, 30
	mustCreate(t, s, pool, "10.64.0.0/17")
	var wg sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[string]int{}
	for w := range writers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(2, uint64(w)))
			for range rounds {
				err := s.Update(t.Context(), func(tx store.Tx) error { return disturb(tx, random) })
				outcome := "done"
				for _, known := range []error{store.ErrOverlap, store.ErrOutside, store.ErrExists, store.ErrInUse, store.ErrNotFound} {
					if errors.Is(err, known) {
						outcome = known.Error()
					}
				}
				if err != nil && outcome == "done" {
					t.Error(err)
				}
				mu.Lock()
				outcomes[outcome]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	rows := listRanges(t, s)
	Sound(t, rows)
	t.Logf("%v, %d ranges left", outcomes, len(rows))
	if outcomes["done"] < writers || outcomes[store.ErrOverlap.Error()] == 0 || len(rows) < 10 {
		t.Error("the writers got nothing done, or nothing was refused")
	}
}

// disturb makes one random change. Ids are guessed.
func disturb(tx store.Tx, random *rand.Rand) error {
	id := 1 + random.Int64N(100)
	switch random.IntN(10) {
	case 0, 1:
		return tx.Ranges().Remove(id)
	case 2:
		return tx.Ranges().Quarantine(id, now())
	case 3:
		return tx.Ranges().End(id, now())
	}
	_, err := tx.Ranges().Create(RandomRange(random))
	return err
}

// RandomRange is a valid range within 10.64.0.0/16.
func RandomRange(random *rand.Rand) provisioning.Range {
	kinds := []provisioning.RangeKind{pool, pool, allocation, allocation, allocation, allocation, reserved, foreign, lan, reported}
	bits := 20 + random.IntN(9)
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(random.IntN(256)), byte(random.IntN(256))}), bits).Masked()
	r := RangeOf(kinds[random.IntN(len(kinds))], p.String())
	if r.Kind == pool {
		r.Prefix = netip.PrefixFrom(p.Addr(), bits-4).Masked()
	}
	if r.Kind == allocation || r.Kind == pool {
		r.Label = []string{"", "", "north", "south"}[random.IntN(4)]
	}
	return r
}

// Sound fails the test for every rule of the plan that ranges break.
func Sound(t interface{ Errorf(string, ...any) }, ranges []provisioning.Range) { plan(ranges).sound(t) }
