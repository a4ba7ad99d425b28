package ipam

import (
	"iter"
	"net/netip"
	"slices"
	"sort"
)

// Set is an immutable collection of prefixes that answers what overlaps a given one. Prefixes either nest or are disjoint, so sorted by
// address and then length each stands right behind what it lies in, and a query is one binary search and a climb of at most one step for
// each length. Members may repeat and nest.
type Set struct {
	members []netip.Prefix
	// parent[i] is the index of the tightest member that holds member i, -1 for none.
	parent []int
}

// NewSet makes a Set. Prefixes that are not valid are left out, bits beyond a prefix's length are ignored.
func NewSet(prefixes ...netip.Prefix) *Set {
	s := &Set{members: make([]netip.Prefix, 0, len(prefixes))}
	for _, p := range prefixes {
		if p.IsValid() {
			s.members = append(s.members, p.Masked())
		}
	}
	slices.SortFunc(s.members, netip.Prefix.Compare)
	s.parent = make([]int, len(s.members))
	for i, p := range s.members {
		up := i - 1
		for up >= 0 && !holds(s.members[up], p) {
			up = s.parent[up]
		}
		s.parent[i] = up
	}
	return s
}

// Len is the number of members.
func (s *Set) Len() int { return len(s.members) }

// All yields the members by family, address and length.
func (s *Set) All() iter.Seq[netip.Prefix] { return slices.Values(s.members) }

// Overlaps reports whether p shares an address with a member.
func (s *Set) Overlaps(p netip.Prefix) bool {
	for range s.Overlapping(p) {
		return true
	}
	return false
}

// Overlapping yields the members that share an address with p: first those that hold p, the tightest first, then those strictly inside
// p by address.
func (s *Set) Overlapping(p netip.Prefix) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		if !p.IsValid() {
			return
		}
		p := p.Masked()
		// after is the first member behind p; equal ones are before it.
		after := sort.Search(len(s.members), func(i int) bool { return s.members[i].Compare(p) > 0 })
		for i := after - 1; i >= 0; i = s.parent[i] {
			if holds(s.members[i], p) && !yield(s.members[i]) {
				return
			}
		}
		for _, m := range s.members[after:] {
			if !holds(p, m) || !yield(m) {
				return
			}
		}
	}
}

// Collisions yields every member that overlaps one before it, together with the tightest such one. An empty sequence proves that the
// members are disjoint.
func (s *Set) Collisions() iter.Seq2[netip.Prefix, netip.Prefix] {
	return func(yield func(netip.Prefix, netip.Prefix) bool) {
		for i, up := range s.parent {
			if up >= 0 && !yield(s.members[i], s.members[up]) {
				return
			}
		}
	}
}

// holds reports whether b lies in a. Both are masked.
func holds(a, b netip.Prefix) bool { return a.Bits() <= b.Bits() && a.Contains(b.Addr()) }
