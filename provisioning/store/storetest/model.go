package storetest

import (
	"slices"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// plan is the naive address plan: a list, compared pair by pair.
type plan []provisioning.Range

// clash says whether two ranges may not both be there, whichever comes second.
func clash(a, b provisioning.Range) bool {
	if !a.Prefix.Overlaps(b.Prefix) {
		return false
	}
	either := func(x, y provisioning.RangeKind) bool {
		return a.Kind == x && b.Kind == y || a.Kind == y && b.Kind == x
	}
	holds := func(outer, inner provisioning.Range) bool {
		return outer.Kind == allocation && inner.Kind == pool && outer.Prefix.Bits() < inner.Prefix.Bits()
	}
	switch {
	case either(pool, pool):
		return a.Prefix == b.Prefix
	case either(allocation, pool):
		return holds(a, b) || holds(b, a)
	}
	return either(allocation, allocation) || either(allocation, reserved) || either(reserved, reserved) ||
		either(allocation, foreign) || either(allocation, lan) || either(allocation, reported) || either(pool, lan) || either(pool, reported)
}

// twins says whether b tells the fact that a tells.
func twins(a, b provisioning.Range) bool {
	return (a.Kind == lan || a.Kind == reported) && (b.Kind == lan || b.Kind == reported) &&
		a.Prefix == b.Prefix && a.Owner == b.Owner && a.Purpose == b.Purpose
}

// inPool says whether a pool of p but the one given holds r.
func (p plan) inPool(r provisioning.Range, but int64) bool {
	return slices.ContainsFunc(p, func(o provisioning.Range) bool {
		return o.Kind == pool && o.ID != but && o.Prefix.Overlaps(r.Prefix) && o.Prefix.Bits() <= r.Prefix.Bits()
	})
}

// labeled says whether another range than the one given has a label.
func (p plan) labeled(label string, but int64) bool {
	return label != "" && slices.ContainsFunc(p, func(o provisioning.Range) bool { return o.Label == label && o.ID != but })
}

// verdicts are the errors with which r may be refused; none means that it must be taken.
func (p plan) verdicts(r provisioning.Range) []error {
	var out []error
	if slices.ContainsFunc(p, func(o provisioning.Range) bool { return clash(o, r) }) {
		out = append(out, store.ErrOverlap)
	}
	if r.Kind == allocation && !p.inPool(r, 0) {
		out = append(out, store.ErrOutside)
	}
	if p.labeled(r.Label, 0) || slices.ContainsFunc(p, func(o provisioning.Range) bool { return twins(o, r) }) {
		out = append(out, store.ErrExists)
	}
	return out
}

// inUse says whether r is a pool without which an allocation would lie in none.
func (p plan) inUse(r provisioning.Range) bool {
	return r.Kind == pool && slices.ContainsFunc(p, func(o provisioning.Range) bool {
		return o.Kind == allocation && o.Prefix.Overlaps(r.Prefix) && !p.inPool(o, r.ID)
	})
}

// sound fails the test for every rule that p breaks.
func (p plan) sound(t interface{ Errorf(string, ...any) }) {
	for i, a := range p {
		for _, b := range p[:i] {
			switch {
			case clash(a, b):
				t.Errorf("%s %v overlaps %s %v", a.Kind, a.Prefix, b.Kind, b.Prefix)
			case twins(a, b):
				t.Errorf("%s %v of %s is there twice", a.Kind, a.Prefix, a.Owner)
			case a.Label != "" && a.Label == b.Label:
				t.Errorf("%v and %v have the label %q", a.Prefix, b.Prefix, a.Label)
			}
		}
		if a.Kind == allocation && !p.inPool(a, 0) {
			t.Errorf("%v lies in no pool", a.Prefix)
		}
		if err := a.Validate(); err != nil {
			t.Errorf("%s %v: %v", a.Kind, a.Prefix, err)
		}
	}
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

// where returns the ranges that a test holds for, in the order of Ranges.List.
func (p plan) where(test func(provisioning.Range) bool) plan {
	return slices.DeleteFunc(p.sorted(), func(r provisioning.Range) bool { return !test(r) })
}

// over says whether r has an end, which is at or before the given time.
func over(r provisioning.Range, at time.Time) bool { return !r.Until.IsZero() && !r.Until.After(at) }
