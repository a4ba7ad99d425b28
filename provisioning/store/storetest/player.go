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

// anyRange draws one that is valid in itself, of everything that a Range can have.
func anyRange() *rapid.Generator[provisioning.Range] {
	return rapid.Custom(func(t *rapid.T) provisioning.Range {
		r := provisioning.Range{Prefix: anyPrefix().Draw(t, "prefix"), Note: rapid.SampledFrom([]string{"", "a note"}).Draw(t, "note")}
		r.Kind = rapid.SampledFrom([]provisioning.RangeKind{
			pool, pool, allocation, allocation, allocation, allocation, reserved, foreign, foreign, lan, reported,
		}).Draw(t, "kind")
		if r.Kind == pool && rapid.Bool().Draw(t, "wide") {
			r.Prefix = rapid.SampledFrom([]netip.Prefix{
				netip.MustParsePrefix("10.64.0.0/16"), netip.MustParsePrefix("10.64.0.0/17"), netip.MustParsePrefix("fd00::/56"),
			}).Draw(t, "pool")
		}
		if r.Kind != pool && r.Kind != foreign {
			r.Owner = rapid.SampledFrom([]string{"site_x", "site_y", "hub"}).Draw(t, "owner")
		}
		if r.Kind == pool || r.Kind == allocation || r.Kind == reserved {
			r.Label = rapid.SampledFrom([]string{"", "", "", "", "north", "south"}).Draw(t, "label")
		}
		switch r.Kind {
		case allocation:
			r.Purpose = rapid.SampledFrom([]provisioning.RangePurpose{provisioning.PurposeOverlay, provisioning.PurposeMapped}).Draw(t, "purpose")
			if r.Purpose == provisioning.PurposeMapped {
				r.Maps = r.Prefix
			}
		case reported:
			r.Purpose = rapid.SampledFrom([]provisioning.RangePurpose{provisioning.PurposeLAN, provisioning.PurposeWAN}).Draw(t, "purpose")
		case pool, reserved, foreign, lan:
		}
		return r
	})
}

// player plays one transaction of a random plan on the Store and on the naive plan at once.
type player struct {
	*rapid.T
	tx   store.Tx
	plan plan
	past []provisioning.RangeEvent
	at   time.Time
}

// errRefused ends a transaction in which the Store refused what it had to refuse.
var errRefused = errors.New("refused as expected")

// testRangeModel plays random plans against the naive one, several steps in a transaction. A refusal gives up the whole transaction, on
// both sides.
func testRangeModel(t *testing.T, open func(*testing.T) store.Store) {
	s := open(t)
	// The history cannot be emptied and goes on from run to run.
	var past []provisioning.RangeEvent
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
			p := player{T: rt, plan: committed, past: past, at: at}
			switch err := s.Update(t.Context(), func(tx store.Tx) error {
				p.tx, p.plan, p.past = tx, slices.Clone(committed), slices.Clip(past)
				return p.play()
			}); {
			case err == nil:
				committed, past = p.plan, p.past
			case !errors.Is(err, errRefused):
				rt.Fatal(err)
			}
			got := listRanges(t, s)
			if !slices.Equal(committed.sorted(), got) {
				rt.Fatalf("the plan is %v, want %v", got, committed.sorted())
			}
			plan(got).sound(rt)
		}
	})
}

// play takes a few steps.
func (p *player) play() error {
	for range rapid.IntRange(1, 8).Draw(p.T, "steps") {
		step := rapid.SampledFrom([]func(*player) error{
			(*player).create, (*player).create, (*player).create, (*player).create, (*player).create, (*player).remove, (*player).remove,
			(*player).quarantine, (*player).end, (*player).describe, (*player).sweep, (*player).ended, (*player).overlapping,
			(*player).record, (*player).history,
		}).Draw(p.T, "step")
		if err := step(p); err != nil {
			return err
		}
	}
	return nil
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
	r := anyRange().Draw(p.T, "range")
	r.Created = p.at
	got, err := p.tx.Ranges().Create(r)
	if err := p.expected(err, p.plan.verdicts(r), "%s %v", r.Kind, r.Prefix); err != nil {
		return err
	}
	r.ID = got.ID
	p.plan = append(p.plan, r)
	return nil
}

// pick returns a range of the plan, or one that is not there.
func (p *player) pick() *provisioning.Range {
	if len(p.plan) == 0 {
		return &provisioning.Range{ID: 1 << 40}
	}
	return &p.plan[rapid.IntRange(0, len(p.plan)-1).Draw(p.T, "which")]
}

