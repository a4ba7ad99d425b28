package wire_test

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// signedWorld is a network with an offline key: a center, two clinics, and a workstation of the first of them. Site i has 10.201.i.0/24.
type signedWorld struct {
	network ed25519.PrivateKey
	members []wire.Member
	signed  []*wire.SignedMember
}

func newSignedWorld(t testing.TB) signedWorld {
	w := signedWorld{network: seedKey(1)}
	for i, n := range []struct {
		site string
		kind wire.SiteKind
		node wire.NodeKind
	}{
		{"lab", wire.Center, wire.Gateway},
		{"nord", wire.Clinic, wire.Gateway},
		{"sued", wire.Clinic, wire.Gateway},
		{"nord", wire.Clinic, wire.Workstation},
		{"lab", wire.Center, wire.Gateway},
		{"third", wire.Center, wire.Gateway},
	} {
		third := map[string]int{"lab": 1, "nord": 2, "sued": 3, "third": 4}[n.site]
		m := wire.Member{
			Network: wire.NetworkID(publicOf(w.network)), Node: fmt.Sprintf("node_%d", i), Kind: n.node, Site: n.site, SiteKind: n.kind,
			PublicKey: wgkey.PublicKey{byte(i + 1)}, Prefixes: networks(fmt.Sprintf("10.201.%d.0/24", third)),
		}
		if i%2 == 0 {
			m.NextKey = wgkey.PublicKey{byte(i + 101)}
		}
		s, err := m.Sign(w.network)
		if err != nil {
			t.Fatal(err)
		}
		w.members, w.signed = append(w.members, m), append(w.signed, &s)
	}
	return w
}

func (w signedWorld) addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 201, w.members[i].Prefixes[0].Addr().As4()[2], byte(i + 1)})
}

func (w signedWorld) peer(i int) wire.Peer {
	m := w.members[i]
	p := wire.Peer{
		Node: m.Node, Kind: m.Kind, Site: m.Site, PublicKey: m.PublicKey, NextKey: m.NextKey, Member: w.signed[i],
		AllowedIPs: []netip.Prefix{netip.PrefixFrom(w.addr(i), 32)},
	}
	if p.Kind == wire.Gateway {
		p.Kind = ""
	}
	return p
}

// honest is the map of a Node as the coordinator makes it.
func (w signedWorld) honest(self int, peers ...int) wire.NetMap {
	p := w.peer(self)
	m := wire.NetMap{
		Format: wire.Format, Network: wire.NetworkID(publicOf(w.network)), Generation: 7, Delegated: true,
		Self: wire.Self{
			Node: p.Node, Kind: p.Kind, PublicKey: p.PublicKey, Site: p.Site, SiteKind: w.members[self].SiteKind, Address: w.addr(self), Member: w.signed[self],
		},
		Overlay: networks("10.201.0.0/16"),
		Hub:     wire.Hub{Address: netip.MustParseAddr("10.201.0.1"), PublicKey: wgkey.PublicKey{99}},
	}
	offer := wire.Offer{Service: "pacs", Port: 104, Also: []netip.AddrPort{netip.AddrPortFrom(w.addr(self), 11112)}}
	for _, i := range peers {
		p := w.peer(i)
		m.Peers = append(m.Peers, p)
		m.Uses = append(m.Uses, wire.Use{Service: "of-" + p.Node, Site: p.Site, Address: netip.AddrPortFrom(w.addr(i), 104)})
		offer.From = append(offer.From, wire.Source{Site: p.Site, Prefix: p.AllowedIPs[0]})
	}
	if len(offer.From) > 0 {
		m.Offers = []wire.Offer{offer}
	}
	return m
}

func diffMaps(a, b wire.NetMap) string {
	return cmp.Diff(a, b, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, netip.AddrPort{}))
}

