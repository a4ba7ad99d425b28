package ipam

import (
	"iter"
	"math"
	"math/bits"
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

// Strip is a picture of the pool: it is cut into equal parts from the lowest address on, each with the fraction of it that is taken, from
// 0 to 1. The number of parts is rounded down to a power of two and to the addresses that the pool has; it is at least 1. Strip walks the
// whole index.
func (s *Space) Strip(parts int) []float64 {
	deep := min(bits.Len(uint(max(1, parts)))-1, s.family.Width()-s.pool.Bits())
	length := s.pool.Bits() + deep
	free := make([]float64, 1<<deep)
	s.root.walk(func(b block) bool {
		first := 0
		for i := s.pool.Bits(); i < length; i++ {
			first = first<<1 | b.bit(i)
		}
		// A block is in one part, or covers some.
		for i := range 1 << max(0, length-b.bits) {
			free[first+i] += math.Ldexp(1, min(0, length-b.bits))
		}
		return true
	})
	for i, f := range free {
		free[i] = max(0, 1-f)
	}
	return free
}

// Fits is how many prefixes of the given length have room beside each other, math.MaxUint64 if there are more than that. It walks the
// whole index.
func (s *Space) Fits(length int) uint64 {
	if length > s.family.Width() {
		return 0
	}
	var n uint64
	s.root.walk(func(b block) bool {
		if b.bits > length {
			return true
		}
		var more uint64 = math.MaxUint64
		if length-b.bits < 64 {
			more = 1 << (length - b.bits)
		}
		var over uint64
		if n, over = bits.Add64(n, more, 0); over > 0 {
			n = math.MaxUint64
		}
		return n < math.MaxUint64
	})
	return n
}
