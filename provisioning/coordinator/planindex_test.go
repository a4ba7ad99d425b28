package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// fickle is a Store that counts who reads the whole plan, and does with a transaction what a database may do.
type fickle struct {
	store.Store
	lists atomic.Int64
	// twice runs every change two times, of which the first is rolled back.
	twice bool
	// lose fails the next commit after it was made; refuse makes the next Create meet an overlap.
	lose, refuse bool
}

var errRollBack, errLost = errors.New("roll back"), errors.New("the answer was lost")

func (f *fickle) View(ctx context.Context, fn func(store.Tx) error) error {
	return f.Store.View(ctx, func(tx store.Tx) error { return fn(fickleTx{tx, f}) })
}

func (f *fickle) Update(ctx context.Context, fn func(store.Tx) error) error {
	if f.twice {
		err := f.Store.Update(ctx, func(tx store.Tx) error {
			_ = fn(fickleTx{tx, f})
			return errRollBack
		})
		if !errors.Is(err, errRollBack) {
			return err
		}
	}
	err := f.Store.Update(ctx, func(tx store.Tx) error { return fn(fickleTx{tx, f}) })
	if f.lose && err == nil {
		f.lose = false
		return errLost
	}
	return err
}

type fickleTx struct {
	store.Tx
	f *fickle
}

func (t fickleTx) Ranges() store.Ranges { return fickleRanges{t.Tx.Ranges(), t.f} }

type fickleRanges struct {
	store.Ranges
	f *fickle
}

func (r fickleRanges) List() ([]provisioning.Range, error) {
	r.f.lists.Add(1)
	return r.Ranges.List()
}

func (r fickleRanges) Create(v provisioning.Range) (provisioning.Range, error) {
	if r.f.refuse {
		r.f.refuse = false
		return v, fmt.Errorf("create: %w", store.ErrOverlap)
	}
	return r.Ranges.Create(v)
}

func clinic(name string, hosts int) coordinator.NewSite {
	return coordinator.NewSite{Name: name, Kind: wire.Clinic, Hosts: hosts}
}

