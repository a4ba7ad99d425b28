package ipam

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
)

// block is a prefix as the index wants it: the address left-aligned in 128 bits whatever its family, so that bit 0 is the first.
type block struct {
	hi, lo uint64
	bits   int
}

// check refuses what the package does not deal with, see ErrMalformed.
func check(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return fmt.Errorf("%w: it is empty or its length does not fit its family", ErrMalformed)
	case p.Addr().Is4In6():
		return fmt.Errorf("%w: %v is IPv4 written as IPv6, write it as IPv4", ErrMalformed, p)
	case p != p.Masked():
		return fmt.Errorf("%w: %v has bits set beyond its length, the network is %v", ErrMalformed, p, p.Masked())
	}
	return nil
}

// blockOf wants a checked prefix.
func blockOf(p netip.Prefix) block {
	if p.Addr().Is4() {
		a := p.Addr().As4()
		return block{hi: uint64(binary.BigEndian.Uint32(a[:])) << 32, bits: p.Bits()}
	}
	a := p.Addr().As16()
	return block{hi: binary.BigEndian.Uint64(a[:8]), lo: binary.BigEndian.Uint64(a[8:]), bits: p.Bits()}
}

func (b block) prefix(f Family) netip.Prefix {
	if f == IPv4 {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(b.hi>>32))
		return netip.PrefixFrom(netip.AddrFrom4(a), b.bits)
	}
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], b.hi)
	binary.BigEndian.PutUint64(a[8:], b.lo)
	return netip.PrefixFrom(netip.AddrFrom16(a), b.bits)
}

// bit returns bit i of the address, 0 ≤ i < 128.
func (b block) bit(i int) int {
	if i < 64 {
		return int(b.hi >> (63 - i) & 1)
	}
	return int(b.lo >> (127 - i) & 1)
}

// truncate returns the block of length n that contains b, n ≤ b.bits.
func (b block) truncate(n int) block {
	hi, lo := mask(n)
	return block{hi: b.hi & hi, lo: b.lo & lo, bits: n}
}

// half returns the lower (0) or upper (1) half of b.
func (b block) half(side int) block {
	b.bits++
	if side == 1 {
		return b.flipped()
	}
	return b
}

// sibling returns the other half of the block of length n-1 that contains b, 1 ≤ n ≤ b.bits.
func (b block) sibling(n int) block { return b.truncate(n).flipped() }

// flipped inverts the last bit of the prefix.
func (b block) flipped() block {
	if b.bits <= 64 {
		b.hi ^= 1 << (64 - b.bits)
	} else {
		b.lo ^= 1 << (128 - b.bits)
	}
	return b
}

// common returns the length of the longest block that contains both.
func common(a, b block) int {
	n := min(a.bits, b.bits)
	if x := a.hi ^ b.hi; x != 0 {
		return min(n, bits.LeadingZeros64(x))
	}
	return min(n, 64+bits.LeadingZeros64(a.lo^b.lo))
}

func mask(n int) (hi, lo uint64) {
	if n <= 64 {
		return ^uint64(0) << (64 - n), 0
	}
	return ^uint64(0), ^uint64(0) << (128 - n)
}

// lengths is a set of prefix lengths from 1 to 128.
type lengths struct{ a, b uint64 }

func (l *lengths) has(n int) bool { return l.upTo(n) == n && n > 0 }

func (l *lengths) add(n int) { l.addRange(n, n) }

// addRange adds from … to, nothing when from > to.
func (l *lengths) addRange(from, to int) {
	if from > to {
		return
	}
	fh, fl := mask(from - 1)
	th, tl := mask(to)
	l.a |= th &^ fh
	l.b |= tl &^ fl
}

func (l *lengths) addAll(o lengths) {
	l.a |= o.a
	l.b |= o.b
}

// upTo returns the greatest member that is at most n, 0 when there is none.
func (l *lengths) upTo(n int) int {
	hi, lo := mask(n)
	if x := l.b & lo; x != 0 {
		return 128 - bits.TrailingZeros64(x)
	}
	if x := l.a & hi; x != 0 {
		return 64 - bits.TrailingZeros64(x)
	}
	return 0
}

// least returns the smallest member, 0 when there is none.
func (l *lengths) least() int {
	if l.a != 0 {
		return 1 + bits.LeadingZeros64(l.a)
	}
	if l.b != 0 {
		return 65 + bits.LeadingZeros64(l.b)
	}
	return 0
}
