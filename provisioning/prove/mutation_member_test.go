package prove_test

import (
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func dials(m wire.NetMap) bool {
	return m.Self.Kind == wire.Workstation || m.Self.Kind == wire.Unmanaged
}

func isKind(kind wire.NodeKind) func(wire.NetMap) bool {
	return func(m wire.NetMap) bool { return m.Self.Kind == kind }
}

// mapOf draws a map that fits, nil if none does.
func mapOf(t *rapid.T, in *prove.Input, fits func(wire.NetMap) bool) *wire.NetMap {
	return pick(t, in.Maps, fits)
}

// offering draws the map of a gateway with an offer.
func offering(m wire.NetMap) bool { return m.Self.Kind == "" && len(m.Offers) > 0 }

// memberMutants break what nodes of several kinds may do, and changes of keys.
func memberMutants() map[string]mutant {
	// acquaint gives each of two maps the other as a peer.
	acquaint := func(first, second func(wire.NetMap) bool, related func(a, b wire.NetMap) bool) mutant {
		return func(t *rapid.T, in *prove.Input) bool {
			a := mapOf(t, in, func(m wire.NetMap) bool {
				return first(m) && slices.ContainsFunc(in.Maps, func(o wire.NetMap) bool { return second(o) && o.Self.Node != m.Self.Node && related(m, o) })
			})
			if a == nil {
				return false
			}
			b := mapOf(t, in, func(o wire.NetMap) bool { return second(o) && o.Self.Node != a.Self.Node && related(*a, o) })
			a.Peers, b.Peers = append(a.Peers, toPeer(b)), append(b.Peers, toPeer(a))
			return true
		}
	}
	neighbors := func(a, b wire.NetMap) bool { return a.Self.Site == b.Self.Site }
	strangers := func(a, b wire.NetMap) bool {
		return a.Self.Site != b.Self.Site && a.Self.SiteKind == wire.Clinic && b.Self.SiteKind == wire.Clinic
	}
	inHub := func(fits func(prove.HubPeer) bool, breakIt func(*prove.HubPeer)) mutant {
		return func(t *rapid.T, in *prove.Input) bool {
			h := pick(t, in.HubPeers, fits)
			if h != nil {
				breakIt(h)
			}
			return h != nil
		}
	}
	next := func(p wire.Peer) bool { return !p.NextKey.IsZero() }
	return map[string]mutant{
		"two workstations of a site meet":    acquaint(dials, dials, neighbors),
		"two clinics' workstations meet":     acquaint(dials, dials, strangers),
		"a workstation meets another clinic": acquaint(dials, isKind(""), strangers),
		"a relay meets a gateway":            acquaint(isKind(wire.Relay), isKind(""), func(_, _ wire.NetMap) bool { return true }),
		"map's kind of node": inAny(func(m *wire.NetMap) {
			m.Self.Kind = map[wire.NodeKind]wire.NodeKind{"": wire.Workstation}[m.Self.Kind]
		}),
		"peer's kind": inPeer(func(_ *rapid.T, p *wire.Peer) {
			p.Kind = map[wire.NodeKind]wire.NodeKind{"": wire.Workstation}[p.Kind]
		}),
		"node's kind": inNode(anyNode, func(_ *prove.Input, n *prove.Node) {
			n.Kind = map[wire.NodeKind]wire.NodeKind{"": wire.Relay}[n.Kind]
		}),
		"node of an odd kind": inNode(anyNode, func(in *prove.Input, n *prove.Node) {
			for i := range in.Maps {
				if in.Maps[i].Self.Node == n.ID {
					in.Maps[i].Self.Kind = "printer"
				}
			}
			n.Kind = "printer"
		}),

		"a workstation offers": func(t *rapid.T, in *prove.Input) bool {
			near, far := mapOf(t, in, dials), mapOf(t, in, offering)
			if near == nil || far == nil {
				return false
			}
			near.Offers = append(near.Offers, far.Offers[0])
			return true
		},
		"a workstation has its gateway's offer": func(t *rapid.T, in *prove.Input) bool {
			far := mapOf(t, in, func(m wire.NetMap) bool {
				return offering(m) && slices.ContainsFunc(in.Maps, func(o wire.NetMap) bool { return dials(o) && o.Self.Site == m.Self.Site })
			})
			if far == nil {
				return false
			}
			near := mapOf(t, in, func(o wire.NetMap) bool { return dials(o) && o.Self.Site == far.Self.Site })
			o := far.Offers[0]
			o.Also = nil
			near.Offers = append(near.Offers, o)
			return true
		},
		"a gateway uses its own": func(t *rapid.T, in *prove.Input) bool {
			g := pick(t, in.Grants, func(g prove.Grant) bool {
				return slices.ContainsFunc(in.Services, func(v prove.Service) bool { return v.Name == g.Service && v.Site == g.Site })
			})
			if g == nil {
				return false
			}
			m := mapOf(t, in, func(m wire.NetMap) bool { return m.Self.Kind == "" && m.Self.Site == g.Site })
			from := mapOf(t, in, func(m wire.NetMap) bool {
				return slices.ContainsFunc(m.Uses, func(u wire.Use) bool { return u.Service == g.Service })
			})
			if m == nil || from == nil {
				return false
			}
			m.Uses = append(m.Uses, from.Uses[slices.IndexFunc(from.Uses, func(u wire.Use) bool { return u.Service == g.Service })])
			return true
		},
		"a gateway is admitted by its own": inMap(offering, func(_ *rapid.T, m *wire.NetMap) {
			m.Offers[0].From = append(m.Offers[0].From, wire.Source{Site: m.Self.Site, Prefix: one(m.Self.Address)})
		}),
		"a workstation's use dropped": inMap(func(m wire.NetMap) bool { return dials(m) && len(m.Uses) > 0 }, func(_ *rapid.T, m *wire.NetMap) {
			m.Uses = m.Uses[1:]
		}),

		"map's step": inAny(func(m *wire.NetMap) {
			m.Self.Rotate = map[wire.RotateStep]wire.RotateStep{wire.RotateMake: wire.RotateTurn, wire.RotateWait: wire.RotateTurn, "": wire.RotateMake}[m.Self.Rotate]
		}),
		"map's next key":         inAny(func(m *wire.NetMap) { m.Self.NextKey[31]++ }),
		"peer's next key":        inPeer(func(_ *rapid.T, p *wire.Peer) { p.NextKey[31]++ }),
		"peer's next key is own": inPeer(func(_ *rapid.T, p *wire.Peer) { p.NextKey = p.PublicKey }),
		"peer's next key dropped": inMap(func(m wire.NetMap) bool { return slices.ContainsFunc(m.Peers, next) }, func(t *rapid.T, m *wire.NetMap) {
			pick(t, m.Peers, next).NextKey = wgkey.PublicKey{}
		}),
		"hub's next key": inHub(every, func(h *prove.HubPeer) { h.NextKey[31]++ }),
		"hub's next key dropped": inHub(func(h prove.HubPeer) bool { return !h.NextKey.IsZero() }, func(h *prove.HubPeer) {
			h.NextKey = wgkey.PublicKey{}
		}),
		"node's next key is another's": inNode(anyNode, func(in *prove.Input, n *prove.Node) {
			n.Rotate, n.NextKey = wire.RotateWait, in.Nodes[0].PublicKey
		}),
		"node's next key is the hub's": inNode(anyNode, func(in *prove.Input, n *prove.Node) { n.Rotate, n.NextKey = wire.RotateTurn, in.Hub.PublicKey }),
		"node's next key is told to all": inNode(anyNode, func(in *prove.Input, n *prove.Node) {
			n.Rotate, n.NextKey = wire.RotateWait, in.Nodes[0].PublicKey
			tell(in, n)
		}),
		"node turns without a key": inNode(anyNode, func(in *prove.Input, n *prove.Node) {
			n.Rotate, n.NextKey = wire.RotateTurn, wgkey.PublicKey{}
			tell(in, n)
		}),
		"the hub holds an unmanaged node": func(t *rapid.T, in *prove.Input) bool {
			n := pick(t, in.Nodes, func(n prove.Node) bool { return n.Kind == wire.Unmanaged })
			if n == nil {
				return false
			}
			in.HubPeers = append(in.HubPeers, prove.HubPeer{PublicKey: n.PublicKey, AllowedIPs: []netip.Prefix{one(n.Address)}})
			return true
		},
	}
}

func anyNode(*prove.Input, prove.Node) bool { return true }

// tell puts a change of a key into all maps.
func tell(in *prove.Input, n *prove.Node) {
	for i := range in.Maps {
		m := &in.Maps[i]
		if m.Self.Node == n.ID {
			m.Self.Rotate, m.Self.NextKey = n.Rotate, n.NextKey
		}
		for j := range m.Peers {
			if m.Peers[j].Node == n.ID {
				m.Peers[j].NextKey = n.NextKey
			}
		}
	}
	for i := range in.HubPeers {
		if in.HubPeers[i].PublicKey == n.PublicKey {
			in.HubPeers[i].NextKey = n.NextKey
		}
	}
}