func (p *player) remove() error {
	r := *p.pick()
	var want []error
	switch {
	case r.Kind == "":
		want = append(want, store.ErrNotFound)
	case p.plan.inUse(r):
		want = append(want, store.ErrInUse)
	}
	err := p.expected(p.tx.Ranges().Remove(r.ID), want, "remove %s %v", r.Kind, r.Prefix)
	if err == nil {
		p.plan = slices.DeleteFunc(p.plan, func(o provisioning.Range) bool { return o.ID == r.ID })
	}
	return err
}

// later is a time in the next hours.
func (p *player) later() time.Time {
	return p.at.Add(time.Duration(rapid.IntRange(1, 4).Draw(p.T, "hours")) * time.Hour)
}

// must is what is wanted of something that can be done to certain ranges only.
func must(can bool) []error {
	if can {
		return nil
	}
	return []error{store.ErrNotFound}
}

func (p *player) quarantine() error {
	r, until := p.pick(), p.later()
	err := p.expected(p.tx.Ranges().Quarantine(r.ID, until), must(r.Kind == allocation || r.Kind == reserved), "quarantine %v", *r)
	if err == nil {
		r.Owner, r.Label, r.Until = "", "", until
	}
	return err
}

func (p *player) end() error {
	r, until := p.pick(), p.later()
	if rapid.Bool().Draw(p.T, "for good") {
		until = time.Time{}
	}
	err := p.expected(p.tx.Ranges().End(r.ID, until), must(r.Kind == allocation && r.Owner != ""), "end %v", *r)
	if err == nil {
		r.Until = until
	}
	return err
}

func (p *player) describe() error {
	r, label := p.pick(), rapid.SampledFrom([]string{"", "north", "south"}).Draw(p.T, "label")
	if r.Kind == foreign || r.Kind == lan || r.Kind == reported {
		label = ""
	}
	want := must(r.Kind != "")
	if p.plan.labeled(label, r.ID) {
		want = append(want, store.ErrExists)
	}
	err := p.expected(p.tx.Ranges().Describe(r.ID, label, "described"), want, "describe %v as %q", *r, label)
	if err == nil {
		r.Label, r.Note = label, "described"
	}
	return err
}

func (p *player) sweep() error {
	gone := func(r provisioning.Range) bool { return r.Owner == "" && over(r, p.at) }
	want := p.plan.where(gone)
	p.plan = slices.DeleteFunc(p.plan, gone)
	got, err := p.tx.Ranges().Sweep(p.at)
	if !slices.Equal(want, got) {
		p.Fatalf("Sweep = %v, %v, want %v", got, err, want)
	}
	return err
}

func (p *player) ended() error {
	want := p.plan.where(func(r provisioning.Range) bool { return r.Owner != "" && over(r, p.at) })
	got, err := p.tx.Ranges().Ended(p.at)
	if !slices.Equal(want, got) {
		p.Fatalf("Ended = %v, %v, want %v", got, err, want)
	}
	return err
}

func (p *player) overlapping() error {
	q := anyPrefix().Draw(p.T, "prefix")
	want := p.plan.where(func(r provisioning.Range) bool { return r.Prefix.Overlaps(q) })
	got, err := p.tx.Ranges().Overlapping(q)
	if !slices.Equal(want, got) {
		p.Fatalf("Overlapping(%v) = %v, %v, want %v", q, got, err, want)
	}
	return err
}

func (p *player) record() error {
	r := anyRange().Draw(p.T, "range")
	e, err := p.tx.History().Append(provisioning.RangeEvent{At: p.at, Actor: "anna", Action: provisioning.RangeGrown, Range: r, OwnerName: "x"})
	if e.Seq != uint64(len(p.past)+1) {
		p.Fatalf("Append gave number %d after %d: %v", e.Seq, len(p.past), err)
	}
	p.past = append(p.past, e)
	return err
}

func (p *player) history() error {
	q, limit := anyPrefix().Draw(p.T, "prefix"), rapid.IntRange(0, 20).Draw(p.T, "limit")
	want := slices.DeleteFunc(slices.Clone(p.past), func(e provisioning.RangeEvent) bool { return !e.Range.Prefix.Overlaps(q) })
	want = want[max(0, len(want)-limit):]
	got, err := p.tx.History().Overlapping(q, limit)
	if !slices.Equal(want, got) {
		p.Fatalf("the history of %v, %d = %v, %v, want %v", q, limit, got, err, want)
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
