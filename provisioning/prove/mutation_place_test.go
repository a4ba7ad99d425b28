package prove_test

import (
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
)

// as makes a range one of another kind, with the fields that this must have and no other.
func as(e *plandoc.Entry, kind plandoc.Kind, q netip.Prefix) {
	e.Kind, e.Prefix, e.Purpose, e.Label, e.Maps = kind, q, "", "", netip.Prefix{}
	if kind == plandoc.Pool || kind == plandoc.Foreign {
		e.Owner = ""
	}
	if kind == plandoc.Reported {
		e.Purpose = plandoc.ReportedLAN
	}
}

func one(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// held fits mapped allocations that a node answers for.
func held(in *prove.Input, e plandoc.Entry) bool {
	return slices.ContainsFunc(in.Nodes, func(n prove.Node) bool { return slices.Contains(n.Mapped, e.Prefix) })
}

// inEntry breaks a range that fits.
func inEntry(fits func(*prove.Input, plandoc.Entry) bool, breakIt func(*prove.Input, *plandoc.Entry)) mutant {
	return func(t *rapid.T, in *prove.Input) bool {
		e := pick(t, in.Plan.Entries, func(e plandoc.Entry) bool { return fits(in, e) })
		if e != nil {
			breakIt(in, e)
		}
		return e != nil
	}
}

// inNode breaks a node that fits.
func inNode(fits func(*prove.Input, prove.Node) bool, breakIt func(*prove.Input, *prove.Node)) mutant {
	return func(t *rapid.T, in *prove.Input) bool {
		n := pick(t, in.Nodes, func(n prove.Node) bool { return fits(in, n) })
		if n != nil {
			breakIt(in, n)
		}
		return n != nil
	}
}

func hasFormer(_ *prove.Input, n prove.Node) bool { return n.Former.IsValid() }

func hasMapped(_ *prove.Input, n prove.Node) bool { return len(n.Mapped) > 0 }

// planMutants break the facts about second addresses and mappings.
func planMutants() map[string]mutant {
	owned := func(_ *prove.Input, e plandoc.Entry) bool {
		return e.Kind == plandoc.Allocation && e.Owner != "" && e.Owner != prove.HubOwner
	}
	ending := func(in *prove.Input, e plandoc.Entry) bool {
		return owned(in, e) && !e.Until.IsZero() && slices.ContainsFunc(in.Nodes, func(n prove.Node) bool { return e.Prefix.Contains(n.Former) })
	}
	return map[string]mutant{
		"old addresses are quarantined": inEntry(ending, func(_ *prove.Input, e *plandoc.Entry) { e.Owner = "" }),
		"old addresses are gone":        drop(entries, ending),
		"former is the hub":             inNode(any2[prove.Node], func(_ *prove.Input, n *prove.Node) { n.Former = netip.MustParseAddr("10.0.0.1") }),
		"former is the address":         inNode(any2[prove.Node], func(_ *prove.Input, n *prove.Node) { n.Former = n.Address }),
		"former is nobody's":            inNode(any2[prove.Node], func(in *prove.Input, n *prove.Node) { former(in, n, netip.MustParseAddr("10.77.0.1")) }),
		"former is another site's": inNode(func(in *prove.Input, n prove.Node) bool { return otherSite(in, n) != nil }, func(in *prove.Input, n *prove.Node) {
			former(in, n, otherSite(in, *n).Prefix.Addr().Next().Next().Next().Next())
		}),
		"former is forgotten": inNode(hasFormer, func(_ *prove.Input, n *prove.Node) { n.Former = netip.Addr{} }),
		"former is another's, too": inNode(hasFormer, func(in *prove.Input, n *prove.Node) {
			other := *n
			other.ID, other.PublicKey[31], other.Address = n.ID+"x", n.PublicKey[31]+7, n.Address.Next().Next().Next()
			in.Nodes = append(in.Nodes, other)
		}),
		"hub's former dropped": func(t *rapid.T, in *prove.Input) bool {
			h := pick(t, in.HubPeers, func(h prove.HubPeer) bool { return len(h.AllowedIPs) > 1 })
			if h == nil {
				return false
			}
			h.AllowedIPs = h.AllowedIPs[:1]
			return true
		},

		"map's former":            inAny(func(m *wire.NetMap) { m.Self.Former = netip.MustParseAddr("10.77.0.1") }),
		"map's former is another": inAny(func(m *wire.NetMap) { m.Self.Former = m.Self.Address.Next().Next().Next() }),
		"map's former dropped":    inMap(func(m wire.NetMap) bool { return m.Self.Former.IsValid() }, func(_ *rapid.T, m *wire.NetMap) { m.Self.Former = netip.Addr{} }),

		"mapped dropped":      drop(entries, held),
		"mapped forgotten":    inNode(hasMapped, func(_ *prove.Input, n *prove.Node) { n.Mapped = n.Mapped[1:] }),
		"mapped twice":        inNode(hasMapped, func(_ *prove.Input, n *prove.Node) { n.Mapped = append(n.Mapped, n.Mapped[0]) }),
		"mapped half":         inNode(hasMapped, func(_ *prove.Input, n *prove.Node) { n.Mapped[0] = netip.PrefixFrom(n.Mapped[0].Addr(), 26) }),
		"mapped is quiet":     inEntry(held, func(_ *prove.Input, e *plandoc.Entry) { e.Owner, e.Until = "", issued }),
		"mapped is another's": inEntry(held, func(in *prove.Input, e *plandoc.Entry) { e.Owner = elsewhere(in, e.Owner) }),
		"mapped is for boxes": inEntry(held, func(_ *prove.Input, e *plandoc.Entry) { e.Purpose, e.Maps = plandoc.Overlay, netip.Prefix{} }),
		"mapped maps less": inEntry(held, func(_ *prove.Input, e *plandoc.Entry) {
			e.Maps = netip.PrefixFrom(e.Maps.Addr(), e.Maps.Bits()-1).Masked()
		}),
		"boxes are mapped": inEntry(func(in *prove.Input, e plandoc.Entry) bool { return inhabited(in, e) && owned(in, e) }, func(_ *prove.Input, e *plandoc.Entry) {
			e.Purpose, e.Maps = plandoc.Mapped, prefix("192.168.0.0/28")
		}),
		"mapped at another node": inNode(func(in *prove.Input, n prove.Node) bool { return hasMapped(in, n) && sibling(in, n) != nil }, func(in *prove.Input, n *prove.Node) {
			o := sibling(in, *n)
			n.Mapped, o.Mapped = nil, n.Mapped
		}),
		"mapped at another site": inNode(hasMapped, func(in *prove.Input, n *prove.Node) {
			for i := range in.Nodes {
				if o := &in.Nodes[i]; o.Site != n.Site {
					n.Mapped, o.Mapped = nil, append(o.Mapped, n.Mapped...)
					return
				}
			}
			n.Mapped = nil
		}),

		"label twice": func(t *rapid.T, in *prove.Input) bool {
			e := pick(t, in.Plan.Entries, func(e plandoc.Entry) bool { return e.Kind == plandoc.Allocation && e.Owner != "" })
			e.Label = "south"
			return true
		},
		"LAN twice":        double(entries, func(_ *prove.Input, e plandoc.Entry) bool { return e.Kind == plandoc.LAN }, func(e *plandoc.Entry) { e.Note += "x" }),
		"report twice":     double(entries, func(_ *prove.Input, e plandoc.Entry) bool { return e.Kind == plandoc.Reported }, func(e *plandoc.Entry) { e.Note += "x" }),
		"report of nobody": inEntry(func(_ *prove.Input, e plandoc.Entry) bool { return e.Kind == plandoc.Reported }, func(_ *prove.Input, e *plandoc.Entry) { e.Owner = "" }),
		"pool of somebody": inEntry(func(_ *prove.Input, e plandoc.Entry) bool { return e.Kind == plandoc.Pool }, func(_ *prove.Input, e *plandoc.Entry) { e.Owner = "name1" }),
		"pool twice":       double(entries, func(_ *prove.Input, e plandoc.Entry) bool { return e.Kind == plandoc.Pool }, func(e *plandoc.Entry) { e.Label = "" }),
	}
}

// otherSite is an allocation of another site in which a node lives.
func otherSite(in *prove.Input, n prove.Node) *plandoc.Entry {
	for i, e := range in.Plan.Entries {
		if inhabited(in, e) && e.Owner != n.Site && e.Owner != prove.HubOwner {
			return &in.Plan.Entries[i]
		}
	}
	return nil
}

func sibling(in *prove.Input, n prove.Node) *prove.Node {
	for i, o := range in.Nodes {
		if o.Site == n.Site && o.ID != n.ID {
			return &in.Nodes[i]
		}
	}
	return nil
}

func elsewhere(in *prove.Input, site string) string {
	for _, s := range in.Sites {
		if s.Name != site {
			return s.Name
		}
	}
	return "name9"
}

// former gives a node a second address, and tells everybody.
func former(in *prove.Input, n *prove.Node, a netip.Addr) {
	old := n.Former
	n.Former = a
	swap := func(list []netip.Prefix) []netip.Prefix {
		if old.IsValid() {
			list = slices.DeleteFunc(slices.Clone(list), func(q netip.Prefix) bool { return q == one(old) })
		}
		return append(list, one(a))
	}
	for i := range in.HubPeers {
		if in.HubPeers[i].PublicKey == n.PublicKey {
			in.HubPeers[i].AllowedIPs = swap(in.HubPeers[i].AllowedIPs)
		}
	}
	for i := range in.Maps {
		m := &in.Maps[i]
		if m.Self.Node == n.ID {
			m.Self.Former = a
		}
		for j := range m.Peers {
			if m.Peers[j].Node == n.ID {
				m.Peers[j].AllowedIPs = swap(m.Peers[j].AllowedIPs)
			}
		}
		for j := range m.Offers {
			o := &m.Offers[j]
			for _, f := range o.From {
				if f.Prefix == one(n.Address) {
					o.From = append(slices.DeleteFunc(slices.Clone(o.From), func(f wire.Source) bool { return old.IsValid() && f.Prefix == one(old) }),
						wire.Source{Site: f.Site, Prefix: one(a)})
					break
				}
			}
		}
	}
}

// placeMutants break where services are besides the addresses of boxes.
func placeMutants() map[string]mutant {
	inWide := func(breakIt func(*wire.NetMap, *wire.Peer, int)) mutant {
		has := func(p wire.Peer) bool {
			return slices.ContainsFunc(p.AllowedIPs, func(q netip.Prefix) bool { return !q.IsSingleIP() })
		}
		return inMap(func(m wire.NetMap) bool { return slices.ContainsFunc(m.Peers, has) }, func(t *rapid.T, m *wire.NetMap) {
			p := pick(t, m.Peers, has)
			breakIt(m, p, slices.IndexFunc(p.AllowedIPs, func(q netip.Prefix) bool { return !q.IsSingleIP() }))
		})
	}
	also := func(o wire.Offer) bool { return len(o.Also) > 0 }
	inAlso := func(breakIt func(*wire.NetMap, *wire.Offer)) mutant {
		return inMap(func(m wire.NetMap) bool { return slices.ContainsFunc(m.Offers, also) },
			func(t *rapid.T, m *wire.NetMap) { breakIt(m, pick(t, m.Offers, also)) })
	}
	with := func(place, more string) func(*rapid.T, *wire.Offer) {
		return func(_ *rapid.T, o *wire.Offer) { o.Also = append(o.Also, netip.MustParseAddrPort(place+more)) }
	}
	// fixed fits services that some node offers at an address of their own.
	fixed := func(in *prove.Input, v prove.Service) bool {
		return v.Address.IsValid() && slices.ContainsFunc(in.Maps, func(m wire.NetMap) bool {
			return slices.ContainsFunc(m.Offers, func(o wire.Offer) bool { return o.Service == v.Name && also(o) })
		})
	}
	inFixed := func(breakIt func(*prove.Input, *prove.Service)) mutant {
		return func(t *rapid.T, in *prove.Input) bool {
			v := pick(t, in.Services, func(v prove.Service) bool { return fixed(in, v) })
			if v != nil {
				breakIt(in, v)
			}
			return v != nil
		}
	}
	inAway := func(breakIt func(*wire.Use)) mutant {
		away := func(u wire.Use) bool { return u.Address.Addr().As4()[1] >= 70 }
		return inMap(func(m wire.NetMap) bool { return slices.ContainsFunc(m.Uses, away) },
			func(t *rapid.T, m *wire.NetMap) { breakIt(pick(t, m.Uses, away)) })
	}
	shift := func(p *netip.AddrPort, host int, port uint16) {
		a := p.Addr().As4()
		a[3] ^= byte(host)
		*p = netip.AddrPortFrom(netip.AddrFrom4(a), p.Port()+port)
	}
	return map[string]mutant{
		"peer's mapped dropped": inWide(func(_ *wire.NetMap, p *wire.Peer, i int) {
			p.AllowedIPs = slices.Delete(slices.Clone(p.AllowedIPs), i, i+1)
		}),
		"peer's mapped halved": inWide(func(_ *wire.NetMap, p *wire.Peer, i int) {
			p.AllowedIPs[i] = netip.PrefixFrom(p.AllowedIPs[i].Addr(), p.AllowedIPs[i].Bits()+1)
		}),
		"peer's mapped widened": inWide(func(_ *wire.NetMap, p *wire.Peer, i int) {
			p.AllowedIPs[i] = netip.PrefixFrom(p.AllowedIPs[i].Addr(), p.AllowedIPs[i].Bits()-1).Masked()
		}),
		"peer's mapped in halves, one twice": inWide(func(_ *wire.NetMap, p *wire.Peer, i int) {
			p.AllowedIPs = append(p.AllowedIPs, netip.PrefixFrom(p.AllowedIPs[i].Addr(), p.AllowedIPs[i].Bits()+1))
		}),
		"peer's mapped is the LAN": inWide(func(_ *wire.NetMap, p *wire.Peer, i int) { p.AllowedIPs[i] = prefix("192.168.178.0/25") }),
		"peer's mapped at another peer": inWide(func(m *wire.NetMap, p *wire.Peer, i int) {
			q := p.AllowedIPs[i]
			p.AllowedIPs = slices.Delete(slices.Clone(p.AllowedIPs), i, i+1)
			for j := range m.Peers {
				if m.Peers[j].Node != p.Node {
					m.Peers[j].AllowedIPs = append(m.Peers[j].AllowedIPs, q)
					return
				}
			}
		}),
		"peer's mapped at two peers": inMap(hasPeers(2), func(_ *rapid.T, m *wire.NetMap) {
			q := prefix("10.70.0.0/25")
			m.Peers[0].AllowedIPs, m.Peers[1].AllowedIPs = append(m.Peers[0].AllowedIPs, q), append(m.Peers[1].AllowedIPs, q)
		}),
		"peer's further addresses for who uses nothing": func(t *rapid.T, in *prove.Input) bool {
			m := pick(t, in.Maps, func(m wire.NetMap) bool { return len(m.Uses) == 0 && len(m.Peers) > 0 })
			if m == nil {
				return false
			}
			for _, n := range in.Nodes {
				if n.ID == m.Peers[0].Node && len(n.Mapped) > 0 {
					m.Peers[0].AllowedIPs = append(m.Peers[0].AllowedIPs, n.Mapped...)
					return true
				}
			}
			return false
		},

		"also outside":    inOffer(with("10.77.0.1", ":104")),
		"also on the LAN": inOffer(with("192.168.178.10", ":104")),
		"also at the hub": inOffer(with("10.0.0.1", ":8080")),
		"also at the box": inMap(func(m wire.NetMap) bool { return len(m.Offers) > 0 }, func(_ *rapid.T, m *wire.NetMap) {
			m.Offers[0].Also = append(m.Offers[0].Also, netip.AddrPortFrom(m.Self.Address, 9))
		}),
		"also another host": inAlso(func(_ *wire.NetMap, o *wire.Offer) { shift(&o.Also[0], 1, 0) }),
		"also another half": inAlso(func(_ *wire.NetMap, o *wire.Offer) { shift(&o.Also[0], 128, 0) }),
		"also another port": inAlso(func(_ *wire.NetMap, o *wire.Offer) { shift(&o.Also[0], 0, 1) }),
		"also twice":        inAlso(func(_ *wire.NetMap, o *wire.Offer) { o.Also = append(o.Also, o.Also[0]) }),
		"also of two offers": inMap(func(m wire.NetMap) bool { return len(m.Offers) > 1 && slices.ContainsFunc(m.Offers, also) }, func(t *rapid.T, m *wire.NetMap) {
			i := slices.IndexFunc(m.Offers, also)
			other := &m.Offers[(i+1)%len(m.Offers)]
			other.Also = append(other.Also, m.Offers[i].Also[0])
		}),
		"also is the port of another": inMap(func(m wire.NetMap) bool { return len(m.Offers) > 1 }, func(_ *rapid.T, m *wire.NetMap) {
			m.Offers[0].Also = append(m.Offers[0].Also, netip.AddrPortFrom(m.Self.Address, m.Offers[1].Port))
		}),
		"also at another node": func(t *rapid.T, in *prove.Input) bool {
			m := pick(t, in.Maps, func(m wire.NetMap) bool { return m.Self.SiteKind == wire.Clinic && slices.ContainsFunc(m.Offers, also) })
			if m == nil {
				return false
			}
			for i := range in.Maps {
				if o := &in.Maps[i]; o.Self.Site == m.Self.Site && o.Self.Node != m.Self.Node {
					o.Offers = m.Offers
					return true
				}
			}
			return false
		},
		"own address not offered": func(t *rapid.T, in *prove.Input) bool {
			for i := range in.Maps {
				for j := range in.Maps[i].Offers {
					o := &in.Maps[i].Offers[j]
					for _, v := range in.Services {
						if v.Name == o.Service && v.Address.IsValid() && len(o.Also) > 0 {
							o.Also = o.Also[1:]
							return true
						}
					}
				}
			}
			return false
		},

		"own address not offered, and not used": func(t *rapid.T, in *prove.Input) bool {
			v := pick(t, in.Services, func(v prove.Service) bool { return fixed(in, v) })
			if v == nil {
				return false
			}
			var box netip.Addr
			for i := range in.Maps {
				for j := range in.Maps[i].Offers {
					if o := &in.Maps[i].Offers[j]; o.Service == v.Name && also(*o) {
						o.Also = nil
						if preferred(in.Maps[i]) {
							box = in.Maps[i].Self.Address
						}
					}
				}
			}
			for i := range in.Maps {
				for j := range in.Maps[i].Uses {
					if u := &in.Maps[i].Uses[j]; u.Service == v.Name {
						u.Address = netip.AddrPortFrom(box, v.Port)
					}
				}
			}
			return true
		},
		"use of a place that is not offered": inAway(func(u *wire.Use) { shift(&u.Address, 1, 0) }),
		"use of another port there":          inAway(func(u *wire.Use) { shift(&u.Address, 0, 1) }),
		"use of nobody's place":              inUse(func(_ *rapid.T, u *wire.Use) { u.Address = netip.MustParseAddrPort("10.77.0.1:104") }),
		"use of the LAN":                     inUse(func(_ *rapid.T, u *wire.Use) { u.Address = netip.MustParseAddrPort("192.168.178.10:104") }),
		"use of a former address": inUse(func(_ *rapid.T, u *wire.Use) {
			u.Address = netip.AddrPortFrom(netip.MustParseAddr("10.72.0.1"), u.Address.Port())
		}),
		"also dropped, though used": func(t *rapid.T, in *prove.Input) bool {
			for i := range in.Maps {
				for j := range in.Maps[i].Offers {
					o := &in.Maps[i].Offers[j]
					if k := slices.IndexFunc(o.Also, func(p netip.AddrPort) bool { return usedAt(in, p) }); k >= 0 {
						o.Also = slices.Delete(slices.Clone(o.Also), k, k+1)
						return true
					}
				}
			}
			return false
		},

		"service's address dropped": inFixed(func(_ *prove.Input, v *prove.Service) { v.Address = netip.Addr{} }),
		"service's address moved":   inFixed(func(_ *prove.Input, v *prove.Service) { v.Address = v.Address.Prev() }),
		"service's address unknown": inFixed(func(_ *prove.Input, v *prove.Service) { v.Address = netip.MustParseAddr("10.77.0.1") }),
		"service at the hub":        inFixed(func(_ *prove.Input, v *prove.Service) { v.Address = netip.MustParseAddr("10.0.0.1") }),
		"service nobody lets live": inFixed(func(in *prove.Input, v *prove.Service) {
			in.Plan.Entries = slices.DeleteFunc(in.Plan.Entries, func(e plandoc.Entry) bool {
				return e.Kind == plandoc.Allocation && e.Prefix.Contains(v.Address)
			})
		}),
		"service at a box": inFixed(func(in *prove.Input, v *prove.Service) {
			for _, n := range in.Nodes {
				if n.Site == v.Site {
					v.Address = n.Address
					return
				}
			}
			v.Address = netip.MustParseAddr("10.0.0.1")
		}),
		"services at one address": inFixed(func(in *prove.Input, v *prove.Service) {
			o := *v
			o.Name, o.Port = v.Name+"x", v.Port+1
			in.Services = append(in.Services, o)
		}),
	}
}
