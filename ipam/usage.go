package ipam

import (
	"iter"
	"math"
	"net/netip"
)

// Free yields the maximal free blocks by address. The Space must not change meanwhile.
func (s *Space) Free() iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		s.root.walk(func(b block) bool { return yield(b.prefix(s.family)) })
	}
}

// Usage is how full a pool is.
type Usage struct {
	// Taken is the fraction of the addresses that is taken, from 0 to 1.
	Taken float64
	// Blocks is the number of maximal free blocks.
	Blocks int
	// Largest is the first of the largest free blocks, the zero Prefix when nothing is free.
	Largest netip.Prefix
	// Fragmentation is the fraction of the free addresses outside Largest, from 0 (all in one block) to almost 1.
	Fragmentation float64
}

// Usage walks the whole index.
func (s *Space) Usage() Usage {
	var u Usage
	var free float64
	for p := range s.Free() {
		u.Blocks++
		free += math.Ldexp(1, s.pool.Bits()-p.Bits())
		if !u.Largest.IsValid() || p.Bits() < u.Largest.Bits() {
			u.Largest = p
		}
	}
	// The sum is exact unless blocks differ in size by more than the 53 bits of a float; then it may be a hair above 1.
	u.Taken = max(0, 1-free)
	if u.Largest.IsValid() {
		u.Fragmentation = max(0, 1-math.Ldexp(1, s.pool.Bits()-u.Largest.Bits())/free)
	}
	return u
}