func TestRestrictLeavesWhatWasSigned(t *testing.T) {
	w := newSignedWorld(t)
	for name, m := range map[string]wire.NetMap{
		"a center": w.honest(0, 1, 2, 3), "a clinic": w.honest(1, 0, 3, 4), "a workstation": w.honest(3, 0, 1), "alone": w.honest(2),
	} {
		got, unsigned := wire.Restrict(m, publicOf(w.network))
		if d := diffMaps(m, got); d != "" || len(unsigned) > 0 {
			t.Errorf("%s: %v, -before +after:\n%s", name, unsigned, d)
		}
	}
	m := w.honest(1, 0)
	m.Delegated, m.Peers[0].Member, m.Self.Member = false, nil, nil
	if got, unsigned := wire.Restrict(m, publicOf(w.network)); diffMaps(m, got) != "" || unsigned != nil {
		t.Errorf("a map that the network's own key has signed is restricted: %v", unsigned)
	}
}

func TestRestrictRefuses(t *testing.T) {
	w := newSignedWorld(t)
	for name, spoil := range map[string]func(*wire.NetMap){
		"self: not signed":   func(m *wire.NetMap) { m.Self.Member = nil },
		"self: another node": func(m *wire.NetMap) { m.Self.Member = w.signed[4] },
		"self: forged": func(m *wire.NetMap) {
			m.Self.Member = &wire.SignedMember{Payload: w.signed[1].Payload, Signature: make([]byte, 64)}
		},
		"self: another key":      func(m *wire.NetMap) { m.Self.PublicKey = wgkey.PublicKey{77} },
		"self: another kind":     func(m *wire.NetMap) { m.Self.Kind = wire.Workstation },
		"self: another site":     func(m *wire.NetMap) { m.Self.Site = "lab" },
		"self: a center":         func(m *wire.NetMap) { m.Self.SiteKind = wire.Center },
		"self: another address":  func(m *wire.NetMap) { m.Self.Address = w.addr(0) },
		"self: no address":       func(m *wire.NetMap) { m.Self.Address = netip.Addr{} },
		"self: a former address": func(m *wire.NetMap) { m.Self.Former = w.addr(2) },
		"self: outside the plan": func(m *wire.NetMap) { m.Overlay = networks("10.201.1.0/24") },
		"self: an unsigned key":  func(m *wire.NetMap) { m.Self.Rotate, m.Self.NextKey = wire.RotateTurn, wgkey.PublicKey{55} },
		"hub: at the center":     func(m *wire.NetMap) { m.Hub.Address = netip.MustParseAddr("10.201.1.1") },
		"hub: at this box":       func(m *wire.NetMap) { m.Hub.Address = m.Self.Address },
		"hub: nowhere":           func(m *wire.NetMap) { m.Hub.Address = netip.Addr{} },
		"hub: no key":            func(m *wire.NetMap) { m.Hub.PublicKey = wgkey.PublicKey{} },
		"hub: a node's key":      func(m *wire.NetMap) { m.Hub.PublicKey = m.Peers[0].PublicKey },
	} {
		m := w.honest(1, 0, 3)
		spoil(&m)
		got, unsigned := wire.Restrict(m, publicOf(w.network))
		refused := slices.ContainsFunc(unsigned, func(u wire.Unsigned) bool {
			return u.Refuses() && strings.HasPrefix(name, u.Subject+": ") && u.Reason != ""
		})
		if d := diffMaps(wire.NetMap{}, got); !refused || d != "" {
			t.Errorf("%s: %v\n%s", name, unsigned, d)
		}
	}
}