// TestAllocationsDoNotReadThePlan counts how often the whole plan is read while it changes in every way.
func TestAllocationsDoNotReadThePlan(t *testing.T) {
	f := &fickle{Store: openStore(t)}
	n := provisioningtest.New(t, f, provisioningtest.Options{})
	n.Clinic(t, "first")
	f.lists.Store(0)
	ctx := t.Context()
	for i := range 10 {
		name := fmt.Sprint("clinic-", i)
		n.Clinic(t, name)
		if _, err := n.Allocate(ctx, "test", coordinator.NewAllocation{Site: name, Purpose: provisioning.PurposeServices, Size: coordinator.Size{Bits: 30}}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Reserve(ctx, "test", coordinator.NewReservation{Site: name, Size: coordinator.Size{Bits: 29}}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Release(ctx, "test", mustAdd(t, n, provisioning.RangeReserved, "10.201.99.0/24", "").Prefix.String(), true); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := n.RemoveSite(ctx, "test", name); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustAdd(t, n, provisioning.RangePool, "10.201.128.0/17", "")
	if _, err := n.Free(ctx, coordinator.FreeQuery{}); err != nil {
		t.Fatal(err)
	}
	if got := f.lists.Load(); got != 0 {
		t.Errorf("the plan was read %d times", got)
	}
}

// TestTheIndexFollows makes the database do what the index must not miss, and then wants the next allocation where it would be without
// an index.
func TestTheIndexFollows(t *testing.T) {
	for name, disturb := range map[string]func(*testing.T, *fickle, *provisioningtest.Network){
		"another replica": func(t *testing.T, f *fickle, _ *provisioningtest.Network) {
			other := provisioningtest.Open(t, f.Store, provisioningtest.Options{})
			other.Clinic(t, "other")
			other.Clinic(t, "more")
		},
		"a rollback": func(t *testing.T, _ *fickle, n *provisioningtest.Network) {
			// The range is taken, then the LAN is refused.
			s := clinic("refused", 100)
			s.LAN = prefix("10.201.0.0/16")
			wantCode(t, reason(n.CreateSite(t.Context(), "test", s)), provisioning.Conflict)
		},
		"a rollback and another replica": func(t *testing.T, f *fickle, n *provisioningtest.Network) {
			s := clinic("refused", 100)
			s.LAN = prefix("10.201.0.0/16")
			wantCode(t, reason(n.CreateSite(t.Context(), "test", s)), provisioning.Conflict)
			// It gets the revision that the refused change had.
			provisioningtest.Open(t, f.Store, provisioningtest.Options{}).Clinic(t, "other")
		},
		"a commit whose answer was lost": func(t *testing.T, f *fickle, n *provisioningtest.Network) {
			f.lose = true
			if _, err := n.CreateSite(t.Context(), "test", clinic("lost", 14)); !errors.Is(err, errLost) {
				t.Errorf("got %v", err)
			}
		},
		"a transaction that runs again": func(t *testing.T, f *fickle, n *provisioningtest.Network) {
			f.twice = true
			defer func() { f.twice = false }()
			n.Clinic(t, "again")
			if _, err := n.LayOut(t.Context(), "test", coordinator.LayoutRequest{Pools: []netip.Prefix{prefix("10.77.0.0/16")}, Regions: []string{"a", "b"}}); err != nil {
				t.Fatal(err)
			}
		},
		"somebody past the coordinator": func(t *testing.T, f *fickle, _ *provisioningtest.Network) {
			if err := f.Store.Update(t.Context(), func(tx store.Tx) error {
				_, err := tx.Ranges().Create(provisioning.Range{Kind: provisioning.RangeReserved, Prefix: prefix("10.201.0.32/28")})
				return err
			}); err != nil {
				t.Fatal(err)
			}
		},
		"a new pool": func(t *testing.T, _ *fickle, n *provisioningtest.Network) {
			mustAdd(t, n, provisioning.RangePool, "10.201.0.0/25", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fickle{Store: openStore(t)}
			n := provisioningtest.New(t, f, provisioningtest.Options{})
			n.Clinic(t, "first")
			disturb(t, f, n)
			fresh := provisioningtest.Open(t, f.Store, provisioningtest.Options{})
			want, err := fresh.Free(t.Context(), coordinator.FreeQuery{Pool: "10.201.0.0/16", Size: coordinator.Size{Hosts: 14}})
			if err != nil {
				t.Fatal(err)
			}
			s := clinic("next", 14)
			s.Pool = "10.201.0.0/16"
			if s := n.Site(t, s); s.Prefixes[0] != want[0].Next {
				t.Errorf("the next site has %v, want %v", s.Prefixes[0], want[0].Next)
			}
		})
	}
}

func TestTheDatabaseIsTheJudge(t *testing.T) {
	f := &fickle{Store: openStore(t)}
	n := provisioningtest.New(t, f, provisioningtest.Options{})
	f.refuse = true
	wantCode(t, reason(n.CreateSite(t.Context(), "test", clinic("a", 14))), provisioning.Conflict, "10.201.0.16/28 was taken", "try again")
	if s := n.Clinic(t, "a"); s.Prefixes[0] != prefix("10.201.0.16/28") {
		t.Errorf("the next try has %v", s.Prefixes)
	}
}

// TestReplicasAllocateSideBySide lets coordinators on one database allocate at once: nobody is refused, and nothing overlaps.
func TestReplicasAllocateSideBySide(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			st := e.open(t)
			replicas := []*provisioningtest.Network{provisioningtest.New(t, st, provisioningtest.Options{})}
			replicas = append(replicas, provisioningtest.Open(t, st, provisioningtest.Options{}))
			var wg sync.WaitGroup
			for w := range 8 {
				wg.Go(func() {
					for i := range 5 {
						s := clinic(fmt.Sprintf("clinic-%d-%d", w, i), 6+20*(i%2))
						if _, err := replicas[w%2].CreateSite(context.Background(), "test", s); err != nil {
							t.Error(err)
						}
						if _, err := replicas[w%2].Free(context.Background(), coordinator.FreeQuery{}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			for i, r := range replicas {
				p, err := r.Plan(t.Context())
				if err != nil || len(p.Ranges) != 41 {
					t.Fatalf("replica %d has %d ranges (%v)", i, len(p.Ranges), err)
				}
				for j := 1; j < len(p.Ranges); j++ {
					if p.Ranges[j-1].Prefix.Overlaps(p.Ranges[j].Prefix) {
						t.Errorf("%v overlaps %v", p.Ranges[j-1].Prefix, p.Ranges[j].Prefix)
					}
				}
			}
		})
	}
}
