package prove_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// mutant is one way to break a sound network. It returns false for a network in which there is nothing of the kind to break.
type mutant func(t *rapid.T, in *prove.Input) bool

// pick draws one of those that fit, nil if none does.
func pick[T any](t *rapid.T, list []T, fits func(T) bool) *T {
	var at []int
	for i, v := range list {
		if fits(v) {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return nil
	}
	return &list[rapid.SampledFrom(at).Draw(t, "which")]
}

func every[T any](T) bool { return true }

// inMap breaks a map that fits.
func inMap(fits func(wire.NetMap) bool, breakIt func(*rapid.T, *wire.NetMap)) mutant {
	return func(t *rapid.T, in *prove.Input) bool {
		m := pick(t, in.Maps, fits)
		if m != nil {
			breakIt(t, m)
		}
		return m != nil
	}
}

func hasPeers(n int) func(wire.NetMap) bool {
	return func(m wire.NetMap) bool { return len(m.Peers) >= n }
}

func inPeer(breakIt func(*rapid.T, *wire.Peer)) mutant {
	return inMap(hasPeers(1), func(t *rapid.T, m *wire.NetMap) { breakIt(t, pick(t, m.Peers, every)) })
}

func inOffer(breakIt func(*rapid.T, *wire.Offer)) mutant {
	return inMap(func(m wire.NetMap) bool { return len(m.Offers) > 0 },
		func(t *rapid.T, m *wire.NetMap) { breakIt(t, pick(t, m.Offers, every)) })
}

func inUse(breakIt func(*rapid.T, *wire.Use)) mutant {
	return inMap(func(m wire.NetMap) bool { return len(m.Uses) > 0 }, func(t *rapid.T, m *wire.NetMap) { breakIt(t, pick(t, m.Uses, every)) })
}

func inAny(breakIt func(*wire.NetMap)) mutant {
	return inMap(every, func(_ *rapid.T, m *wire.NetMap) { breakIt(m) })
}

// drop removes one of a list that fits.
func drop[T any](list func(*prove.Input) *[]T, fits func(*prove.Input, T) bool) mutant {
	return func(t *rapid.T, in *prove.Input) bool {
		l := list(in)
		v := pick(t, *l, func(v T) bool { return fits(in, v) })
		if v == nil {
			return false
		}
		for i := range *l {
			if &(*l)[i] == v {
				*l = slices.Delete(slices.Clone(*l), i, i+1)
				break
			}
		}
		return true
	}
}

// double adds a copy, changed.
func double[T any](list func(*prove.Input) *[]T, fits func(*prove.Input, T) bool, change func(*T)) mutant {
	return func(t *rapid.T, in *prove.Input) bool {
		l := list(in)
		v := pick(t, *l, func(v T) bool { return fits(in, v) })
		if v == nil {
			return false
		}
		o := *v
		change(&o)
		*l = append(*l, o)
		return true
	}
}

func asIs[T any](*T) {}

func any2[T any](*prove.Input, T) bool { return true }

// inhabited fits ranges in use of which a node has an address.
func inhabited(in *prove.Input, e plandoc.Entry) bool {
	return e.Kind == plandoc.Allocation && slices.ContainsFunc(in.Nodes, func(n prove.Node) bool { return e.Prefix.Contains(n.Address) })
}

func inRange(breakIt func(*rapid.T, *plandoc.Entry)) mutant {
	return func(t *rapid.T, in *prove.Input) bool {
		e := pick(t, in.Plan.Entries, func(e plandoc.Entry) bool { return inhabited(in, e) })
		if e == nil {
			return false
		}
		breakIt(t, e)
		return true
	}
}

func entries(in *prove.Input) *[]plandoc.Entry { return &in.Plan.Entries }

// clinics returns the maps of two clinics.
func clinics(in *prove.Input) (a, b *wire.NetMap) {
	for i := range in.Maps {
		m := &in.Maps[i]
		switch {
		case m.Self.SiteKind != wire.Clinic:
		case a == nil:
			a = m
		case m.Self.Site != a.Self.Site:
			return a, m
		}
	}
	return a, nil
}

func toPeer(m *wire.NetMap) wire.Peer {
	return wire.Peer{
		Node: m.Self.Node, Site: m.Self.Site, PublicKey: m.Self.PublicKey,
		AllowedIPs: []netip.Prefix{netip.PrefixFrom(m.Self.Address, 32)},
	}
}

func mutants() map[string]mutant {
	single := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	all := map[string]mutant{
		"peers' allowed IPs swapped": inMap(hasPeers(2), func(_ *rapid.T, m *wire.NetMap) {
			m.Peers[0].AllowedIPs, m.Peers[1].AllowedIPs = m.Peers[1].AllowedIPs, m.Peers[0].AllowedIPs
		}),
		"peers' keys swapped": inMap(hasPeers(2), func(_ *rapid.T, m *wire.NetMap) {
			m.Peers[0].PublicKey, m.Peers[1].PublicKey = m.Peers[1].PublicKey, m.Peers[0].PublicKey
		}),
		"peer dropped":          inMap(hasPeers(1), func(_ *rapid.T, m *wire.NetMap) { m.Peers = m.Peers[1:] }),
		"peer doubled":          inMap(hasPeers(1), func(_ *rapid.T, m *wire.NetMap) { m.Peers = append(m.Peers, m.Peers[0]) }),
		"peer's addresses gone": inPeer(func(_ *rapid.T, p *wire.Peer) { p.AllowedIPs = nil }),
		"peer's address widened": inPeer(func(_ *rapid.T, p *wire.Peer) {
			p.AllowedIPs[0] = netip.PrefixFrom(p.AllowedIPs[0].Addr(), 31).Masked()
		}),
		"peer is the default way": inPeer(func(_ *rapid.T, p *wire.Peer) { p.AllowedIPs = append(p.AllowedIPs, prefix("0.0.0.0/0")) }),
		"peer is the IPv6 way":    inPeer(func(_ *rapid.T, p *wire.Peer) { p.AllowedIPs = append(p.AllowedIPs, prefix("::/0")) }),
		"peer has the hub":        inPeer(func(_ *rapid.T, p *wire.Peer) { p.AllowedIPs = append(p.AllowedIPs, prefix("10.0.0.1/32")) }),
		"peer has one more":       inPeer(func(_ *rapid.T, p *wire.Peer) { p.AllowedIPs = append(p.AllowedIPs, prefix("10.77.0.1/32")) }),
		"peer's address twice":    inPeer(func(_ *rapid.T, p *wire.Peer) { p.AllowedIPs = append(p.AllowedIPs, p.AllowedIPs[0]) }),
		"peer's key unknown":      inPeer(func(_ *rapid.T, p *wire.Peer) { p.PublicKey[31]++ }),
		"peer's key zero":         inPeer(func(_ *rapid.T, p *wire.Peer) { p.PublicKey = wgkey.PublicKey{} }),
		"peer's site wrong":       inPeer(func(_ *rapid.T, p *wire.Peer) { p.Site += "x" }),
		"peer's node wrong":       inPeer(func(_ *rapid.T, p *wire.Peer) { p.Node += "x" }),
		"peer is itself":          inAny(func(m *wire.NetMap) { m.Peers = append(m.Peers, toPeer(m)) }),
		"peer is the hub":         inPeer(func(_ *rapid.T, p *wire.Peer) { p.PublicKey = wgkey.PublicKey{255} }),

		"offer dropped": inMap(func(m wire.NetMap) bool { return len(m.Offers) > 0 }, func(_ *rapid.T, m *wire.NetMap) { m.Offers = m.Offers[1:] }),
		"offer doubled": inMap(func(m wire.NetMap) bool { return len(m.Offers) > 0 }, func(_ *rapid.T, m *wire.NetMap) { m.Offers = append(m.Offers, m.Offers[0]) }),
		"offer's from wide": inOffer(func(_ *rapid.T, o *wire.Offer) {
			o.From[0].Prefix = netip.PrefixFrom(o.From[0].Prefix.Addr(), 28).Masked()
		}),
		"offer's from all": inOffer(func(_ *rapid.T, o *wire.Offer) {
			o.From = append(o.From, wire.Source{Site: o.From[0].Site, Prefix: prefix("0.0.0.0/0")})
		}),
		"offer's from one":   inOffer(func(_ *rapid.T, o *wire.Offer) { o.From = o.From[1:] }),
		"offer's from twice": inOffer(func(_ *rapid.T, o *wire.Offer) { o.From = append(o.From, o.From[0]) }),
		"offer's from site":  inOffer(func(_ *rapid.T, o *wire.Offer) { o.From[0].Site += "x" }),
		"offer's from next":  inOffer(func(_ *rapid.T, o *wire.Offer) { o.From[0].Prefix = single(o.From[0].Prefix.Addr().Next()) }),
		"offer's port":       inOffer(func(_ *rapid.T, o *wire.Offer) { o.Port++ }),
		"offer's name":       inOffer(func(_ *rapid.T, o *wire.Offer) { o.Service += "x" }),
		"offer's AE":         inOffer(func(_ *rapid.T, o *wire.Offer) { o.AETitle += "X" }),
		"offer's protocol":   inOffer(func(_ *rapid.T, o *wire.Offer) { o.Protocol = "fhir" }),
		"offer's target":     inOffer(func(_ *rapid.T, o *wire.Offer) { o.Target = "192.168.178.99:1" }),
		"offer's from family": inOffer(func(_ *rapid.T, o *wire.Offer) {
			o.From[0].Prefix = netip.PrefixFrom(netip.AddrFrom16(o.From[0].Prefix.Addr().As16()), 128)
		}),

		"use dropped": inMap(func(m wire.NetMap) bool { return len(m.Uses) > 0 }, func(_ *rapid.T, m *wire.NetMap) { m.Uses = m.Uses[1:] }),
		"use doubled": inMap(func(m wire.NetMap) bool { return len(m.Uses) > 0 }, func(_ *rapid.T, m *wire.NetMap) { m.Uses = append(m.Uses, m.Uses[0]) }),
		"use's address": inUse(func(_ *rapid.T, u *wire.Use) {
			u.Address = netip.AddrPortFrom(u.Address.Addr().Prev(), u.Address.Port())
		}),
		"use is the hub's":   inUse(func(_ *rapid.T, u *wire.Use) { u.Address = netip.MustParseAddrPort("10.0.0.1:8080") }),
		"use's port":         inUse(func(_ *rapid.T, u *wire.Use) { u.Address = netip.AddrPortFrom(u.Address.Addr(), u.Address.Port()+1) }),
		"use's LAN port":     inUse(func(_ *rapid.T, u *wire.Use) { u.LANPort++ }),
		"use's name":         inUse(func(_ *rapid.T, u *wire.Use) { u.Service += "x" }),
		"use's site":         inUse(func(_ *rapid.T, u *wire.Use) { u.Site += "x" }),
		"use's mode":         inUse(func(_ *rapid.T, u *wire.Use) { u.Mode = wire.PassThrough }),
		"use's protocol":     inUse(func(_ *rapid.T, u *wire.Use) { u.Protocol = "fhir" }),
		"use's AE title":     inUse(func(_ *rapid.T, u *wire.Use) { u.AETitle += "X" }),
		"use's HL7 receiver": inUse(func(_ *rapid.T, u *wire.Use) { u.Receiver += "X" }),

		"map's format":  inAny(func(m *wire.NetMap) { m.Format++ }),
		"map's network": inAny(func(m *wire.NetMap) { m.Network += "x" }),
		"map's key":     inAny(func(m *wire.NetMap) { m.Self.PublicKey[31]++ }),
		"map's address": inAny(func(m *wire.NetMap) { m.Self.Address = m.Self.Address.Prev() }),
		"map's site":    inAny(func(m *wire.NetMap) { m.Self.Site += "x" }),
		"map's node":    inAny(func(m *wire.NetMap) { m.Self.Node += "x" }),
		"map's kind": inAny(func(m *wire.NetMap) {
			m.Self.SiteKind = map[wire.SiteKind]wire.SiteKind{wire.Clinic: wire.Center, wire.Center: wire.Clinic}[m.Self.SiteKind]
		}),
		"map's hub key":      inAny(func(m *wire.NetMap) { m.Hub.PublicKey[31]++ }),
		"map's hub":          inAny(func(m *wire.NetMap) { m.Hub.Address = m.Hub.Address.Next() }),
		"map's hub port":     inAny(func(m *wire.NetMap) { m.Hub.ControlPort++ }),
		"map's overlay less": inAny(func(m *wire.NetMap) { m.Overlay = m.Overlay[1:] }),
		"map's overlay more": inAny(func(m *wire.NetMap) { m.Overlay = append(m.Overlay, prefix("192.168.0.0/16")) }),
		"map dropped":        drop(func(in *prove.Input) *[]wire.NetMap { return &in.Maps }, any2[wire.NetMap]),
		"map doubled":        double(func(in *prove.Input) *[]wire.NetMap { return &in.Maps }, any2[wire.NetMap], asIs[wire.NetMap]),

		"hub's key":     func(_ *rapid.T, in *prove.Input) bool { in.Hub.PublicKey[31]++; return true },
		"hub's address": func(_ *rapid.T, in *prove.Input) bool { in.Hub.Address = in.Hub.Address.Next(); return true },
		"hub elsewhere": func(_ *rapid.T, in *prove.Input) bool {
			in.Hub.Address = netip.MustParseAddr("10.77.0.1")
			for i := range in.Maps {
				in.Maps[i].Hub.Address = in.Hub.Address
			}
			return true
		},
		"hub peer dropped": drop(func(in *prove.Input) *[]prove.HubPeer { return &in.HubPeers }, any2[prove.HubPeer]),
		"hub peer doubled": double(func(in *prove.Input) *[]prove.HubPeer { return &in.HubPeers }, any2[prove.HubPeer], asIs[prove.HubPeer]),
		"hub peer unknown": double(func(in *prove.Input) *[]prove.HubPeer { return &in.HubPeers }, any2[prove.HubPeer], func(h *prove.HubPeer) { h.PublicKey[31]++ }),
		"hub peer wide": func(t *rapid.T, in *prove.Input) bool {
			pick(t, in.HubPeers, every).AllowedIPs = []netip.Prefix{prefix("10.0.0.0/9")}
			return true
		},
		"hub peers swapped": func(_ *rapid.T, in *prove.Input) bool {
			in.HubPeers[0].AllowedIPs, in.HubPeers[1].AllowedIPs = in.HubPeers[1].AllowedIPs, in.HubPeers[0].AllowedIPs
			return true
		},

		"node dropped":       drop(func(in *prove.Input) *[]prove.Node { return &in.Nodes }, any2[prove.Node]),
		"node doubled":       double(func(in *prove.Input) *[]prove.Node { return &in.Nodes }, any2[prove.Node], asIs[prove.Node]),
		"node's key doubled": double(func(in *prove.Input) *[]prove.Node { return &in.Nodes }, any2[prove.Node], func(n *prove.Node) { n.ID += "x" }),
		"node moved":         func(t *rapid.T, in *prove.Input) bool { pick(t, in.Nodes, every).Site = "name9"; return true },
		"node's mapped LAN": func(t *rapid.T, in *prove.Input) bool {
			pick(t, in.Nodes, every).Mapped = []netip.Prefix{prefix("10.77.0.0/24")}
			return true
		},
		"address of another node": func(_ *rapid.T, in *prove.Input) bool {
			a, b := in.Nodes[0].Address, in.Nodes[1].Address
			in.Nodes[1].Address = a
			for i := range in.HubPeers {
				if in.HubPeers[i].PublicKey == in.Nodes[1].PublicKey {
					in.HubPeers[i].AllowedIPs = []netip.Prefix{single(a)}
				}
			}
			for i := range in.Maps {
				m := &in.Maps[i]
				if m.Self.Address == b {
					m.Self.Address = a
				}
				for j := range m.Peers {
					if m.Peers[j].AllowedIPs[0] == single(b) {
						m.Peers[j].AllowedIPs[0] = single(a)
					}
				}
				for j := range m.Uses {
					if m.Uses[j].Address.Addr() == b {
						m.Uses[j].Address = netip.AddrPortFrom(a, m.Uses[j].Address.Port())
					}
				}
				for j := range m.Offers {
					for k := range m.Offers[j].From {
						if m.Offers[j].From[k].Prefix == single(b) {
							m.Offers[j].From[k].Prefix = single(a)
						}
					}
				}
			}
			return true
		},

		"site dropped": drop(func(in *prove.Input) *[]prove.Site { return &in.Sites }, func(in *prove.Input, s prove.Site) bool {
			return slices.ContainsFunc(in.Nodes, func(n prove.Node) bool { return n.Site == s.Name })
		}),
		"site doubled": double(func(in *prove.Input) *[]prove.Site { return &in.Sites }, any2[prove.Site], asIs[prove.Site]),
		"site's kind": func(t *rapid.T, in *prove.Input) bool {
			s := pick(t, in.Sites, func(s prove.Site) bool {
				return slices.ContainsFunc(in.Nodes, func(n prove.Node) bool { return n.Site == s.Name })
			})
			s.Kind = map[wire.SiteKind]wire.SiteKind{wire.Clinic: wire.Center, wire.Center: wire.Clinic}[s.Kind]
			return true
		},
		"service dropped": drop(func(in *prove.Input) *[]prove.Service { return &in.Services }, func(in *prove.Input, v prove.Service) bool {
			return slices.ContainsFunc(in.Grants, func(g prove.Grant) bool { return g.Service == v.Name })
		}),
		"service doubled": double(func(in *prove.Input) *[]prove.Service { return &in.Services }, any2[prove.Service], asIs[prove.Service]),
		"grant dropped": drop(func(in *prove.Input) *[]prove.Grant { return &in.Grants }, func(in *prove.Input, g prove.Grant) bool {
			return slices.ContainsFunc(in.Maps, func(m wire.NetMap) bool {
				return m.Self.Site == g.Site && slices.ContainsFunc(m.Uses, func(u wire.Use) bool { return u.Service == g.Service })
			})
		}),
		"grant doubled": double(func(in *prove.Input) *[]prove.Grant { return &in.Grants }, any2[prove.Grant], asIs[prove.Grant]),

		"allocation shifted a little": inRange(func(_ *rapid.T, e *plandoc.Entry) {
			// Nodes have the first addresses of their /28.
			upper := e.Prefix.Addr().As4()
			upper[3] |= 8
			e.Prefix = netip.PrefixFrom(netip.AddrFrom4(upper), 29)
		}),
		"allocation shifted far":      inRange(func(_ *rapid.T, e *plandoc.Entry) { e.Prefix = prefix("10.77.0.0/28") }),
		"allocation next door":        inRange(func(_ *rapid.T, e *plandoc.Entry) { e.Prefix = prefix("10.0.0.0/28") }),
		"allocation widened":          inRange(func(_ *rapid.T, e *plandoc.Entry) { e.Prefix = prefix("10.0.0.0/24") }),
		"allocation out of all pools": inRange(func(_ *rapid.T, e *plandoc.Entry) { e.Prefix = prefix("10.150.0.0/28") }),
		"allocation of another":       inRange(func(_ *rapid.T, e *plandoc.Entry) { e.Owner = "name99" }),
		"allocation of nobody":        inRange(func(_ *rapid.T, e *plandoc.Entry) { e.Owner = "" }),
		"allocation quarantined":      inRange(func(_ *rapid.T, e *plandoc.Entry) { e.Owner, e.Until = "", issued }),
		"allocation only reserved":    inRange(func(_ *rapid.T, e *plandoc.Entry) { as(e, plandoc.Reserved, e.Prefix) }),
		"allocation doubled":          double(entries, inhabited, asIs[plandoc.Entry]),
		"allocation claimed":          double(entries, inhabited, func(e *plandoc.Entry) { e.Owner = "name99" }),
		"allocation nested":           double(entries, inhabited, func(e *plandoc.Entry) { e.Prefix = netip.PrefixFrom(e.Prefix.Addr(), 30) }),
		"allocation is foreign":       double(entries, inhabited, func(e *plandoc.Entry) { as(e, plandoc.Foreign, prefix("10.0.0.0/16")) }),
		"allocation is reserved":      double(entries, inhabited, func(e *plandoc.Entry) { as(e, plandoc.Reserved, e.Prefix) }),
		"allocation is a LAN":         double(entries, inhabited, func(e *plandoc.Entry) { as(e, plandoc.LAN, e.Prefix) }),
		"allocation is reported":      double(entries, inhabited, func(e *plandoc.Entry) { as(e, plandoc.Reported, e.Prefix) }),
		"LAN in a pool":               double(entries, inhabited, func(e *plandoc.Entry) { as(e, plandoc.LAN, prefix("10.77.0.0/24")) }),
		"report in a pool":            double(entries, inhabited, func(e *plandoc.Entry) { as(e, plandoc.Reported, prefix("10.77.0.0/24")) }),
		"report around all":           double(entries, inhabited, func(e *plandoc.Entry) { as(e, plandoc.Reported, prefix("0.0.0.0/0")) }),
		"allocation dropped":          drop(entries, inhabited),
		"pool dropped":                drop(entries, func(_ *prove.Input, e plandoc.Entry) bool { return e.Kind == plandoc.Pool }),
		"pool in an allocation": double(entries, inhabited, func(e *plandoc.Entry) {
			as(e, plandoc.Pool, netip.PrefixFrom(e.Prefix.Addr(), 30))
		}),
	}
	maps.Copy(all, conspiracies())
	maps.Copy(all, planMutants())
	maps.Copy(all, placeMutants())
	maps.Copy(all, memberMutants())
	maps.Copy(all, sharedMutants())
	return all
}

// TestEveryMutantIsFound breaks sound networks in each way: none may be proven.
func TestEveryMutantIsFound(t *testing.T) {
	for name, mutate := range mutants() {
		t.Run(name, func(t *testing.T) {
			applied := 0
			rapid.Check(t, func(t *rapid.T) {
				if applied == 20 {
					return
				}
				sound := compiled(t, genSnapshot().Draw(t, "network"))
				in := cloned(t, sound)
				if !mutate(t, &in) {
					return
				}
				applied++
				c, err := prove.Prove(in, stamp)
				if _, ok := errors.AsType[*prove.RefutedError](err); ok {
					return
				}
				a, _ := json.Marshal(sound)
				b, _ := json.Marshal(in)
				t.Fatalf("proven although broken: %+v, %v\nsound  %s\nbroken %s", c, err, a, b)
			})
			if applied == 0 && !testing.Short() {
				t.Error("no network had anything to break")
			}
		})
	}
}

// TestIncrementalIsFull leads one Prover through sound and broken networks and compares each answer with that of a new one.
func TestIncrementalIsFull(t *testing.T) {
	all := mutants()
	names := slices.Sorted(maps.Keys(all))
	rapid.Check(t, func(t *rapid.T) {
		p, err := prove.NewProver()
		if err != nil {
			t.Fatal(err)
		}
		var have prove.Input
		sound := compiled(t, genSnapshot().Draw(t, "network"))
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "other network") == 0 {
				sound = compiled(t, genSnapshot().Draw(t, "network"))
			}
			next := cloned(t, sound)
			for range rapid.IntRange(0, 2).Draw(t, "mutations") {
				name := rapid.SampledFrom(names).Draw(t, "mutant")
				if clinicsLeft(&next) {
					all[name](t, &next)
				}
			}
			d := prove.Between(have, next)
			if err := p.Update(d.Remove, d.Add); err != nil {
				t.Fatal(err)
			}
			have = next
			got, gotErr := p.Prove(stamp)
			want, wantErr := prove.Prove(next, stamp)
			a, b := answer(t, got, gotErr), answer(t, want, wantErr)
			if a != b {
				t.Fatalf("incremental and full differ:\n%s\n%s", a, b)
			}
		}
	})
}

// clinicsLeft reports whether an earlier mutation left what the mutants rely on.
func clinicsLeft(in *prove.Input) bool {
	a, b := clinics(in)
	if a == nil || b == nil || len(in.Nodes) < 2 || len(in.HubPeers) < 2 || len(in.Sites) < 3 {
		return false
	}
	for _, m := range in.Maps {
		for _, p := range m.Peers {
			if len(p.AllowedIPs) == 0 {
				return false
			}
		}
		for _, o := range m.Offers {
			if len(o.From) == 0 {
				return false
			}
		}
		if len(m.Overlay) == 0 {
			return false
		}
	}
	return true
}

func answer(t fataler, c prove.Certificate, err error) string {
	var v any = c
	if bad, ok := errors.AsType[*prove.RefutedError](err); ok {
		v = bad
	} else if err != nil {
		v = err.Error()
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
