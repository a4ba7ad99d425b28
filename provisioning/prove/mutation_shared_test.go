package prove_test

import (
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
)

// preferred reports whether a map is that of the first gateway of its site.
func preferred(m wire.NetMap) bool {
	return !slices.ContainsFunc(m.Shared, func(s wire.Shared) bool { return s.Site == m.Self.Site && s.Gateways[0] != m.Self.Node })
}

// inShared breaks what a map says of a center with several gateways.
func inShared(breakIt func(m *wire.NetMap, s *wire.Shared)) mutant {
	return inMap(func(m wire.NetMap) bool { return len(m.Shared) > 0 }, func(t *rapid.T, m *wire.NetMap) {
		breakIt(m, pick(t, m.Shared, every))
	})
}

func usedAt(in *prove.Input, p netip.AddrPort) bool {
	return slices.ContainsFunc(in.Maps, func(m wire.NetMap) bool {
		return slices.ContainsFunc(m.Uses, func(u wire.Use) bool { return u.Address == p })
	})
}

func sharedMutants() map[string]mutant {
	return map[string]mutant{
		"shared dropped": inShared(func(m *wire.NetMap, _ *wire.Shared) { m.Shared = m.Shared[1:] }),
		"shared twice":   inShared(func(m *wire.NetMap, s *wire.Shared) { m.Shared = append(m.Shared, *s) }),
		"shared with a stranger": inShared(func(_ *wire.NetMap, s *wire.Shared) {
			s.Gateways = append(s.Gateways, "node9-9")
		}),
		"shared with a node twice": inShared(func(_ *wire.NetMap, s *wire.Shared) { s.Gateways = append(s.Gateways, s.Gateways[0]) }),
		"shared in another order":  inShared(func(_ *wire.NetMap, s *wire.Shared) { slices.Reverse(s.Gateways) }),
		"shared by one":            inShared(func(_ *wire.NetMap, s *wire.Shared) { s.Gateways = s.Gateways[:1] }),
		"shared is another site's": inShared(func(_ *wire.NetMap, s *wire.Shared) { s.Site += "x" }),
		"shared is more": inShared(func(_ *wire.NetMap, s *wire.Shared) {
			s.Prefixes = append(s.Prefixes, prefix("10.77.0.0/24"))
		}),
		"shared is the hub": inShared(func(m *wire.NetMap, s *wire.Shared) { s.Prefixes = append(s.Prefixes, one(m.Hub.Address)) }),
		"shared is less": inMap(func(m wire.NetMap) bool {
			return slices.ContainsFunc(m.Shared, func(s wire.Shared) bool { return len(s.Prefixes) > 0 })
		}, func(_ *rapid.T, m *wire.NetMap) {
			i := slices.IndexFunc(m.Shared, func(s wire.Shared) bool { return len(s.Prefixes) > 0 })
			m.Shared[i].Prefixes = m.Shared[i].Prefixes[1:]
		}),
		// A peer that serves nobody else is let stand in for the center: what leads to one site would lead to another.
		"shared with another site": inMap(func(m wire.NetMap) bool {
			return len(m.Shared) > 0 && slices.ContainsFunc(m.Peers, func(p wire.Peer) bool { return p.Site != m.Shared[0].Site })
		}, func(_ *rapid.T, m *wire.NetMap) {
			i := slices.IndexFunc(m.Peers, func(p wire.Peer) bool { return p.Site != m.Shared[0].Site })
			m.Shared[0].Gateways[1] = m.Peers[i].Node
		}),
		"shared by a clinic": inMap(func(m wire.NetMap) bool { return m.Self.SiteKind == wire.Clinic }, func(_ *rapid.T, m *wire.NetMap) {
			m.Shared = append(m.Shared, wire.Shared{Site: m.Self.Site, Gateways: []string{m.Self.Node, "node0-0"}})
		}),
		"used place missing at the second": func(_ *rapid.T, in *prove.Input) bool {
			for i := range in.Maps {
				m := &in.Maps[i]
				for j := range m.Offers {
					if o := &m.Offers[j]; !preferred(*m) && len(o.Also) > 0 && usedAt(in, o.Also[0]) {
						o.Also = o.Also[1:]
						return true
					}
				}
			}
			return false
		},
		"rank turned around": inNode(func(in *prove.Input, n prove.Node) bool {
			return slices.ContainsFunc(in.Maps, func(m wire.NetMap) bool {
				return m.Self.Node != n.ID && slices.ContainsFunc(m.Shared, func(s wire.Shared) bool { return len(s.Gateways) == 2 && s.Gateways[0] == n.ID })
			})
		}, func(in *prove.Input, n *prove.Node) {
			n.Rank = 0
			for i := range in.Nodes {
				if x := &in.Nodes[i]; x.Site == n.Site && x.ID != n.ID {
					x.Rank = 1
				}
			}
		}),
	}
}
