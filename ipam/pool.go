package ipam

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// CheckPool says why p makes a bad pool, as an *UnsuitableError. Forced, it refuses only what cannot work at all (ErrMalformed).
//
// A good pool is private (RFC 1918), away from what home routers and container software use by default, or a random unique local /48
// (RFC 4193), see RandomULA.
func CheckPool(p netip.Prefix, forced bool) error {
	if err := check(p); err != nil {
		return err
	}
	if p.Bits() == 0 {
		return fmt.Errorf("%w: %v is the whole family and cannot be a pool", ErrMalformed, p)
	}
	if forced {
		return nil
	}
	for _, r := range refused() {
		if r.prefix.Overlaps(p) {
			return &UnsuitableError{Prefix: p, Meets: r.prefix, Reason: r.reason}
		}
	}
	if FamilyOf(p) == IPv4 {
		for _, r := range rfc1918() {
			if holds(r, p) {
				return nil
			}
		}
		return &UnsuitableError{Prefix: p, Reason: "it holds public addresses, which belong to others: choose from 10.0.0.0/8"}
	}
	if !holds(ula(), p) {
		return &UnsuitableError{Prefix: p, Reason: "it holds public addresses, which belong to others: use a random unique local /48"}
	}
	if p.Bits() < 48 {
		return &UnsuitableError{Prefix: p, Reason: "a unique local prefix is random down to /48 so that networks can be joined " +
			"later (RFC 4193 §3.2), this one holds those of others"}
	}
	return nil
}

// RandomULA returns a unique local /48 (RFC 4193 §3.1) whose 40 bits of global ID are read from random.
func RandomULA(random io.Reader) (netip.Prefix, error) {
	a := [16]byte{0xfd}
	if _, err := io.ReadFull(random, a[1:6]); err != nil {
		return netip.Prefix{}, fmt.Errorf("make a unique local prefix: %w", err)
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), 48), nil
}

// ParsePrefix reads a prefix as a person writes it in a plan: "10.64.0.0/10" or "fd12:3456:789a::/48". Space around it is ignored. A
// bare address, bits beyond the length, and IPv4 written as IPv6 are refused with what to write instead.
func ParsePrefix(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxPrefixText {
		return netip.Prefix{}, fmt.Errorf("%w: it is longer than %d characters", ErrMalformed, maxPrefixText)
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.Prefix{}, fmt.Errorf("%w: %q has no length, write %v/%d for the one address", ErrMalformed, s, a.WithZone(""), a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%w: %q is not an address, a slash and a length such as 10.64.0.0/10", ErrMalformed, s)
	}
	return p, check(p)
}

// maxPrefixText is above the longest form, eight groups of four digits and a length.
const maxPrefixText = 64

type refusal struct {
	prefix netip.Prefix
	reason string
}

func rfc1918() []netip.Prefix {
	return []netip.Prefix{v4(10, 0, 0, 0, 8), v4(172, 16, 0, 0, 12), v4(192, 168, 0, 0, 16)}
}

func ula() netip.Prefix { return v6(0xfd00, 0, 8) }

// refused lists what CheckPool names by reason: the IANA special-purpose registries (RFC 6890) and what common software assigns unasked.
func refused() []refusal {
	const docker = "Docker gives it to its networks by default, on boxes and servers alike"
	return []refusal{
		{v4(0, 0, 0, 0, 8), "it means \"this network\" (RFC 791 §3.2)"},
		{v4(100, 64, 0, 0, 10), "providers use it between themselves and their customers (RFC 6598), and other overlay networks take it too"},
		{v4(127, 0, 0, 0, 8), "it is loopback (RFC 1122 §3.2.1.3)"},
		{v4(169, 254, 0, 0, 16), "it is link-local (RFC 3927)"},
		{v4(172, 17, 0, 0, 16), docker},
		{v4(172, 18, 0, 0, 15), docker},
		{v4(172, 20, 0, 0, 14), docker},
		{v4(172, 24, 0, 0, 13), docker},
		{v4(192, 0, 0, 0, 24), "it is kept for protocols (RFC 6890)"},
		{v4(192, 0, 2, 0, 24), "it is for documentation (RFC 5737)"},
		{v4(192, 88, 99, 0, 24), "it was for 6to4 relays (RFC 7526)"},
		{v4(192, 168, 0, 0, 16), "most home and practice routers use a part of it on the LAN, and Docker the rest"},
		{v4(198, 18, 0, 0, 15), "it is for benchmarks (RFC 2544)"},
		{v4(198, 51, 100, 0, 24), "it is for documentation (RFC 5737)"},
		{v4(203, 0, 113, 0, 24), "it is for documentation (RFC 5737)"},
		{v4(224, 0, 0, 0, 4), "it is multicast (RFC 5771)"},
		{v4(240, 0, 0, 0, 4), "it is reserved (RFC 1112 §4), and most systems refuse it"},
		{v6(0x64, 0xff9b, 32), "it is for translation from IPv4 (RFC 6052, RFC 8215)"},
		{v6(0, 0, 8), "it holds loopback, the unspecified address and mapped IPv4 (RFC 4291 §2.5)"},
		{v6(0x100, 0, 64), "it is discarded by routers (RFC 6666)"},
		{v6(0x2001, 0, 32), "it is Teredo (RFC 4380)"},
		{v6(0x2001, 0xdb8, 32), "it is for documentation (RFC 3849)"},
		{v6(0x2002, 0, 16), "it is 6to4 (RFC 3056)"},
		{v6(0x3fff, 0, 20), "it is for documentation (RFC 9637)"},
		{v6(0xfc00, 0, 8), "this half of unique local space has no rules yet (RFC 4193 §3.1), use fd00::/8"},
		{v6(0xfe80, 0, 10), "it is link-local (RFC 4291 §2.5.6)"},
		{v6(0xfec0, 0, 10), "it was site-local (RFC 3879)"},
		{v6(0xff00, 0, 8), "it is multicast (RFC 4291 §2.7)"},
	}
}

func v4(a, b, c, d byte, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b, c, d}), bits)
}

func v6(a, b uint16, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{byte(a >> 8), byte(a), byte(b >> 8), byte(b)}), bits)
}
