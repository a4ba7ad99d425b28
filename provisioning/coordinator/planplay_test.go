package coordinator_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/pgtest"
	"github.com/towpath/towpath/provisioning/store/postgres"
	"github.com/towpath/towpath/provisioning/wire"
)

// openPostgres returns an empty database of the other engine.
func openPostgres(t testing.TB) store.Store {
	t.Helper()
	st, err := postgres.Open(context.Background(), pgtest.Start(t), postgres.Options{})
	if err != nil {
		t.Fatalf("open the database: %v", err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("close the database: %v", err)
		}
	})
	return st
}

// playPool is small, so that everything meets and much is full.
const playPool = "10.64.0.0/22"

// TestPlanAgainstAModel does random things to a plan in SQLite, in PostgreSQL and in a list in which each range is compared with each, and
// wants the same results, refusals and plans from all three, disjoint at every step.
func TestPlanAgainstAModel(t *testing.T) {
	clock := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	o := provisioningtest.Options{
		Init: coordinator.InitOptions{Pools: []netip.Prefix{prefix(playPool)}}, Now: func() time.Time { return clock },
	}
	engines := []*provisioningtest.Network{provisioningtest.New(t, openPostgres(t), o), provisioningtest.New(t, openStore(t), o)}
	rapid.Check(t, func(rt *rapid.T) {
		for _, e := range engines {
			empty(rt, e.Store)
			if err := e.SetQuarantine(context.Background(), "test", 24*time.Hour); err != nil {
				rt.Fatal(err)
			}
		}
		p := &player{T: rt, engines: engines, model: &model{now: clock, quarantine: 24 * time.Hour, rows: []row{
			{kind: provisioning.RangePool, prefix: prefix(playPool)},
			{kind: provisioning.RangeAllocation, prefix: prefix("10.64.0.0/28"), owner: "hub", purpose: provisioning.PurposeOverlay},
		}}}
		for _, name := range []string{"a", "b", "c"} {
			p.create(coordinator.NewSite{Name: name, Kind: wire.Clinic, Hosts: 6}, netip.Prefix{})
		}
		p.addNode()
		for range rapid.SampledFrom([]int{3, 6, 9, 12}).Draw(rt, "steps") {
			p.step(&clock)
			p.compare()
		}
		p.compareFree()
	})
}

