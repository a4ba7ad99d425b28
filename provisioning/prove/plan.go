package prove

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/ipam/plandoc"
)

// plan is the address plan with indexes that tell of a new range in logarithmic time that it is in nobody's way. As soon as one might be,
// the whole plan is checked by plandoc.Check, until it is clean again.
type plan struct {
	entries map[plandoc.Entry]entryState
	twins   map[twin]int
	labels  map[string]int
	// Each has one space for each half of each family, because a Space cannot hold all of a family.
	allocations, reserved, outside []*ipam.Space
	pools                          []netip.Prefix // sorted, with repetitions
	poolSet                        *ipam.Set
	doubtful                       bool
	digest                         *bag
	byKind                         map[plandoc.Kind]int
}

type entryState struct{ count, line int }

// twin is what a plan has once.
type twin struct {
	kind            plandoc.Kind
	prefix          netip.Prefix
	owner, reported string
}

func twinOf(e plandoc.Entry) twin {
	t := twin{kind: e.Kind, prefix: e.Prefix, owner: e.Owner}
	if e.Kind == plandoc.Reported {
		t.reported = e.Purpose
	}
	return t
}

func newPlan() (*plan, error) {
	p := &plan{
		entries: map[plandoc.Entry]entryState{}, twins: map[twin]int{}, labels: map[string]int{}, byKind: map[plandoc.Kind]int{},
		poolSet: ipam.NewSet(), digest: newBag(),
	}
	for _, spaces := range []*[]*ipam.Space{&p.allocations, &p.reserved, &p.outside} {
		for _, first := range []netip.Addr{netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{128}), netip.IPv6Unspecified(), netip.AddrFrom16([16]byte{128})} {
			s, err := ipam.NewSpace(netip.PrefixFrom(first, 1))
			if err != nil {
				return nil, fmt.Errorf("index the plan: %w", err)
			}
			*spaces = append(*spaces, s)
		}
	}
	return p, nil
}

// key is e without what differs between two readings of one plan.
func key(e plandoc.Entry) plandoc.Entry {
	e.Line = 0
	if e.Until.IsZero() {
		e.Until = time.Time{}
	}
	e.Until = e.Until.Round(0).UTC()
	return e
}

// valid reports whether e can be in an index.
func valid(e plandoc.Entry) bool { return e.Validate() == nil }

func entryLeaf(e plandoc.Entry) (hash, error) {
	return leaf("range", []string{
		string(e.Kind), e.Prefix.String(), e.Owner, e.Purpose, e.Label, e.Note, e.Until.Format(time.RFC3339Nano), e.Maps.String(),
	})
}

func (p *plan) spaces(k plandoc.Kind) []*ipam.Space {
	switch k {
	case plandoc.Allocation:
		return p.allocations
	case plandoc.Reserved:
		return p.reserved
	case plandoc.Foreign, plandoc.LAN, plandoc.Reported:
		return p.outside
	default:
		return nil
	}
}

// add and remove return the key of e.
func (p *plan) add(e plandoc.Entry) (plandoc.Entry, error) {
	k := key(e)
	h, err := entryLeaf(k)
	if err != nil {
		return k, err
	}
	p.digest.add(h)
	p.byKind[k.Kind]++
	s := p.entries[k]
	if s.count++; s.count == 1 || e.Line > 0 && e.Line < s.line {
		s.line = e.Line
	}
	p.entries[k] = s
	t := twinOf(k)
	p.twins[t]++
	if k.Label != "" {
		p.labels[k.Label]++
	}
	p.doubtful = p.doubtful || p.twins[t] > 1 && k.Kind != plandoc.Foreign || p.labels[k.Label] > 1 || p.suspicious(k)
	if !valid(k) {
		return k, nil
	}
	for _, space := range p.spaces(k.Kind) {
		if err := space.Take(k.Prefix); err != nil {
			return k, fmt.Errorf("index the plan: %w", err)
		}
	}
	if k.Kind == plandoc.Pool {
		i, _ := slices.BinarySearchFunc(p.pools, k.Prefix, netip.Prefix.Compare)
		p.pools = slices.Insert(p.pools, i, k.Prefix)
		p.poolSet = ipam.NewSet(p.pools...)
	}
	return k, nil
}

