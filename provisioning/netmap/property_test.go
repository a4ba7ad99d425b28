package netmap_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// genSnapshot draws networks, mostly sound ones, with every kind of damage that a database without constraints could hold. Names are
// made so that none is part of another.
func genSnapshot() *rapid.Generator[netmap.Snapshot] {
	return rapid.Custom(func(t *rapid.T) netmap.Snapshot {
		s := netmap.Snapshot{
			Network: "net", Generation: 3, Now: issued, Expires: expires,
			Hub:    wire.Hub{PublicKey: wgkey.PublicKey{255}, Endpoints: []string{"hub:1"}, Address: addr("10.0.0.1"), ControlPort: 8080},
			Ranges: []provisioning.Range{{ID: 1, Kind: provisioning.RangePool, Prefix: netip.MustParsePrefix("10.0.0.0/16")}},
		}
		small := rapid.IntRange(0, 6)
		rare := func(label string) bool { return rapid.IntRange(0, 19).Draw(t, label) == 0 }
		for i := range rapid.IntRange(0, 6).Draw(t, "sites") {
			site := provisioning.Site{
				ID: provisioning.SiteID(fmt.Sprintf("site%d", i)), Name: fmt.Sprintf("name%d", i),
				Kind: rapid.SampledFrom([]wire.SiteKind{wire.Clinic, wire.Clinic, wire.Center}).Draw(t, "kind"),
			}
			if rapid.Bool().Draw(t, "reachable") {
				site.Endpoint = fmt.Sprintf("endpoint%d:1", i)
			}
			s.Sites = append(s.Sites, site)
			r := provisioning.Range{
				ID: int64(10 + i), Kind: provisioning.RangeAllocation, Owner: string(site.ID),
				Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 0}), 28),
			}
			switch {
			case rare("quarantined"):
				r.Until, r.Owner = issued, ""
			case rare("ending"):
				r.Until = expires
			}
			s.Ranges = append(s.Ranges, r)
			if rapid.Bool().Draw(t, "mapped") {
				m := provisioning.Range{
					ID: int64(30 + i), Kind: provisioning.RangeAllocation, Owner: string(site.ID), Purpose: provisioning.PurposeMapped,
					Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 128}), 28), Maps: netip.MustParsePrefix("192.168.178.0/28"),
				}
				if rare("mapped onto another's") {
					m.Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(small.Draw(t, "net")), 0}), 28)
				}
				s.Ranges = append(s.Ranges, m)
			}
		}
		for i := range rapid.IntRange(0, 8).Draw(t, "nodes") {
			home := small.Draw(t, "home")
			n := provisioning.Node{
				ID: provisioning.NodeID(fmt.Sprintf("node%d", i)), Site: provisioning.SiteID(fmt.Sprintf("site%d", home)), Kind: wire.Gateway,
				PublicKey: wgkey.PublicKey{byte(i + 1)}, Address: netip.AddrFrom4([4]byte{10, 0, byte(home + 1), byte(i + 1)}),
			}
			n.Kind = rapid.SampledFrom([]wire.NodeKind{wire.Gateway, wire.Gateway, wire.Workstation, wire.Unmanaged, wire.Relay}).Draw(t, "node kind")
			n.Rank = rapid.IntRange(0, 2).Draw(t, "rank")
			n.Endpoint = rapid.SampledFrom([]string{"", "", "node:1"}).Draw(t, "endpoint")
			if rare("odd kind") {
				n.Kind = "printer"
			}
			if rare("inactive") {
				n.State = provisioning.NodeQuarantined
			}
			n.Rotate = rapid.SampledFrom([]wire.RotateStep{"", "", wire.RotateMake, wire.RotateWait, wire.RotateTurn}).Draw(t, "rotate")
			if n.Rotate == wire.RotateWait || n.Rotate == wire.RotateTurn || rare("too early") {
				n.NextKey = wgkey.PublicKey{byte(i + 100)}
				if rare("claimed next key") {
					n.NextKey = wgkey.PublicKey{byte(small.Draw(t, "next key"))}
				}
			}
			if rare("stolen key") {
				n.PublicKey = wgkey.PublicKey{byte(small.Draw(t, "key"))}
			}
			if rare("stolen address") {
				n.Address = netip.AddrFrom4([4]byte{10, 0, byte(small.Draw(t, "net")), byte(small.Draw(t, "host"))})
			}
			if rapid.IntRange(0, 3).Draw(t, "renumbered") == 0 {
				n.Former = netip.AddrFrom4([4]byte{10, 0, byte(home + 1), byte(i + 5)}) // of node i+4, if that has the same home
			}
			s.Nodes = append(s.Nodes, n)
		}
		for i := range rapid.IntRange(0, 6).Draw(t, "services") {
			v := provisioning.Service{
				ID: provisioning.ServiceID(fmt.Sprintf("service%d", i)), Name: fmt.Sprintf("offer%d", i), Mode: wire.Queued, Target: "t:1",
				Site:     provisioning.SiteID(fmt.Sprintf("site%d", small.Draw(t, "owner"))),
				Protocol: rapid.SampledFrom([]wire.Protocol{wire.DICOM, wire.HL7}).Draw(t, "protocol"),
				Port:     uint16(small.Draw(t, "port")), Created: issued.Add(time.Duration(i) * time.Second),
			}
			if v.Protocol == wire.DICOM {
				v.AETitle = fmt.Sprintf("AE%d", small.Draw(t, "ae"))
			}
			if rapid.Bool().Draw(t, "on the LAN") {
				v.Target = fmt.Sprintf("192.168.178.%d:104", small.Draw(t, "machine"))
			}
			if rapid.IntRange(0, 3).Draw(t, "fixed") == 0 {
				v.Address = netip.AddrFrom4([4]byte{10, 0, byte(small.Draw(t, "fixed net")), byte(8 + small.Draw(t, "fixed host"))})
			}
			s.Services = append(s.Services, v)
		}
		for i := range rapid.IntRange(0, 14).Draw(t, "grants") {
			s.Grants = append(s.Grants, provisioning.Grant{
				Service: provisioning.ServiceID(fmt.Sprintf("service%d", small.Draw(t, "service"))),
				Site:    provisioning.SiteID(fmt.Sprintf("site%d", small.Draw(t, "user"))),
				LANPort: uint16(small.Draw(t, "lan port")), Created: issued.Add(time.Duration(i) * time.Second),
			})
		}
		return s
	})
}

