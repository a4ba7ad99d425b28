package plandoc

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/towpath/towpath/ipam"
)

// maxRangeText is above two IPv6 addresses of the longest form and what stands between them.
const maxRangeText = 128

// ParseRange reads a range as spreadsheets have it: "10.1.0.0/16", "10.1.0.0 255.255.0.0" or with a slash between them, and
// "10.1.0.0-10.1.2.255", which is as many prefixes as it takes, in order. Errors wrap ipam.ErrMalformed and say what to write instead.
func ParseRange(s string) ([]netip.Prefix, error) {
	if len(s) > maxRangeText {
		return nil, fmt.Errorf("%w: it is longer than %d characters", ipam.ErrMalformed, maxRangeText)
	}
	s = strings.TrimSpace(s)
	if from, to, ok := cutRange(s); ok {
		return parseSpan(from, to)
	}
	network, length, ok := strings.Cut(s, "/")
	if !ok {
		network, length, ok = strings.Cut(strings.Join(strings.Fields(s), " "), " ")
	}
	network, length = strings.TrimSpace(network), strings.TrimSpace(length)
	if ok && strings.Contains(length, ".") {
		n, err := maskLength(length)
		if err != nil {
			return nil, err
		}
		length = fmt.Sprint(n)
	}
	if !ok {
		p, err := ipam.ParsePrefix(s)
		return []netip.Prefix{p}, err
	}
	p, err := ipam.ParsePrefix(network + "/" + length)
	if err != nil {
		return nil, err
	}
	return []netip.Prefix{p}, nil
}

// cutRange splits "a-b". Spreadsheets make a dash of the hyphen.
func cutRange(s string) (from, to string, ok bool) {
	i := strings.IndexAny(s, "-–—")
	if i < 0 {
		return "", "", false
	}
	return strings.TrimSpace(s[:i]), strings.TrimSpace(strings.TrimLeft(s[i:], "-–—")), true
}

func maskLength(s string) (int, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, fmt.Errorf("%w: %q is not a mask such as 255.255.255.0", ipam.ErrMalformed, clip(s))
	}
	b := a.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n := bits.LeadingZeros32(^v)
	if n < 32 && v<<n != 0 {
		return 0, fmt.Errorf("%w: the mask %s has ones behind zeros", ipam.ErrMalformed, s)
	}
	return n, nil
}

func parseSpan(from, to string) ([]netip.Prefix, error) {
	lo, err := parseAddr(from)
	if err != nil {
		return nil, err
	}
	hi, err := parseAddr(to)
	if err != nil {
		return nil, err
	}
	switch {
	case lo.Is4() != hi.Is4():
		return nil, fmt.Errorf("%w: %v and %v are of different families", ipam.ErrMalformed, lo, hi)
	case hi.Less(lo):
		return nil, fmt.Errorf("%w: %v is behind %v, write the lower address first", ipam.ErrMalformed, lo, hi)
	}
	return span(lo, hi), nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%w: %q is not an address, write a range as first-last or as a prefix", ipam.ErrMalformed, clip(s))
	}
	return a, nil
}

// span splits lo to hi into the fewest prefixes: each time the largest that starts at lo and ends no later than hi.
func span(lo, hi netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for {
		best := netip.PrefixFrom(lo, lo.BitLen())
		for n := lo.BitLen() - 1; n >= 0; n-- {
			p := netip.PrefixFrom(lo, n)
			if p.Masked().Addr() != lo || hi.Less(last(p)) {
				break
			}
			best = p
		}
		out = append(out, best)
		end := last(best)
		if end == hi {
			return out
		}
		lo = end.Next()
	}
}

// last returns the highest address of a masked prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