func TestRestrictDropsWhatWasNotSigned(t *testing.T) {
	w := newSignedWorld(t)
	for name, tc := range map[string]struct {
		spoil func(*wire.NetMap)
		// left are the nodes that stay peers, and subject is what the operator hears of.
		left    string
		subject string
	}{
		"a peer of the coordinator's own": {func(m *wire.NetMap) {
			p := w.peer(4)
			p.PublicKey = wgkey.PublicKey{200}
			m.Peers = append(m.Peers, p)
		}, "node_0 node_3", "peer node_4"},
		"its own key swapped in": {func(m *wire.NetMap) { m.Peers[0].PublicKey = wgkey.PublicKey{200} }, "node_3", "peer node_0"},
		"a peer without member":  {func(m *wire.NetMap) { m.Peers[0].Member = nil }, "node_3", "peer node_0"},
		"a peer of another site": {func(m *wire.NetMap) { m.Peers[0].Site = "third" }, "node_3", "peer node_0"},
		"another node":           {func(m *wire.NetMap) { m.Peers[0].Node = "node_9" }, "node_3", "peer node_9"},
		"another kind":           {func(m *wire.NetMap) { m.Peers[1].Kind = "" }, "node_0", "peer node_3"},
		"this box":               {func(m *wire.NetMap) { m.Peers = append(m.Peers, w.peer(1)) }, "node_0 node_3", "peer node_1"},
		"a second clinic":        {func(m *wire.NetMap) { m.Peers = append(m.Peers, w.peer(2)) }, "node_0 node_3", "peer node_2"},
		"another network's":      {func(m *wire.NetMap) { m.Peers[0].Member = otherNetwork(t, w.members[0]) }, "node_3", "peer node_0"},
		"a next key":             {func(m *wire.NetMap) { m.Peers[1].NextKey = wgkey.PublicKey{200} }, "node_0 node_3", "peer node_3"},
		"a prefix added": {func(m *wire.NetMap) {
			m.Peers[0].AllowedIPs = append(m.Peers[0].AllowedIPs, networks("192.168.1.0/24")...)
		}, "node_0 node_3", "peer node_0"},
		"a wider prefix":          {func(m *wire.NetMap) { m.Peers[0].AllowedIPs = networks("10.201.0.0/16") }, "node_3", "peer node_0"},
		"everything":              {func(m *wire.NetMap) { m.Peers[0].AllowedIPs = networks("0.0.0.0/0") }, "node_3", "peer node_0"},
		"the center's to another": {func(m *wire.NetMap) { m.Peers[1].AllowedIPs = m.Peers[0].AllowedIPs; m.Peers = m.Peers[1:] }, "", "use of-node_0"},
		"a use that goes to the hub": {func(m *wire.NetMap) {
			m.Uses[0].Address = netip.AddrPortFrom(m.Hub.Address, 104)
		}, "node_0 node_3", "use of-node_0"},
		"a use that names another site": {func(m *wire.NetMap) { m.Uses[0].Site = "third" }, "node_0 node_3", "use of-node_0"},
		"an offer to anybody": {func(m *wire.NetMap) {
			m.Offers[0].From = append(m.Offers[0].From, wire.Source{Site: "lab", Prefix: netip.MustParsePrefix("10.201.0.0/16")})
		}, "node_0 node_3", "offer pacs"},
		"an offer at the center's address": {func(m *wire.NetMap) { m.Offers[0].Also[0] = netip.AddrPortFrom(w.addr(0), 104) }, "node_0 node_3", "offer pacs"},
		"an overlay that leaks":            {func(m *wire.NetMap) { m.Overlay = networks("10.201.2.0/24") }, "node_3", "peer node_0"},
	} {
		m := w.honest(1, 0, 3)
		tc.spoil(&m)
		before := travel(t, m)
		got, unsigned := wire.Restrict(m, publicOf(w.network))
		var left []string
		for _, p := range got.Peers {
			left = append(left, p.Node)
		}
		named := slices.ContainsFunc(unsigned, func(u wire.Unsigned) bool { return u.Subject == tc.subject && !u.Refuses() && u.Reason != "" })
		if strings.Join(left, " ") != tc.left || !named {
			t.Errorf("%s: left %v, want %s; told %v, want %s", name, left, tc.left, unsigned, tc.subject)
		}
		w.believable(t, got)
		before.Delegated = true
		if d := diffMaps(before, m); d != "" {
			t.Errorf("%s: the map itself was changed:\n%s", name, d)
		}
	}
}

func otherNetwork(t *testing.T, m wire.Member) *wire.SignedMember {
	key := seedKey(9)
	m.Network = wire.NetworkID(publicOf(key))
	s, err := m.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return &s
}

