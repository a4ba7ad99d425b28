package path

import (
	"net/netip"
	"slices"
)

// Source says how a Candidate came to be known.
type Source uint8

// Sources, the most trusted first.
const (
	Configured Source = iota // an operator wrote it down
	Observed                 // a hub or relay has seen the peer there
	Mapped                   // the peer's router takes packets for it there, by its own word
	Local                    // an address of the peer's own interface
	Learned                  // an authenticated probe of the peer came from there
)

// Limits on candidates for one peer: of each source but Learned, and of Learned.
const (
	MaxPerSource = 6
	MaxLearned   = 4
)

// Candidate is an address where a peer may be reached.
type Candidate struct {
	Address netip.AddrPort
	Source  Source
}

// Filter says which addresses can never be outside the tunnel.
type Filter struct {
	// Inside are the prefixes of the overlay and of all LANs that are routed through it. A tunnel to one of them would run in a tunnel.
	Inside []netip.Prefix
}

// Allows reports whether a peer may be looked for at a.
func (f Filter) Allows(a netip.AddrPort) bool {
	ip := a.Addr().Unmap()
	// A zone has a meaning on the machine that wrote it only.
	if a.Port() == 0 || !ip.IsValid() || ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip.Zone() != "" ||
		ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return false
	}
	return !slices.ContainsFunc(f.Inside, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// Select returns what is left of candidates: allowed, each address once, no more of a source than its limit, in order of trust and then as
// given. IPv4 addresses in IPv6 form become IPv4.
func (f Filter) Select(candidates []Candidate) []Candidate {
	sorted := slices.Clone(candidates)
	slices.SortStableFunc(sorted, func(a, b Candidate) int { return int(a.Source) - int(b.Source) })
	var out []Candidate
	count := map[Source]int{}
	for _, c := range sorted {
		c.Address = netip.AddrPortFrom(c.Address.Addr().Unmap(), c.Address.Port())
		limit := MaxPerSource
		if c.Source == Learned {
			limit = MaxLearned
		}
		known := slices.ContainsFunc(out, func(o Candidate) bool { return o.Address == c.Address })
		if known || count[c.Source] == limit || !f.Allows(c.Address) {
			continue
		}
		count[c.Source]++
		out = append(out, c)
	}
	return out
}
