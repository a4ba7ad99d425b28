package ipam

import (
	"fmt"
	"net/netip"
	"strings"
)

// Mapping is a 1:1 translation between two prefixes of one family and length: what is LAN at a site appears as Mapped everywhere else, and
// the host part of an address stays as it is. The zero Mapping is not valid and translates nothing.
type Mapping struct {
	LAN, Mapped netip.Prefix
}

// NewMapping makes a Mapping that is valid.
func NewMapping(lan, mapped netip.Prefix) (Mapping, error) {
	m := Mapping{LAN: lan, Mapped: mapped}
	return m, m.Validate()
}

// Validate refuses prefixes that no plan can hold or that differ in family or length (ErrMalformed), and a prefix mapped to itself (an
// *OverlapError): of equal length, two prefixes are equal or disjoint.
func (m Mapping) Validate() error {
	for _, p := range []netip.Prefix{m.LAN, m.Mapped} {
		if err := check(p); err != nil {
			return err
		}
	}
	switch {
	case FamilyOf(m.LAN) != FamilyOf(m.Mapped):
		return fmt.Errorf("%w: %v cannot appear as %v, one is IPv4 and the other IPv6", ErrMalformed, m.LAN, m.Mapped)
	case m.LAN.Bits() != m.Mapped.Bits():
		return fmt.Errorf("%w: %v cannot appear as %v, choose a /%d", ErrMalformed, m.LAN, m.Mapped, m.LAN.Bits())
	case m.LAN == m.Mapped:
		return &OverlapError{Prefix: m.Mapped, With: m.LAN}
	}
	return nil
}

// Forward returns how an address of the LAN appears elsewhere, and whether it is one.
func (m Mapping) Forward(a netip.Addr) (netip.Addr, bool) { return translate(a, m.LAN, m.Mapped) }

// Back returns which address of the LAN a mapped one means, and whether it is one.
func (m Mapping) Back(a netip.Addr) (netip.Addr, bool) { return translate(a, m.Mapped, m.LAN) }

// String explains m in one line: "192.168.178.0/24 appears as 10.201.7.0/24: .20 is 10.201.7.20".
func (m Mapping) String() string {
	if err := m.Validate(); err != nil {
		return "no mapping: " + err.Error()
	}
	example := m.LAN.Addr()
	for range exampleHost(m.LAN) {
		example = example.Next()
	}
	seen, _ := m.Forward(example)
	return fmt.Sprintf("%v appears as %v: %s is %v", m.LAN, m.Mapped, hostPart(example, m.LAN.Bits()), seen)
}

// translate puts the host part of a behind the network part of to.
func translate(a netip.Addr, from, to netip.Prefix) (netip.Addr, bool) {
	if !from.Contains(a) || FamilyOf(from) != FamilyOf(to) || from.Bits() != to.Bits() {
		return netip.Addr{}, false
	}
	host, network := blockOf(netip.PrefixFrom(a, a.BitLen())), blockOf(to.Masked())
	hi, lo := mask(to.Bits())
	network.hi |= host.hi &^ hi
	network.lo |= host.lo &^ lo
	network.bits = host.bits
	return network.prefix(FamilyOf(to)).Addr(), true
}

// exampleHost is the number of the host that stands for all: 20, or the first in a prefix too small for it.
func exampleHost(p netip.Prefix) int {
	switch free := FamilyOf(p).Width() - p.Bits(); {
	case free >= 5:
		return 20
	case free >= 1:
		return 1
	}
	return 0
}

// hostPart shortens an IPv4 address to the octets that are not wholly in the prefix, at least one; IPv6 stays whole, it has a short form
// of its own.
func hostPart(a netip.Addr, bits int) string {
	if !a.Is4() {
		return a.String()
	}
	octets := strings.Split(a.String(), ".")
	whole := min(bits/8, 3)
	if whole == 0 {
		return a.String()
	}
	return "." + strings.Join(octets[whole:], ".")
}
