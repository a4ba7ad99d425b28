package ipam

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
)

// Family is an address family.
type Family int

// The address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of p's address.
func FamilyOf(p netip.Prefix) Family {
	if p.Addr().Is4() {
		return IPv4
	}
	return IPv6
}

// Width is the number of bits of an address, 32 or 128.
func (f Family) Width() int {
	if f == IPv4 {
		return 32
	}
	return 128
}

// PrefixFor returns the length of the smallest prefix that holds the given number of hosts. From three hosts on, IPv4 loses the first
// and the last address (network and broadcast, RFC 1122 §3.2.1.3) and IPv6 the first (subnet-router anycast, RFC 4291 §2.6.1); one and
// two hosts fit a /32 and /31 (RFC 3021) or a /128 and /127 (RFC 6164).
func PrefixFor(hosts int, f Family) (int, error) {
	if f != IPv4 && f != IPv6 {
		return 0, fmt.Errorf("%w: there is no address family %d", ErrMalformed, f)
	}
	if hosts < 1 {
		return 0, fmt.Errorf("%w: a prefix for %d hosts: give at least 1", ErrMalformed, hosts)
	}
	// need is computed unsigned, so that the largest int does not wrap.
	need := uint64(hosts)
	if hosts > 2 {
		need++
		if f == IPv4 {
			need++
		}
	}
	n := bits.Len64(need - 1)
	if n > f.Width() {
		return 0, fmt.Errorf("%w: %d hosts do not fit into IPv4", ErrMalformed, hosts)
	}
	return f.Width() - n, nil
}

// FirstHost returns the lowest host address in p that is not taken. Addresses that PrefixFor calls lost are skipped. Taken addresses
// may be unsorted, repeated and outside p. The error is a *FullError when none is left.
func FirstHost(p netip.Prefix, taken ...netip.Addr) (netip.Addr, error) {
	if err := check(p); err != nil {
		return netip.Addr{}, err
	}
	next, last := hosts(p)
	used := slices.DeleteFunc(slices.Clone(taken), func(a netip.Addr) bool { return a.Less(next) || last.Less(a) })
	slices.SortFunc(used, netip.Addr.Compare)
	for _, a := range slices.Compact(used) {
		if a != next {
			break
		}
		if next = next.Next(); a == last {
			return netip.Addr{}, &FullError{Pool: p, Bits: FamilyOf(p).Width()}
		}
	}
	return next, nil
}

// IsHost reports whether a is a host address of p: one that FirstHost returns if all others are taken.
func IsHost(p netip.Prefix, a netip.Addr) bool {
	if check(p) != nil || !p.Contains(a) {
		return false
	}
	first, last := hosts(p)
	return !a.Less(first) && !last.Less(a)
}

// hosts returns the first and the last host address of p.
func hosts(p netip.Prefix) (first, last netip.Addr) {
	first, last = p.Addr(), lastAddr(p)
	if width := FamilyOf(p).Width(); p.Bits() < width-1 {
		first = first.Next()
		if width == 32 {
			last = last.Prev()
		}
	}
	return first, last
}

// lastAddr returns the highest address of p.
func lastAddr(p netip.Prefix) netip.Addr {
	b := blockOf(p)
	hi, lo := mask(b.bits)
	b.hi, b.lo = b.hi|^hi, b.lo|^lo
	return b.prefix(FamilyOf(p)).Addr()
}
