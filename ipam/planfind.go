package ipam

import (
	"errors"
	"fmt"
	"net/netip"
)

// Find returns where a prefix of the length goes: in the first of the pools that has room, see Space.Find. It takes nothing. The error is
// a *FullError about the pool with the largest free block when none has room, or ErrMalformed when no pool is given, one is unknown, or
// the length fits none of them.
func (p *Plan) Find(bits int, in ...netip.Prefix) (netip.Prefix, error) {
	if len(in) == 0 {
		return netip.Prefix{}, fmt.Errorf("%w: a /%d in no pool: name one", ErrMalformed, bits)
	}
	for _, pool := range in {
		if p.spaces[pool] == nil {
			return netip.Prefix{}, unknownPool(pool)
		}
	}
	var malformed error
	var full *FullError
	for _, pool := range in {
		q, err := p.spaces[pool].Find(bits)
		if err == nil {
			return q, nil
		}
		if e, ok := errors.AsType[*FullError](err); !ok {
			malformed = err
		} else if full == nil || larger(e.Largest, full.Largest) {
			full = e
		}
	}
	if full == nil {
		return netip.Prefix{}, malformed
	}
	return netip.Prefix{}, full
}

// larger reports whether a has more addresses than b; the zero Prefix has none.
func larger(a, b netip.Prefix) bool {
	if !a.IsValid() || !b.IsValid() {
		return a.IsValid() && !b.IsValid()
	}
	return FamilyOf(a).Width()-a.Bits() > FamilyOf(b).Width()-b.Bits()
}

// FindBeside returns where a prefix of the length goes that is for the owner of q: at the start of the free sibling of q, or else of the
// block around q and so on, so that q can grow into it; or else as Find in q's narrowest pool. It takes nothing. The error is that of
// Find, or ErrMalformed when q lies in no pool.
func (p *Plan) FindBeside(q netip.Prefix, bits int) (netip.Prefix, error) {
	pool, err := p.home(q)
	if err != nil {
		return netip.Prefix{}, err
	}
	s, b := p.spaces[pool], blockOf(q)
	for n := min(q.Bits(), bits); n > pool.Bits() && bits <= s.family.Width(); n-- {
		free := b.sibling(n)
		if _, hit := s.Meets(free.prefix(s.family)); !hit {
			free.bits = bits
			return free.prefix(s.family), nil
		}
	}
	return p.Find(bits, pool)
}

// Grow returns the prefix of the given, shorter length around q if nothing but q and the prefixes own is taken in it, and if it stays in
// q's narrowest pool and holds no narrower one. Each of own must be taken, q may be among them, and what of them lies elsewhere does not
// matter; that all belong to the owner of q is the caller's to know. The Plan stays as it was. The error is an *OverlapError with what is
// in the way, a *NotTakenError when q or one of own is not taken, or ErrMalformed.
func (p *Plan) Grow(q netip.Prefix, bits int, own ...netip.Prefix) (netip.Prefix, error) {
	pool, err := p.home(q)
	if err != nil {
		return netip.Prefix{}, err
	}
	if bits < pool.Bits() || bits > q.Bits() {
		return netip.Prefix{}, fmt.Errorf("%w: %v cannot grow to /%d in the pool %v: ask for /%d to /%d",
			ErrMalformed, q, bits, pool, pool.Bits(), q.Bits())
	}
	may := map[netip.Prefix]int{}
	for _, o := range own {
		if err := check(o); err != nil {
			return netip.Prefix{}, err
		}
		may[o]++
	}
	may[q] = max(1, may[q])
	for o := range may {
		if p.count(o) == 0 {
			return netip.Prefix{}, &NotTakenError{Prefix: o}
		}
	}
	wide := netip.PrefixFrom(q.Addr(), bits).Masked()
	for inner := range p.pools.Overlapping(wide) {
		if inner.Bits() > pool.Bits() {
			return netip.Prefix{}, &OverlapError{Prefix: wide, With: inner}
		}
	}
	for t := range p.overlapping(wide) {
		if with := t.prefix(FamilyOf(q)); t.count > may[with] {
			return netip.Prefix{}, &OverlapError{Prefix: wide, With: with}
		}
	}
	return wide, nil
}

// home is PoolOf for what must lie in a pool.
func (p *Plan) home(q netip.Prefix) (netip.Prefix, error) {
	if err := check(q); err != nil {
		return netip.Prefix{}, err
	}
	pool, ok := p.PoolOf(q)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%w: %v lies in no pool", ErrMalformed, q)
	}
	return pool, nil
}
