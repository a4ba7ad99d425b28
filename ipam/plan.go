package ipam

import (
	"fmt"
	"iter"
	"net/netip"
)

// Plan is the index of a whole address plan: a tree of pools, and what is taken in them. It is not safe for concurrent change.
//
// Each pool has a Space in which everything taken and every narrower pool is taken, so finding and taking cost what they cost in one Space,
// for each pool that the prefix meets. A pool costs as much as there are pools, plus what it holds.
type Plan struct {
	// taken has everything taken, in a pool or not; one tree for each family.
	taken4, taken6 *node
	pools          *Set
	spaces         map[netip.Prefix]*Space
}

// PoolNode is a pool and where it stands in the tree.
type PoolNode struct {
	// Parent is the next wider pool around Prefix, the zero Prefix for none.
	Prefix, Parent netip.Prefix
	// Depth is how many pools are around Prefix.
	Depth int
}

// NewPlan makes a Plan without pools.
func NewPlan() *Plan {
	return &Plan{taken4: &node{}, taken6: &node{}, pools: NewSet(), spaces: map[netip.Prefix]*Space{}}
}

// AddPool adds a pool, which may lie in others or around them, and in or around what is taken. The error is ErrMalformed, or an
// *OverlapError when an equal pool is there.
func (p *Plan) AddPool(q netip.Prefix) error {
	s, err := NewSpace(q)
	if err != nil {
		return err
	}
	if p.spaces[q] != nil {
		return &OverlapError{Prefix: q, With: q}
	}
	for t := range p.overlapping(q) {
		for range t.count {
			if err := s.Take(t.prefix(s.family)); err != nil {
				return err
			}
		}
	}
	for o := range p.pools.Overlapping(q) {
		inner, outer := o, s
		if holds(o, q) {
			inner, outer = q, p.spaces[o]
		}
		if err := outer.Take(inner); err != nil {
			return err
		}
	}
	p.spaces[q] = s
	p.pools = NewSet(append(p.pools.members, q)...)
	return nil
}

// RemovePool removes a pool; what is taken in it stays so. The error is a *NotTakenError when it is not there.
func (p *Plan) RemovePool(q netip.Prefix) error {
	if p.spaces[q] == nil {
		return &NotTakenError{Prefix: q}
	}
	delete(p.spaces, q)
	rest := make([]netip.Prefix, 0, len(p.spaces))
	for _, o := range p.pools.members {
		if o == q {
			continue
		}
		rest = append(rest, o)
		if holds(o, q) {
			if err := p.spaces[o].Release(q); err != nil {
				return err
			}
		}
	}
	p.pools = NewSet(rest...)
	return nil
}

// Take marks q as taken in every pool it meets, those that are added later included. As with a Space, each Take needs its Release.
func (p *Plan) Take(q netip.Prefix) error {
	if err := check(q); err != nil {
		return err
	}
	p.taken(q).insert(blockOf(q))
	for pool := range p.pools.Overlapping(q) {
		if err := p.spaces[pool].Take(q); err != nil {
			return err
		}
	}
	return nil
}

// Release undoes one Take of q. The error is a *NotTakenError when there was none.
func (p *Plan) Release(q netip.Prefix) error {
	if err := check(q); err != nil {
		return err
	}
	if p.count(q) == 0 {
		return &NotTakenError{Prefix: q}
	}
	p.taken(q).remove(blockOf(q))
	for pool := range p.pools.Overlapping(q) {
		if err := p.spaces[pool].Release(q); err != nil {
			return err
		}
	}
	return nil
}

// Pools yields the pools by family and prefix, a pool before those in it.
func (p *Plan) Pools() iter.Seq[PoolNode] {
	return func(yield func(PoolNode) bool) {
		depth := make([]int, p.pools.Len())
		for i, q := range p.pools.members {
			n := PoolNode{Prefix: q}
			if up := p.pools.parent[i]; up >= 0 {
				depth[i] = depth[up] + 1
				n.Parent, n.Depth = p.pools.members[up], depth[i]
			}
			if !yield(n) {
				return
			}
		}
	}
}

// PoolOf returns the narrowest pool that holds q, and whether there is one.
func (p *Plan) PoolOf(q netip.Prefix) (netip.Prefix, bool) {
	for pool := range p.pools.Overlapping(q) {
		if holds(pool, q.Masked()) {
			return pool, true
		}
		break // what holds q comes first
	}
	return netip.Prefix{}, false
}

// Space returns the index of one pool, in which narrower pools are taken, and whether there is such a pool. It is for reading only.
func (p *Plan) Space(pool netip.Prefix) (*Space, bool) {
	s, ok := p.spaces[pool]
	return s, ok
}

// taken is the root of the tree of q's family. It stands for all addresses, so it stays where it is.
func (p *Plan) taken(q netip.Prefix) *node {
	if FamilyOf(q) == IPv4 {
		return p.taken4
	}
	return p.taken6
}

// count is how often q was taken.
func (p *Plan) count(q netip.Prefix) int {
	if n := p.taken(q).find(blockOf(q)); n != nil {
		return n.count
	}
	return 0
}

// overlapping yields what is taken around q, the widest first, and then what is taken in q by address.
func (p *Plan) overlapping(q netip.Prefix) iter.Seq[*node] {
	return func(yield func(*node) bool) {
		b := blockOf(q)
		n := p.taken(q)
		for n != nil && n.bits < b.bits && common(n.block, b) == n.bits {
			if n.count > 0 && !yield(n) {
				return
			}
			n = n.child[b.bit(n.bits)]
		}
		if n != nil && common(n.block, b) == b.bits {
			n.each(yield)
		}
	}
}

// unknownPool says that a pool is none.
func unknownPool(q netip.Prefix) error {
	return fmt.Errorf("%w: %v is no pool of the plan", ErrMalformed, q)
}