// empty leaves what a new network has. It goes around the coordinator, as another replica would.
func empty(t *rapid.T, st store.Store) {
	if err := st.Update(context.Background(), func(tx store.Tx) error {
		nodes, err := tx.Nodes().List()
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if err := tx.Nodes().Remove(n.ID); err != nil {
				return err
			}
		}
		ranges, err := tx.Ranges().List()
		if err != nil {
			return err
		}
		// Pools last, and the widest last of them.
		slices.SortStableFunc(ranges, func(a, b provisioning.Range) int {
			last := func(r provisioning.Range) int {
				if r.Kind == provisioning.RangePool {
					return 1000 - r.Prefix.Bits()
				}
				return 0
			}
			return cmp.Compare(last(a), last(b))
		})
		isPlay := func(r provisioning.Range) bool {
			return r.Kind == provisioning.RangePool && r.Prefix == prefix(playPool)
		}
		hub, play := false, slices.ContainsFunc(ranges, isPlay)
		for _, r := range ranges {
			if isPlay(r) {
				continue
			}
			if r.Prefix == prefix("10.64.0.0/28") && r.Owner == "hub" && r.Label == "" {
				hub = true
				continue
			}
			// The pool may have been removed where a wider one held what was in it. Nothing but pools is in its way now.
			if r.Kind == provisioning.RangePool && !play {
				if _, err := tx.Ranges().Create(provisioning.Range{Kind: provisioning.RangePool, Prefix: prefix(playPool)}); err != nil {
					return err
				}
				play = true
			}
			if err := tx.Ranges().Remove(r.ID); err != nil {
				return err
			}
		}
		if !hub {
			if _, err := tx.Ranges().Create(provisioning.Range{
				Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeOverlay, Prefix: prefix("10.64.0.0/28"), Owner: "hub",
			}); err != nil {
				return err
			}
		}
		sites, err := tx.Sites().List()
		if err != nil {
			return err
		}
		for _, s := range sites {
			if err := tx.Sites().Remove(s.ID); err != nil {
				return err
			}
		}
		_, err = tx.Bump()
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

type player struct {
	*rapid.T
	engines []*provisioningtest.Network
	model   *model
	boxes   byte
}

// outcome is what a step came to.
type outcome struct {
	prefix netip.Prefix
	code   provisioning.Code
}

// try does one thing to all, and wants the same outcome.
func (p *player) try(what string, do func(*provisioningtest.Network) (netip.Prefix, error), expect func(*model) (netip.Prefix, provisioning.Code)) bool {
	next := p.model.clone()
	next.sweep()
	want := outcome{}
	if want.prefix, want.code = expect(next); want.code != fine {
		want.prefix = netip.Prefix{}
	}
	for i, e := range p.engines {
		got := outcome{}
		var err error
		if got.prefix, err = do(e); err != nil {
			refusal, ok := errors.AsType[*provisioning.Error](err)
			if !ok {
				p.Fatalf("%s: engine %d failed: %v", what, i, err)
			}
			got = outcome{code: refusal.Code}
		}
		if got != want {
			p.Fatalf("%s: engine %d has %+v (%v), want %+v", what, i, got, err, want)
		}
	}
	p.Logf("%s: %v %s", what, want.prefix, want.code)
	if want.code == fine {
		p.model = next
	}
	return want.code == fine
}

// compare wants the same plan everywhere, and proven: nothing that is allowed makes a map unsafe.
func (p *player) compare() {
	want := p.model.lines()
	for i, e := range p.engines {
		got := planLines(p.T, e)
		if !slices.Equal(got, want) {
			p.Fatalf("engine %d has the plan\n%s\nwant\n%s", i, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if proof, err := e.Proof(context.Background()); err != nil || proof.HeldAll || len(proof.Held) > 0 {
			p.Fatalf("engine %d holds maps of %v, all %v: %v, %v", i, proof.Held, proof.HeldAll, proof.CounterExamples, err)
		}
	}
	for i, a := range p.model.rows {
		for _, b := range p.model.rows[i+1:] {
			if meets(a, b) {
				p.Fatalf("%v meets %v", a, b)
			}
		}
	}
}

func (m *model) lines() []string {
	var out []string
	for _, r := range m.rows {
		if r.kind == provisioning.RangePool {
			around := append(m.around(r.prefix), netip.Prefix{})
			out = append(out, fmt.Sprintf("pool %v in %v, %d deep, %q", r.prefix, around[1], len(around)-2, r.label))
			continue
		}
		out = append(out, fmt.Sprintf("%s %v of %q for %q, %q, until %v, in %v", r.kind, r.prefix, r.owner, r.purpose, r.label, r.until, m.home(r.prefix)))
	}
	for _, n := range m.nodes {
		out = append(out, fmt.Sprintf("node of %s: %v, %v", n.site, n.address, n.former))
	}
	slices.Sort(out)
	return out
}

func planLines(t *rapid.T, e *provisioningtest.Network) []string {
	plan, err := e.Plan(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := e.Nodes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range plan.Pools {
		out = append(out, fmt.Sprintf("pool %v in %v, %d deep, %q", r.Prefix, r.Parent, r.Depth, r.Label))
	}
	for _, r := range plan.Ranges {
		out = append(out, fmt.Sprintf("%s %v of %q for %q, %q, until %v, in %v", r.Kind, r.Prefix, r.OwnerName, r.Purpose, r.Label, r.Until, r.Pool))
	}
	for _, n := range nodes {
		out = append(out, fmt.Sprintf("node of %s: %v, %v", n.SiteName, n.Address, n.Former))
	}
	slices.Sort(out)
	return out
}

// compareFree counts what is free address by address.
func (p *player) compareFree() {
	bits := rapid.IntRange(24, 32).Draw(p.T, "free bits")
	for i, e := range p.engines {
		free, err := e.Free(context.Background(), coordinator.FreeQuery{Size: coordinator.Size{Bits: bits}})
		if err != nil {
			p.Fatal(err)
		}
		plan, err := e.Plan(context.Background())
		if err != nil || len(free) != len(plan.Pools) {
			p.Fatal(free, err)
		}
		for j, pool := range plan.Pools {
			if !pool.Prefix.Addr().Is4() {
				continue
			}
			fits, left := uint64(0), 0
			for _, b := range blocks(pool.Prefix, max(bits, pool.Prefix.Bits())) {
				if bits >= pool.Prefix.Bits() && p.model.free(pool.Prefix, b) {
					fits++
				}
			}
			for _, b := range blocks(pool.Prefix, 32) {
				if p.model.free(pool.Prefix, b) {
					left++
				}
			}
			next := netip.Prefix{}
			if fits > 0 {
				next, _ = p.model.find(pool.Prefix, bits)
			}
			if f := free[j]; f.Pool != pool.Prefix || f.Fits != fits || f.Next != next {
				p.Fatalf("engine %d: of a /%d there is free %+v, want %d, next %v", i, bits, f, fits, next)
			}
			all := math.Ldexp(1, 32-pool.Prefix.Bits())
			if taken := 1 - float64(left)/all; math.Abs(taken-pool.Usage.Taken) > 1e-9 {
				p.Fatalf("engine %d: of %v %f is taken, want %f", i, pool.Prefix, pool.Usage.Taken, taken)
			}
		}
	}
}