// maps compiles all that can be.
func maps(s netmap.Snapshot) map[provisioning.NodeID]wire.NetMap {
	x := netmap.NewIndex(s)
	out := map[provisioning.NodeID]wire.NetMap{}
	for _, n := range s.Nodes {
		if m, err := x.Compile(n.ID, issued, expires); err == nil {
			out[n.ID] = m
		}
	}
	return out
}

// granted asks the snapshot itself, in the most naive way, whether user may use a service of owner.
func granted(s netmap.Snapshot, service string, owner, user provisioning.SiteID) bool {
	return slices.ContainsFunc(s.Grants, func(g provisioning.Grant) bool {
		return g.Site == user && slices.ContainsFunc(s.Services, func(v provisioning.Service) bool {
			return v.ID == g.Service && v.Site == owner && (service == "" || v.Name == service)
		})
	})
}

func TestNothingWithoutAGrant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		sites := map[string]provisioning.Site{}
		for _, v := range s.Sites {
			sites[v.Name] = v
		}
		for id, m := range maps(s) {
			self := sites[m.Self.Site]
			if m.Self.Kind != "" && len(m.Offers) > 0 || m.Self.Kind == wire.Relay && len(m.Peers)+len(m.Uses) > 0 {
				t.Fatalf("%s, a %s, has %d peers, offers %v and uses %v", id, m.Self.Kind, len(m.Peers), m.Offers, m.Uses)
			}
			for _, p := range m.Peers {
				far := sites[p.Site]
				// One of two is a gateway, of the site whose services are used.
				serves := p.Kind == "" && granted(s, "", far.ID, self.ID)
				served := m.Self.Kind == "" && granted(s, "", self.ID, far.ID)
				if !serves && !served || m.Self.Kind == "" && p.Kind == "" && self.ID == far.ID {
					t.Fatalf("%s, a %q, has the peer %s, a %q, and no grant links %s and %s", id, m.Self.Kind, p.Node, p.Kind, self.Name, far.Name)
				}
				if self.ID != far.ID && self.Kind == wire.Clinic && far.Kind == wire.Clinic {
					t.Fatalf("the clinics %s and %s meet", self.Name, far.Name)
				}
			}
			for _, o := range m.Offers {
				if len(o.From) == 0 {
					t.Fatalf("%s offers %s to nobody", id, o.Service)
				}
				for _, f := range o.From {
					if !granted(s, o.Service, self.ID, sites[f.Site].ID) {
						t.Fatalf("%s offers %s to %s without a grant", id, o.Service, f.Site)
					}
				}
			}
			for _, u := range m.Uses {
				if u.Site == self.Name && m.Self.Kind == "" {
					t.Fatalf("the gateway %s uses %s of its own site", id, u.Service)
				}
				if !granted(s, u.Service, sites[u.Site].ID, self.ID) {
					t.Fatalf("%s uses %s of %s without a grant", id, u.Service, u.Site)
				}
			}
		}
	})
}

func TestClinicsKnowNothingOfEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		all := maps(s)
		for id, m := range all {
			if m.Self.SiteKind != wire.Clinic {
				continue
			}
			b, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			text := string(b)
			for other, o := range all {
				if o.Self.SiteKind != wire.Clinic || o.Self.Site == m.Self.Site {
					continue
				}
				secrets := []string{o.Self.Site + `"`, string(other) + `"`, o.Self.PublicKey.String() + `"`}
				own := []netip.Addr{o.Self.Address, o.Self.Former}
				for _, offer := range o.Offers {
					for _, p := range offer.Also {
						own = append(own, p.Addr())
					}
				}
				for _, a := range own {
					if a.IsValid() {
						secrets = append(secrets, a.String()+`"`, a.String()+"/", a.String()+":")
					}
				}
				for _, secret := range secrets {
					if strings.Contains(text, `"`+secret) {
						t.Fatalf("the map of %s holds %s of %s: %s", id, secret, other, text)
					}
				}
			}
		}
	})
}

func TestMapsFitEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		all := maps(s)
		hub := map[provisioning.NodeID]provisioning.Node{}
		for _, n := range netmap.NewIndex(s).Nodes() {
			hub[n.ID] = n
		}
		for id, m := range all {
			n, there := hub[id]
			if there == (m.Self.Kind == wire.Unmanaged) {
				t.Fatalf("the hub knows %s, a %q: %v", id, m.Self.Kind, there)
			}
			if there && (n.Address != m.Self.Address || n.Former != m.Self.Former || n.NextKey != m.Self.NextKey) {
				t.Fatalf("the hub knows %s at %s and %s, its map has %s and %s", id, n.Address, n.Former, m.Self.Address, m.Self.Former)
			}
			fitPeers(t, s, all, id, m)
			doors := map[string]string{}
			for _, u := range m.Uses {
				fitUse(t, all, id, m, u)
				door := fmt.Sprint(u.LANPort, u.AETitle, u.Receiver)
				if doors[door] != "" {
					t.Fatalf("%s cannot tell %s from %s", id, u.Service, doors[door])
				}
				doors[door] = u.Service
			}
		}
	})
}

// fitPeers holds that a map's peers are who they say and have disjoint prefixes that are theirs.
func fitPeers(t *rapid.T, s netmap.Snapshot, all map[provisioning.NodeID]wire.NetMap, id provisioning.NodeID, m wire.NetMap) {
	owner := map[netip.Prefix]string{}
	keys := map[wgkey.PublicKey]bool{m.Hub.PublicKey: true, m.Self.PublicKey: true}
	for _, p := range m.Peers {
		if keys[p.PublicKey] || keys[p.NextKey] {
			t.Fatalf("%s has one key twice", id)
		}
		if keys[p.PublicKey] = true; !p.NextKey.IsZero() {
			keys[p.NextKey] = true
		}
		if far := all[provisioning.NodeID(p.Node)].Self; far.NextKey != p.NextKey || far.Kind != p.Kind {
			t.Fatalf("%s has of %s the next key %v and kind %q, that has %v and %q", id, p.Node, p.NextKey, p.Kind, far.NextKey, far.Kind)
		}
		far, ok := all[provisioning.NodeID(p.Node)]
		if !ok || !slices.ContainsFunc(far.Peers, func(q wire.Peer) bool { return q.Node == string(id) && q.PublicKey == m.Self.PublicKey }) {
			t.Fatalf("%s has the peer %s, which does not have it", id, p.Node)
		}
		uses := slices.ContainsFunc(m.Uses, func(u wire.Use) bool { return u.Site == p.Site })
		for _, a := range p.AllowedIPs {
			for b, other := range owner {
				if a.Overlaps(b) {
					t.Fatalf("%s: %s of %s and %s of %s overlap", id, a, p.Node, b, other)
				}
			}
			owner[a] = p.Node
			if a.Contains(m.Self.Address) || a.Contains(m.Hub.Address) || m.Self.Former.IsValid() && a.Contains(m.Self.Former) {
				t.Fatalf("%s: peer %s has %s", id, p.Node, a)
			}
			own := a.IsSingleIP() && (a.Addr() == far.Self.Address || a.Addr() == far.Self.Former)
			if !own && (!uses || !isPlace(s, far.Self.Site, a)) {
				t.Fatalf("%s: peer %s has %s, which is none of its addresses (uses something there: %v)", id, p.Node, a, uses)
			}
		}
	}
}