// believable is what may be relied upon after Restrict, said without it: of what the offline key has signed nothing is missing.
func (w signedWorld) believable(t interface{ Errorf(string, ...any) }, m wire.NetMap) {
	if m.Self.Node == "" {
		return // refused
	}
	of := func(node string, key wgkey.PublicKey) (wire.Member, bool) {
		i := slices.IndexFunc(w.members, func(s wire.Member) bool { return s.Node == node && (s.PublicKey == key || s.NextKey == key) })
		if i < 0 || key.IsZero() {
			return wire.Member{}, false
		}
		return w.members[i], true
	}
	inside := func(s wire.Member, p netip.Prefix) bool {
		outer := s.Prefixes[0]
		return p.IsValid() && p.Bits() >= outer.Bits() && outer.Contains(p.Addr())
	}
	host := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	self, ok := of(m.Self.Node, m.Self.PublicKey)
	if !ok || self.Site != m.Self.Site || self.SiteKind != m.Self.SiteKind || !inside(self, host(m.Self.Address)) || m.Self.Former.IsValid() && !inside(self, host(m.Self.Former)) {
		t.Errorf("it believes of itself %+v", m.Self)
	}
	reach := map[wire.Source]bool{}
	for _, p := range m.Peers {
		s, ok := of(p.Node, p.PublicKey)
		if !ok || s.Node == self.Node || s.Site != p.Site || s.SiteKind == wire.Clinic && self.SiteKind == wire.Clinic && s.Site != self.Site {
			t.Errorf("it believes in %+v", p)
		}
		if !p.NextKey.IsZero() && p.NextKey != s.NextKey && p.NextKey != s.PublicKey {
			t.Errorf("it believes in a next key of %s", p.Node)
		}
		if len(p.AllowedIPs) == 0 || inside(s, host(m.Hub.Address)) {
			t.Errorf("%s has nothing, or the hub's address", p.Node)
		}
		for _, a := range p.AllowedIPs {
			if !inside(s, a) {
				t.Errorf("%v leads to %s", a, p.Node)
			}
			reach[wire.Source{Site: p.Site, Prefix: a}] = true
		}
	}
	if inside(self, host(m.Hub.Address)) {
		t.Errorf("the hub has an address of its own site")
	}
	for _, u := range m.Uses {
		leads := false
		for r := range reach {
			leads = leads || r.Site == u.Site && r.Prefix.Contains(u.Address.Addr())
		}
		if !leads {
			t.Errorf("use %s leads to %v", u.Service, u.Address)
		}
	}
	for _, o := range m.Offers {
		if len(o.From) == 0 {
			t.Errorf("offer %s is for nobody", o.Service)
		}
		for _, s := range o.From {
			if !reach[s] {
				t.Errorf("offer %s is for %+v", o.Service, s)
			}
		}
		for _, a := range o.Also {
			if !inside(self, host(a.Addr())) {
				t.Errorf("offer %s is at %v", o.Service, a)
			}
		}
	}
}

