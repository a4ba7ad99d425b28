package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// plan is the naive address plan: a list, compared pair by pair.
type plan []provisioning.Range

// verdicts are the errors with which r may be refused; none means that it must be taken.
func (p plan) verdicts(r provisioning.Range) []error {
	inPool, hit := false, false
	planned := func(k provisioning.RangeKind) bool { return k == allocation || k == reserved }
	for _, o := range p {
		if !o.Prefix.Overlaps(r.Prefix) {
			continue
		}
		inPool = inPool || o.Kind == pool && o.Prefix.Bits() <= r.Prefix.Bits()
		hit = hit || r.Kind == pool && o.Kind == pool || planned(r.Kind) && planned(o.Kind) ||
			r.Kind == allocation && o.Kind == foreign || r.Kind == foreign && o.Kind == allocation
	}
	var out []error
	if hit {
		out = append(out, store.ErrOverlap)
	}
	if r.Kind == allocation && !inPool {
		out = append(out, store.ErrOutside)
	}
	return out
}

// inUse says whether r is a pool that holds an allocation.
func (p plan) inUse(r provisioning.Range) bool {
	return r.Kind == pool && slices.ContainsFunc(p, func(o provisioning.Range) bool {
		return o.Kind == allocation && o.Prefix.Overlaps(r.Prefix)
	})
}

// sorted is p in the order of Ranges.List.
func (p plan) sorted() plan {
	rank := func(r provisioning.Range) int {
		if r.Kind == pool {
			return 0
		}
		return 1
	}
	out := slices.Clone(p)
	slices.SortFunc(out, func(a, b provisioning.Range) int {
		if c := a.Prefix.Compare(b.Prefix); c != 0 {
			return c
		}
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		return int(a.ID - b.ID)
	})
	return out
}

// anyPrefix draws from a few thousand addresses, so that ranges meet often. In IPv6 they lie across bit 64.
func anyPrefix() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		if rapid.Bool().Draw(t, "IPv6") {
			a := [16]byte{0xfd, 7: rapid.Byte().Draw(t, "a"), 8: rapid.Byte().Draw(t, "b")}
			return netip.PrefixFrom(netip.AddrFrom16(a), rapid.IntRange(56, 72).Draw(t, "bits")).Masked()
		}
		a := [4]byte{10, 64, rapid.Byte().Draw(t, "a"), rapid.Byte().Draw(t, "b")}
		return netip.PrefixFrom(netip.AddrFrom4(a), rapid.IntRange(16, 32).Draw(t, "bits")).Masked()
	})
}

// player plays one transaction of a random plan on the Store and on the naive plan at once.
type player struct {
	*rapid.T
	tx   store.Tx
	plan plan
	at   time.Time
}

// errRefused ends a transaction in which the Store refused what it had to refuse.
var errRefused = errors.New("refused as expected")

// testRangeModel plays random plans against the naive one, several steps in a transaction. A refusal gives up the whole transaction, on
// both sides.
func testRangeModel(t *testing.T, open func(*testing.T) store.Store) {
	s := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		emptyPlan(t, s)
		var committed plan
		// Without pools most plans would be nothing but refusals.
		for _, p := range []string{"10.64.0.0/17", "fd00::/57"} {
			committed = append(committed, mustCreate(t, s, pool, p))
		}
		at := now()
		for range rapid.IntRange(1, 8).Draw(rt, "transactions") {
			at = at.Add(time.Hour)
			var p player
			err := s.Update(t.Context(), func(tx store.Tx) error {
				p = player{T: rt, tx: tx, plan: slices.Clone(committed), at: at}
				for range rapid.IntRange(1, 8).Draw(rt, "steps") {
					step := rapid.SampledFrom([]func(*player) error{
						(*player).create, (*player).create, (*player).create, (*player).create, (*player).remove, (*player).quarantine,
						(*player).sweep, (*player).overlapping,
					}).Draw(rt, "step")
					if err := step(&p); err != nil {
						return err
					}
				}
				return nil
			})
			if err == nil {
				committed = p.plan
			} else if !errors.Is(err, errRefused) {
				rt.Fatal(err)
			}
			got := listRanges(t, s)
			if !slices.Equal(committed.sorted(), got) {
				rt.Fatalf("the plan is %v, want %v", got, committed.sorted())
			}
			disjoint(rt, got)
		}
	})
}