func (p *plan) remove(e plandoc.Entry) (plandoc.Entry, error) {
	k := key(e)
	s, ok := p.entries[k]
	if !ok {
		return k, fmt.Errorf("%w: %v is not in the plan", ErrUnknown, e)
	}
	h, err := entryLeaf(k)
	if err != nil {
		return k, err
	}
	p.digest.remove(h)
	p.byKind[k.Kind]--
	if s.count--; s.count == 0 {
		delete(p.entries, k)
	} else {
		p.entries[k] = s
	}
	less(p.twins, twinOf(k))
	if k.Label != "" {
		less(p.labels, k.Label)
	}
	if !valid(k) {
		return k, nil
	}
	for _, space := range p.spaces(k.Kind) {
		if err := space.Release(k.Prefix); err != nil {
			return k, fmt.Errorf("index the plan: %w", err)
		}
	}
	if k.Kind == plandoc.Pool {
		// What lay in it may now lie in none.
		p.doubtful = true
		if i, ok := slices.BinarySearchFunc(p.pools, k.Prefix, netip.Prefix.Compare); ok {
			p.pools = slices.Delete(p.pools, i, i+1)
		}
		p.poolSet = ipam.NewSet(p.pools...)
	}
	return k, nil
}

// less counts one down, and forgets what is none.
func less[K comparable](n map[K]int, k K) {
	if n[k]--; n[k] == 0 {
		delete(n, k)
	}
}

// suspicious reports whether e, which is not in the indexes yet, may be in conflict with what is, or be wrong in itself.
func (p *plan) suspicious(e plandoc.Entry) bool {
	if !valid(e) || len(e.Faults()) > 0 {
		return true
	}
	meets := func(spaces []*ipam.Space) bool {
		return slices.ContainsFunc(spaces, func(s *ipam.Space) bool {
			_, hit := s.Meets(e.Prefix)
			return hit
		})
	}
	switch e.Kind {
	case plandoc.Allocation:
		return meets(p.allocations) || meets(p.reserved) || meets(p.outside) || !p.housed(e.Prefix)
	case plandoc.Reserved:
		return meets(p.allocations) || meets(p.reserved)
	case plandoc.Foreign:
		return meets(p.allocations)
	case plandoc.LAN, plandoc.Reported:
		return meets(p.allocations) || p.poolSet.Overlaps(e.Prefix)
	default:
		return true
	}
}

// housed reports whether a lies in a pool and holds none narrower than itself.
func (p *plan) housed(a netip.Prefix) bool {
	in := false
	for pool := range p.poolSet.Overlapping(a) {
		if pool.Bits() > a.Bits() {
			return false
		}
		in = true
	}
	return in
}

// check returns all that is wrong.
func (p *plan) check() []CounterExample {
	if !p.doubtful {
		return nil
	}
	var d plandoc.Document
	for e, s := range p.entries {
		e.Line = s.line
		for range s.count {
			d.Entries = append(d.Entries, e)
		}
	}
	var out []CounterExample
	for _, q := range plandoc.Check(d.Sorted(), plandoc.Document{}) {
		out = append(out, CounterExample{Statement: Disjoint, Line: q.Line, Text: q.Text})
	}
	p.doubtful = len(out) > 0
	return out
}

func (p *plan) inPool(a netip.Addr) bool { return a.IsValid() && p.poolSet.Overlaps(host(a)) }

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a.WithZone(""), a.BitLen()) }

// hosts returns the prefixes of addresses, of none for one that is not valid.
func hosts(addresses ...netip.Addr) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(addresses))
	for _, a := range addresses {
		if a.IsValid() {
			out = append(out, host(a))
		}
	}
	return out
}
