package filter

import (
	"net/netip"
	"slices"
)

// span is a range of addresses of one family, both ends included.
type span struct{ first, last netip.Addr }

// spans returns the addresses of one family that are in any of the prefixes and in none of without, as few ranges in order.
func spans(prefixes, without []netip.Prefix, v4 bool) []span {
	return subtract(merge(prefixes, v4), merge(without, v4))
}

// merge joins what overlaps or touches.
func merge(prefixes []netip.Prefix, v4 bool) (out []span) {
	var all []span
	for _, p := range prefixes {
		if p.Addr().Is4() == v4 {
			all = append(all, span{p.Addr(), last(p)})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return a.first.Compare(b.first) })
	for _, s := range all {
		n := len(out)
		if n > 0 && (out[n-1].last.Compare(s.first) >= 0 || out[n-1].last.Next() == s.first) {
			if s.last.Compare(out[n-1].last) > 0 {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// subtract takes away b from a; both are in order and without overlap.
func subtract(a, b []span) (out []span) {
	for _, s := range a {
		whole := true
		for _, cut := range b {
			if cut.last.Compare(s.first) < 0 || cut.first.Compare(s.last) > 0 {
				continue
			}
			if cut.first.Compare(s.first) > 0 {
				out = append(out, span{s.first, cut.first.Prev()})
			}
			if cut.last.Compare(s.last) >= 0 {
				whole = false
				break
			}
			s.first = cut.last.Next()
		}
		if whole {
			out = append(out, s)
		}
	}
	return out
}

// last is the highest address of p.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// String is how nft(8) prints it: an address, a prefix if it is one, or a range.
func (s span) String() string {
	if s.first == s.last {
		return s.first.String()
	}
	for bits := range s.first.BitLen() {
		if p := netip.PrefixFrom(s.first, bits); p == p.Masked() && last(p) == s.last {
			return p.String()
		}
	}
	return s.first.String() + "-" + s.last.String()
}
