package plandoc

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Check finds everything in doc that is in conflict with the rest of doc or with the existing plan, in which existing alone is taken for
// sound. An entry that existing has, too (kind, prefix and owner, and purpose if it is reported), is no conflict, so a plan fits itself.
// The rules:
//
//   - no two pools are equal: they nest or are disjoint;
//   - allocations and reservations, quarantined and ending ones included, are disjoint;
//   - an allocation lies in a pool, and holds none but its own equal;
//   - allocations are disjoint from foreign, LAN and reported ranges, and pools from LAN and reported ones;
//   - of LAN and reported ranges, one prefix, owner and purpose is there once;
//   - a label is there once, and only pools, allocations and reservations have one;
//   - purposes and what is mapped are as Entry says;
//   - LAN and reported ranges have an owner, and so has an allocation without an end; pools and foreign ranges have none;
//   - only allocations, and reservations without an owner, have an end.
//
// Foreign, LAN and reported ranges may overlap each other and reservations, and foreign ones pools. The cost is that of sorting, plus that
// of each conflict.
func Check(doc, existing Document) []Problem {
	c := checker{hasPool: slices.ContainsFunc(slices.Concat(doc.Entries, existing.Entries), func(e Entry) bool { return e.Kind == Pool })}
	c.own(doc.Entries)
	c.labels(doc.Entries, existing.Entries)
	refs := make([]ref, 0, len(doc.Entries)+len(existing.Entries))
	known := make(map[identity]bool, len(doc.Entries))
	for i, e := range doc.Entries {
		if err := e.Validate(); err != nil {
			c.p.at(e.Line, "%v", err)
			continue
		}
		// What is there twice is told once, of the copy; the copy's other conflicts are those of the first.
		if id := identityOf(e); !known[id] {
			known[id] = true
			refs = append(refs, ref{Entry: &doc.Entries[i]})
		}
	}
	for i, e := range existing.Entries {
		if e.Validate() == nil && !known[identityOf(e)] {
			refs = append(refs, ref{Entry: &existing.Entries[i], existing: true})
		}
	}
	c.sweep(refs)
	if c.homeless > 0 && !c.hasPool {
		c.p.at(0, "there is no pool, so none of the %d allocations lies in one", c.homeless)
	}
	return c.p.sorted()
}

// identity is what one plan has once, but for foreign networks.
type identity struct {
	kind   Kind
	prefix netip.Prefix
	owner  string
	// reported is the purpose of a reported range.
	reported string
}

func identityOf(e Entry) identity {
	id := identity{kind: e.Kind, prefix: e.Prefix, owner: e.Owner}
	if e.Kind == Reported {
		id.reported = e.Purpose
	}
	return id
}

type ref struct {
	*Entry
	existing bool
}

// source is an index: 0 for the document, 1 for the existing plan.
func (r ref) source() int {
	if r.existing {
		return 1
	}
	return 0
}

type checker struct {
	p        problems
	hasPool  bool
	homeless int
	// open[kind][source] are the ranges that hold the one being looked at, widest first.
	open [6][2][]ref
}

// own finds what is wrong with an entry in itself or its copies.
func (c *checker) own(entries []Entry) {
	first := make(map[identity]int, len(entries))
	for i, e := range entries {
		id := identityOf(e)
		if j, twice := first[id]; twice && e.Kind == Foreign {
			continue
		} else if twice {
			a, b := inOrder(entries[j], e)
			c.p.add(Problem{Line: b.Line, With: a.Line, Text: fmt.Sprintf("%v is there twice%s", b, at(", first in line %d", a.Line))})
			continue
		}
		first[id] = i
		for _, fault := range e.Faults() {
			c.p.at(e.Line, "%s", fault)
		}
	}
}

// Faults are what is wrong with e whatever else is in the plan, and whether or not it is valid: an owner, a label or an end too many or
// missing.
func (e Entry) Faults() []string {
	var out []string
	bad := func(wrong bool, what string) {
		if wrong {
			out = append(out, fmt.Sprintf("%v %s", e, what))
		}
	}
	owned, ends := e.Owner != "", !e.Until.IsZero()
	switch e.Kind {
	case Allocation:
		bad(!owned && !ends, "is allocated to nobody: name the site, or call it reserved")
		return out
	case Reserved:
		bad(owned && ends, "cannot end: leave out the end, or the site")
		return out
	case Pool:
		bad(owned, "cannot belong to a site: leave the site out, or call the range an allocation")
	case Foreign:
		bad(owned, "cannot belong to a site: write whose it is into the comment, or call it the site's lan")
	case LAN, Reported:
		bad(!owned, "belongs to no site: name it, or call it foreign")
	}
	bad(ends, "cannot end: leave out the end")
	bad(e.Kind != Pool && e.Label != "", fmt.Sprintf("cannot have the label %q: write it into the comment", clip(e.Label)))
	return out
}