// A coordinator without the network's key knows all that was ever signed, and makes of it whatever map it likes.
func TestCoordinatorWithoutTheKeyAddsNothing(t *testing.T) {
	w := newSignedWorld(t)
	foreign := otherNetwork(t, w.members[0])
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.Custom(func(t *rapid.T) wgkey.PublicKey {
			return wgkey.PublicKey{byte(rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 6, 99, 101, 103, 105, 200}).Draw(t, "key"))}
		})
		addr := rapid.Custom(func(t *rapid.T) netip.Addr {
			return netip.AddrFrom4([4]byte{10, 201, byte(rapid.IntRange(0, 5).Draw(t, "third")), byte(rapid.IntRange(0, 7).Draw(t, "last"))})
		})
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			p, err := addr.Draw(t, "address").Prefix(rapid.SampledFrom([]int{0, 8, 16, 23, 24, 25, 28, 32}).Draw(t, "bits"))
			if err != nil {
				panic(err)
			}
			return p
		})
		member := rapid.SampledFrom(append(slices.Clone(w.signed), nil, foreign, &wire.SignedMember{Payload: w.signed[0].Payload, Signature: w.signed[1].Signature}))
		site := rapid.SampledFrom([]string{"lab", "nord", "sued", "third"})
		kind := rapid.SampledFrom([]wire.NodeKind{"", wire.Gateway, wire.Workstation})
		peers := rapid.SliceOfNDistinct(rapid.IntRange(0, 5), 0, 5, rapid.ID[int]).Draw(t, "peers")
		m := w.honest(rapid.IntRange(0, 5).Draw(t, "self"), peers...)
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			var p *wire.Peer
			if len(m.Peers) > 0 {
				p = &m.Peers[rapid.IntRange(0, len(m.Peers)-1).Draw(t, "peer")]
			} else {
				p = &wire.Peer{}
			}
			switch rapid.IntRange(0, 17).Draw(t, "change") {
			case 0:
				p.PublicKey = key.Draw(t, "key")
			case 1:
				p.NextKey = key.Draw(t, "next")
			case 2:
				p.Member = member.Draw(t, "member")
			case 3:
				p.AllowedIPs = append(p.AllowedIPs, prefix.Draw(t, "prefix"))
			case 4:
				p.Node = fmt.Sprintf("node_%d", rapid.IntRange(0, 6).Draw(t, "node"))
			case 5:
				p.Site = site.Draw(t, "site")
			case 6:
				p.Kind = kind.Draw(t, "kind")
			case 7:
				m.Peers = append(m.Peers, w.peer(rapid.IntRange(0, 5).Draw(t, "more")))
			case 8:
				m.Hub.Address = addr.Draw(t, "hub")
			case 9:
				m.Self.Address = addr.Draw(t, "self")
			case 10:
				m.Self.Member = member.Draw(t, "member")
			case 11:
				m.Self.PublicKey = key.Draw(t, "key")
			case 12:
				m.Self.Site, m.Self.SiteKind = site.Draw(t, "site"), rapid.SampledFrom([]wire.SiteKind{wire.Clinic, wire.Center}).Draw(t, "kind")
			case 13:
				m.Self.Former = addr.Draw(t, "former")
			case 14:
				m.Uses = append(m.Uses, wire.Use{Service: "more", Site: site.Draw(t, "site"), Address: netip.AddrPortFrom(addr.Draw(t, "to"), 104)})
			case 15:
				m.Offers = append(m.Offers, wire.Offer{
					Service: "more", From: []wire.Source{{Site: site.Draw(t, "site"), Prefix: prefix.Draw(t, "from")}},
					Also: []netip.AddrPort{netip.AddrPortFrom(addr.Draw(t, "also"), 104)},
				})
			case 16:
				m.Overlay = []netip.Prefix{prefix.Draw(t, "overlay")}
			case 17:
				m.Self.Node = fmt.Sprintf("node_%d", rapid.IntRange(0, 6).Draw(t, "node"))
			}
		}
		got, _ := wire.Restrict(m, publicOf(w.network))
		w.believable(t, got)
		// What is left stays when it is looked at again.
		if again, unsigned := wire.Restrict(got, publicOf(w.network)); got.Self.Node != "" && (diffMaps(got, again) != "" || len(unsigned) > 0) {
			t.Errorf("a second look drops more: %v", unsigned)
		}
	})
}

func TestSignedMapOfALargeCenterFits(t *testing.T) {
	m := center(20_000, 4)
	for i := range m.Peers {
		p, err := json.Marshal(wire.Member{
			Network: "abcdefghijklmnop", Node: m.Peers[i].Node, Kind: wire.Gateway, Site: m.Peers[i].Site, SiteKind: wire.Clinic, PublicKey: m.Peers[i].PublicKey,
			NextKey: wgkey.PublicKey{1, 0xff}, Prefixes: networks("fd12:3456:5678:abcd:1234::/80"),
		})
		if err != nil {
			t.Fatal(err)
		}
		m.Peers[i].Member = &wire.SignedMember{Payload: p, Signature: make([]byte, 64)}
	}
	s := encode(t, m).Sign(seedKey(1))
	f, err := json.Marshal(wire.Frame{NetMap: &s})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("20,000 signed clinics and 4 services: %.1f MiB", float64(len(f))/(1<<20))
	if len(f) > wire.MaxFrame {
		t.Errorf("the frame has %d bytes and %d are the limit", len(f), wire.MaxFrame)
	}
}

func BenchmarkRestrict(b *testing.B) {
	w := newSignedWorld(b)
	m := w.honest(0)
	for range 1000 {
		m.Peers = append(m.Peers, w.peer(1))
	}
	for b.Loop() {
		if got, _ := wire.Restrict(m, publicOf(w.network)); len(got.Peers) != 1000 {
			b.Fatal(len(got.Peers))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/peer")
}