// isPlace asks the snapshot itself whether a prefix stands for machines or services of a site.
func isPlace(s netmap.Snapshot, name string, a netip.Prefix) bool {
	return slices.ContainsFunc(s.Sites, func(v provisioning.Site) bool {
		return v.Name == name && (slices.ContainsFunc(s.Ranges, func(r provisioning.Range) bool {
			return r.Prefix == a && r.Maps.IsValid() && r.Owner == string(v.ID)
		}) || slices.ContainsFunc(s.Services, func(o provisioning.Service) bool {
			return a.IsSingleIP() && o.Site == v.ID && o.Address == a.Addr()
		}))
	})
}

// fitUse holds that a use leads to one peer, which offers that service alone at that place to both addresses of the user.
func fitUse(t *rapid.T, all map[provisioning.NodeID]wire.NetMap, id provisioning.NodeID, m wire.NetMap, u wire.Use) {
	i := slices.IndexFunc(m.Peers, func(p wire.Peer) bool {
		return slices.ContainsFunc(p.AllowedIPs, func(a netip.Prefix) bool { return a.Contains(u.Address.Addr()) })
	})
	if i < 0 {
		t.Fatalf("%s uses %s at %s, which is no peer", id, u.Service, u.Address)
	}
	far, there := all[provisioning.NodeID(m.Peers[i].Node)], []string{}
	for _, o := range far.Offers {
		for _, place := range places(far, o) {
			if place == u.Address {
				there = append(there, o.Service)
			}
		}
		if o.Service != u.Service {
			continue
		}
		for _, a := range []netip.Addr{m.Self.Address, m.Self.Former} {
			if a.IsValid() && !slices.ContainsFunc(o.From, func(f wire.Source) bool { return f.Prefix.Contains(a) }) {
				t.Fatalf("%s uses %s, which does not admit its address %s", id, u.Service, a)
			}
		}
	}
	if len(there) != 1 || there[0] != u.Service {
		t.Fatalf("%s uses %s at %s, where %s has %v", id, u.Service, u.Address, far.Self.Node, there)
	}
}

// places are all at which a node has an offer.
func places(m wire.NetMap, o wire.Offer) []netip.AddrPort {
	list := append([]netip.AddrPort{netip.AddrPortFrom(m.Self.Address, o.Port)}, o.Also...)
	if m.Self.Former.IsValid() {
		list = append(list, netip.AddrPortFrom(m.Self.Former, o.Port))
	}
	return list
}

// TestMeetIsWhatMapsSay: Meet answers for two nodes what the maps say.
func TestMeetIsWhatMapsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		x := netmap.NewIndex(s)
		all := maps(s)
		for a, m := range all {
			peers := map[string]bool{}
			for _, p := range m.Peers {
				peers[p.Node] = true
			}
			for b := range all {
				if got := x.Meet(a, b); got != peers[string(b)] {
					t.Fatalf("%s meets %s: %v, and the map says %v", a, b, got, peers[string(b)])
				}
			}
		}
	})
}

func TestCompileIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		o := s
		o.Sites, o.Nodes, o.Services = slices.Clone(s.Sites), slices.Clone(s.Nodes), slices.Clone(s.Services)
		o.Grants, o.Ranges = slices.Clone(s.Grants), slices.Clone(s.Ranges)
		r.Shuffle(len(o.Sites), func(i, j int) { o.Sites[i], o.Sites[j] = o.Sites[j], o.Sites[i] })
		r.Shuffle(len(o.Nodes), func(i, j int) { o.Nodes[i], o.Nodes[j] = o.Nodes[j], o.Nodes[i] })
		r.Shuffle(len(o.Services), func(i, j int) { o.Services[i], o.Services[j] = o.Services[j], o.Services[i] })
		r.Shuffle(len(o.Grants), func(i, j int) { o.Grants[i], o.Grants[j] = o.Grants[j], o.Grants[i] })
		r.Shuffle(len(o.Ranges), func(i, j int) { o.Ranges[i], o.Ranges[j] = o.Ranges[j], o.Ranges[i] })
		a, b := maps(s), maps(o)
		if len(a) != len(b) {
			t.Fatalf("%d and %d maps", len(a), len(b))
		}
		for id := range a {
			x, err := json.Marshal(a[id])
			if err != nil {
				t.Fatal(err)
			}
			y, err := json.Marshal(b[id])
			if err != nil {
				t.Fatal(err)
			}
			if string(x) != string(y) {
				t.Fatalf("the map of %s depends on the order of rows:\n%s\n%s", id, x, y)
			}
		}
	})
}