// labels finds those that two ranges have.
func (c *checker) labels(doc, existing []Entry) {
	taken := map[string]Entry{}
	for _, e := range existing {
		if e.Label != "" {
			taken[e.Label] = e
		}
	}
	first := map[string]Entry{}
	for _, e := range doc {
		if e.Label == "" {
			continue
		}
		if o, ok := taken[e.Label]; ok && identityOf(o) != identityOf(e) {
			c.p.at(e.Line, "%v has the label %q, which is that of %v in the plan", e, clip(e.Label), o)
		}
		o, twice := first[e.Label]
		switch {
		case !twice:
			first[e.Label] = e
		case identityOf(o) != identityOf(e): // else the entry itself is there twice
			a, b := inOrder(o, e)
			c.p.add(Problem{Line: b.Line, With: a.Line, Text: fmt.Sprintf("%v has the label %q, which is that of %v%s", b, clip(b.Label), a, at(" in line %d", a.Line))})
		}
	}
}

// sweep visits all ranges by address, wide before narrow, of equal ones pools first. What overlaps the one at hand and was visited before
// holds it, because prefixes either nest or are disjoint, and is still open. Stacks of one kind each are read only where every entry is a
// conflict, so the work is that of the sorting and of what is found.
func (c *checker) sweep(refs []ref) {
	slices.SortStableFunc(refs, func(a, b ref) int {
		return cmp.Or(a.Prefix.Compare(b.Prefix), cmp.Compare(rank(a.Kind), rank(b.Kind)))
	})
	for _, r := range refs {
		if c.p.more {
			return
		}
		for kind := range c.open {
			for source := range c.open[kind] {
				c.open[kind][source] = closed(c.open[kind][source], r.Prefix)
			}
		}
		for _, kind := range exclusive(r.Kind) {
			for source, open := range c.open[rank(kind)] {
				if r.existing && source == 1 {
					continue
				}
				c.meets(r, open)
			}
		}
		if r.Kind == Allocation && !r.existing && len(c.open[rank(Pool)][0])+len(c.open[rank(Pool)][1]) == 0 {
			c.homeless++
			if c.hasPool {
				c.p.at(r.Line, "%v lies in no pool", r.Entry)
			}
		}
		stack := &c.open[rank(r.Kind)][r.source()]
		*stack = append(*stack, r)
	}
}

// meets adds the conflicts of r with the ranges around it, all of one kind.
func (c *checker) meets(r ref, around []ref) {
	for i := len(around) - 1; i >= 0 && !c.p.more; i-- {
		o := around[i]
		if r.Kind == Pool && o.Kind == Pool && o.Prefix != r.Prefix {
			return
		}
		c.p.add(conflict(o, r))
	}
}

// closed drops what does not hold p.
func closed(open []ref, p netip.Prefix) []ref {
	for len(open) > 0 {
		top := open[len(open)-1].Prefix
		if top.Bits() <= p.Bits() && top.Contains(p.Addr()) {
			break
		}
		open = open[:len(open)-1]
	}
	return open
}

// exclusive are the kinds that a range may not lie in. Of pools, meets knows the exceptions.
func exclusive(k Kind) []Kind {
	switch k {
	case Pool:
		return []Kind{Pool, Allocation, LAN, Reported}
	case Allocation:
		return []Kind{Allocation, Reserved, Foreign, LAN, Reported}
	case Reserved:
		return []Kind{Allocation, Reserved}
	case Foreign:
		return []Kind{Allocation}
	case LAN, Reported:
		return []Kind{Allocation, Pool}
	}
	return nil
}

func conflict(a, b ref) Problem {
	if a.existing {
		a, b = b, a
	}
	if b.existing {
		return Problem{Line: a.Line, Text: fmt.Sprintf("%v overlaps %v in the plan", a.Entry, b.Entry)}
	}
	x, y := inOrder(*a.Entry, *b.Entry)
	return Problem{Line: y.Line, With: x.Line, Text: fmt.Sprintf("%v overlaps %v%s", y, x, at(" in line %d", x.Line))}
}

// inOrder returns the entry of the earlier line first; without lines, or in one line, in the order of the plan.
func inOrder(a, b Entry) (Entry, Entry) {
	if cmp.Or(cmp.Compare(a.Line, b.Line), a.Compare(b)) > 0 {
		return b, a
	}
	return a, b
}

// at says the line, nothing without one.
func at(format string, line int) string {
	if line == 0 {
		return ""
	}
	return fmt.Sprintf(format, line)
}