// expected returns nil for a success and errRefused for a failure, and fails the test where the other was wanted.
func (p *player) expected(got error, want []error, what string, a ...any) error {
	switch {
	case got == nil && len(want) == 0:
		return nil
	case got != nil && slices.ContainsFunc(want, func(w error) bool { return errors.Is(got, w) }):
		return errRefused
	}
	p.Fatalf("%s: got %v, want one of %v", fmt.Sprintf(what, a...), got, want)
	return nil
}

func (p *player) create() error {
	r := provisioning.Range{Owner: "site_x", Created: p.at, Prefix: anyPrefix().Draw(p.T, "prefix")}
	r.Kind = rapid.SampledFrom([]provisioning.RangeKind{pool, allocation, allocation, allocation, reserved, foreign, foreign}).Draw(p.T, "kind")
	if r.Kind == pool && rapid.Bool().Draw(p.T, "wide") {
		r.Prefix = rapid.SampledFrom([]netip.Prefix{
			netip.MustParsePrefix("10.64.0.0/16"), netip.MustParsePrefix("10.64.0.0/17"), netip.MustParsePrefix("fd00::/56"),
		}).Draw(p.T, "pool")
	}
	got, err := p.tx.Ranges().Create(r)
	if err := p.expected(err, p.plan.verdicts(r), "%s %v", r.Kind, r.Prefix); err != nil {
		return err
	}
	p.plan = append(p.plan, got)
	return nil
}

// pick returns the index of a range, or of none.
func (p *player) pick() (int, bool) {
	if len(p.plan) == 0 {
		return 0, false
	}
	return rapid.IntRange(0, len(p.plan)-1).Draw(p.T, "which"), true
}

func (p *player) remove() error {
	i, ok := p.pick()
	if !ok {
		return nil
	}
	var want []error
	if p.plan.inUse(p.plan[i]) {
		want = append(want, store.ErrInUse)
	}
	err := p.expected(p.tx.Ranges().Remove(p.plan[i].ID), want, "remove %s %v", p.plan[i].Kind, p.plan[i].Prefix)
	if err == nil {
		p.plan = slices.Delete(p.plan, i, i+1)
	}
	return err
}

func (p *player) quarantine() error {
	i, ok := p.pick()
	if !ok {
		return nil
	}
	r := &p.plan[i]
	until := p.at.Add(time.Duration(rapid.IntRange(1, 4).Draw(p.T, "hours")) * time.Hour)
	var want []error
	if r.Kind == pool || r.Kind == foreign {
		want = append(want, store.ErrNotFound)
	}
	err := p.expected(p.tx.Ranges().Quarantine(r.ID, until), want, "quarantine %s %v", r.Kind, r.Prefix)
	if err == nil {
		r.Owner, r.Until = "", until
	}
	return err
}

func (p *player) sweep() error {
	before := len(p.plan)
	p.plan = slices.DeleteFunc(p.plan, func(r provisioning.Range) bool { return !r.Until.IsZero() && !r.Until.After(p.at) })
	n, err := p.tx.Ranges().Sweep(p.at)
	if n != before-len(p.plan) {
		p.Fatalf("Sweep = %d, %v, want %d", n, err, before-len(p.plan))
	}
	return err
}

func (p *player) overlapping() error {
	q := anyPrefix().Draw(p.T, "prefix")
	want := slices.DeleteFunc(p.plan.sorted(), func(r provisioning.Range) bool { return !r.Prefix.Overlaps(q) })
	got, err := p.tx.Ranges().Overlapping(q)
	if !slices.Equal(want, got) {
		p.Fatalf("Overlapping(%v) = %v, %v, want %v", q, got, err, want)
	}
	return err
}

// emptyPlan removes all ranges, pools last.
func emptyPlan(t *testing.T, s store.Store) {
	t.Helper()
	rows := listRanges(t, s)
	slices.SortStableFunc(rows, func(a, b provisioning.Range) int {
		switch {
		case a.Kind == pool && b.Kind != pool:
			return 1
		case a.Kind != pool && b.Kind == pool:
			return -1
		}
		return 0
	})
	update(t, s, func(tx store.Tx) error {
		for _, r := range rows {
			if err := tx.Ranges().Remove(r.ID); err != nil {
				return err
			}
		}
		return nil
	})
}
