package ipam

import (
	"fmt"
	"net/netip"
)

// Space is what is free in one pool. It is a binary tree over the bits of the addresses in which chains without a branch are one edge,
// so it holds at most two nodes for each prefix taken, and every operation but listing visits at most one node per bit of the address:
// for n prefixes about log₂ n of them.
//
// Prefixes may be taken more than once and inside each other, as the networks of others are; each Take needs its own Release.
type Space struct {
	pool   netip.Prefix
	family Family
	// root is the pool itself and stays, whether it is taken or not.
	root *node
}

// node stands for a block that is taken (count > 0) or in which two things branch. Every node but the root has count > 0 or two children.
type node struct {
	block
	// count is how often exactly this block was taken.
	count int
	child [2]*node
	// free holds the lengths of the maximal free blocks inside; it is empty when the block is taken.
	free lengths
}

// NewSpace makes the index of a pool, of length 1 or more, in which the given prefixes are taken, see Take.
func NewSpace(pool netip.Prefix, taken ...netip.Prefix) (*Space, error) {
	if err := check(pool); err != nil {
		return nil, err
	}
	if pool.Bits() == 0 {
		return nil, fmt.Errorf("%w: %v is the whole family and cannot be a pool", ErrMalformed, pool)
	}
	s := &Space{pool: pool, family: FamilyOf(pool), root: &node{block: blockOf(pool)}}
	s.root.sum()
	for _, p := range taken {
		if err := s.Take(p); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Pool returns the prefix that s is the index of.
func (s *Space) Pool() netip.Prefix { return s.pool }

// Take marks p as taken, whether or not it was. What lies outside the pool or belongs to the other family is none of s's business
// and changes nothing.
func (s *Space) Take(p netip.Prefix) error {
	if err := check(p); err != nil {
		return err
	}
	if b, ok := s.clip(p); ok {
		s.root = s.root.insert(b)
	}
	return nil
}

// Release undoes one Take of p. The error is a *NotTakenError when there was none.
func (s *Space) Release(p netip.Prefix) error {
	if err := check(p); err != nil {
		return err
	}
	b, ok := s.clip(p)
	if !ok {
		return nil
	}
	if n := s.root.find(b); n == nil || n.count == 0 {
		return &NotTakenError{Prefix: p}
	}
	s.root.remove(b)
	return nil
}

// Find returns where a prefix of the given length goes: into the smallest free buddy block that holds it, at the lowest address if
// there are several. It takes nothing. The error is a *FullError when there is no room.
func (s *Space) Find(bits int) (netip.Prefix, error) {
	if bits < s.pool.Bits() || bits > s.family.Width() {
		return netip.Prefix{}, fmt.Errorf("%w: a /%d does not fit into the pool %v: ask for /%d to /%d",
			ErrMalformed, bits, s.pool, s.pool.Bits(), s.family.Width())
	}
	n := s.root.free.upTo(bits)
	if n == 0 {
		e := &FullError{Pool: s.pool, Bits: bits}
		if l := s.root.free.least(); l > 0 {
			e.Largest = s.root.lowest(l).prefix(s.family)
		}
		return netip.Prefix{}, e
	}
	b := s.root.lowest(n)
	b.bits = bits
	return b.prefix(s.family), nil
}

// Allocate is Find and Take.
func (s *Space) Allocate(bits int) (netip.Prefix, error) {
	p, err := s.Find(bits)
	if err != nil {
		return p, err
	}
	return p, s.Take(p)
}

// Grow returns the prefix of the given, shorter length around p, if nothing but p itself is taken in it. It leaves s as it was, but
// counts as a change where goroutines share s. The error is an *OverlapError with what is in the way, or a *NotTakenError when p is not
// taken.
func (s *Space) Grow(p netip.Prefix, bits int) (netip.Prefix, error) {
	if err := check(p); err != nil {
		return netip.Prefix{}, err
	}
	if bits < s.pool.Bits() || bits > p.Bits() {
		return netip.Prefix{}, fmt.Errorf("%w: %v cannot grow to /%d in the pool %v: ask for /%d to /%d",
			ErrMalformed, p, bits, s.pool, s.pool.Bits(), p.Bits())
	}
	if err := s.Release(p); err != nil {
		return netip.Prefix{}, err
	}
	wide := netip.PrefixFrom(p.Addr(), bits).Masked()
	with, hit := s.Meets(wide)
	if err := s.Take(p); err != nil {
		return netip.Prefix{}, err
	}
	if hit {
		return netip.Prefix{}, &OverlapError{Prefix: wide, With: with}
	}
	return wide, nil
}

// Meets returns a taken prefix that overlaps p, clipped to the pool, and whether there is one.
func (s *Space) Meets(p netip.Prefix) (netip.Prefix, bool) {
	b, ok := s.clip(p)
	if !ok {
		return netip.Prefix{}, false
	}
	n := s.root
	for n != nil && n.count == 0 {
		c := common(n.block, b)
		if c < n.bits && c < b.bits {
			return netip.Prefix{}, false
		}
		// Below b everything counts: the leftmost leaf is as good as any.
		if c == b.bits {
			n = n.either()
			continue
		}
		n = n.child[b.bit(n.bits)]
	}
	if n == nil || common(n.block, b) < min(n.bits, b.bits) {
		return netip.Prefix{}, false
	}
	return n.prefix(s.family), true
}

// clip returns the part of p inside the pool.
func (s *Space) clip(p netip.Prefix) (block, bool) {
	if !p.IsValid() || FamilyOf(p) != s.family || !p.Overlaps(s.pool) {
		return block{}, false
	}
	if p.Bits() < s.pool.Bits() {
		p = s.pool
	}
	return blockOf(p.Masked()), true
}
