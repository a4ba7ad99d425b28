package standby

import (
	"net/netip"
	"slices"

	"github.com/towpath/towpath/provisioning/wire"
)

// Group are the gateways of one center that a map lets choose between.
type Group struct {
	Site string
	// Gateways are in order of preference.
	Gateways []Member
	// Services are what the box uses there, sorted.
	Services []string
}

// Member is one gateway of a Group.
type Member struct {
	Node string
	// Address is its own one, which never moves.
	Address netip.Addr
}

// nodes are those of the Gateways, in their order.
func (g Group) nodes() []string {
	out := make([]string, len(g.Gateways))
	for i, m := range g.Gateways {
		out[i] = m.Node
	}
	return out
}

// equal reports whether probing goes on as it is.
func (g Group) equal(o Group) bool {
	return g.Site == o.Site && slices.Equal(g.Gateways, o.Gateways) && slices.Equal(g.Services, o.Services)
}

// Groups are those of a map, by Site. What contradicts itself is none, and its Site is reached through the gateway that AllowedIPs name.
func Groups(m wire.NetMap) []Group {
	var out []Group
	for _, s := range m.Shared {
		peers := holders(m, s)
		if peers == nil {
			continue
		}
		g := Group{Site: s.Site}
		for _, p := range peers {
			g.Gateways = append(g.Gateways, Member{p.Node, p.AllowedIPs[0].Addr()})
		}
		for _, u := range m.Uses {
			if u.Site == s.Site {
				g.Services = append(g.Services, u.Service)
			}
		}
		slices.Sort(g.Services)
		out = append(out, g)
	}
	return out
}

// holders are the peers of s in their order, nil if s is none of which something could move: they are gateways of one other Site, the first has all
// that moves besides an address of its own, and none is there twice.
func holders(m wire.NetMap, s wire.Shared) []*wire.Peer {
	if s.Site == m.Self.Site && (m.Self.Kind == "" || m.Self.Kind == wire.Gateway) || len(s.Gateways) < 2 {
		return nil
	}
	var out []*wire.Peer
	for i, node := range s.Gateways {
		at := slices.IndexFunc(m.Peers, func(p wire.Peer) bool { return p.Node == node })
		if at < 0 || slices.Contains(s.Gateways[:i], node) {
			return nil
		}
		p := &m.Peers[at]
		if p.Site != s.Site || p.Kind != "" && p.Kind != wire.Gateway || len(p.AllowedIPs) == 0 || !p.AllowedIPs[0].IsSingleIP() {
			return nil
		}
		out = append(out, p)
	}
	for _, q := range s.Prefixes {
		if !slices.Contains(out[0].AllowedIPs[1:], q) || slices.Contains(out[0].AllowedIPs[:1], q) {
			return nil
		}
	}
	return out
}

// Place returns m as it is to be made true while the active gateways of some Sites are others than the first: what may move leads to them, and what is
// used at the first one's own address is used at theirs. Nothing else differs, and m is not changed. An active gateway that is none of the Site's is
// taken for the first.
func Place(m wire.NetMap, active map[string]string) wire.NetMap {
	for _, s := range m.Shared {
		at := slices.Index(s.Gateways, active[s.Site])
		if at <= 0 || holders(m, s) == nil {
			continue
		}
		m.Peers = slices.Clone(m.Peers)
		peers := holders(m, s)
		from, to := peers[0], peers[at]
		from.AllowedIPs = slices.DeleteFunc(slices.Clone(from.AllowedIPs), func(q netip.Prefix) bool { return slices.Contains(s.Prefixes, q) })
		to.AllowedIPs = append(slices.Clone(to.AllowedIPs), s.Prefixes...)
		m.Uses = slices.Clone(m.Uses)
		for i := range m.Uses {
			if u := &m.Uses[i]; u.Site == s.Site && u.Address.Addr() == from.AllowedIPs[0].Addr() {
				u.Address = netip.AddrPortFrom(to.AllowedIPs[0].Addr(), u.Address.Port())
			}
		}
	}
	return m
}
