package netmap_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// withRelays is a sample in which nobody can be called, with a hub that is a relay, and another relay at a site of its own.
func withRelays() netmap.Snapshot {
	s := withMembers()
	for i := range s.Sites {
		s.Sites[i].Endpoint = ""
	}
	s.HubRelay = true
	s.Sites = append(s.Sites, provisioning.Site{ID: "s9", Name: "relay-1", Kind: wire.Center, Endpoint: "relay-1.example.org:51820"})
	s.Ranges = append(s.Ranges, provisioning.Range{ID: 90, Kind: provisioning.RangeAllocation, Prefix: host("10.201.9.1"), Owner: "s9"})
	s.Nodes = append(s.Nodes, provisioning.Node{ID: "r9", Site: "s9", Kind: wire.Relay, PublicKey: key(90), Address: addr("10.201.9.1")})
	return s
}

func TestRelaysAreForThoseWhoCannotBeCalled(t *testing.T) {
	s := withRelays()
	hub := s.Hub.Endpoints
	if len(hub) == 0 {
		t.Fatal("the sample's hub cannot be called")
	}
	ways := append([]string{"relay-1.example.org:51820"}, hub...)
	m := compile(t, s, "n3")
	if len(m.Peers) != 1 || !slices.Equal(m.Peers[0].Relays, ways) || m.Peers[0].Keepalive != 25 || len(m.Peers[0].Endpoints) != 0 {
		t.Errorf("a clinic's peers are %+v, want the ways %v", m.Peers, ways)
	}
	if want := []wire.RelayServer{{Node: "r9", PublicKey: key(90), Endpoints: ways[:1]}}; !cmp.Equal(m.Relays, want) || m.Relay != nil {
		t.Errorf("a clinic is told of the relays %+v, %+v", m.Relays, m.Relay)
	}
	if m := compile(t, s, "u3"); len(m.Relays) != 0 || !slices.Equal(m.Peers[0].Relays, ways) {
		t.Errorf("a plain device has relays %+v and peers %+v", m.Relays, m.Peers)
	}
	for _, p := range compile(t, s, "n1").Peers {
		if !slices.Equal(p.Relays, ways) || p.Keepalive != 0 {
			t.Errorf("the center's peer %s has relays %v and a keepalive of %d", p.Node, p.Relays, p.Keepalive)
		}
	}
	table := compile(t, s, "r9").Relay
	if table == nil || len(table.Members) != 7 || len(table.Pairs) != 8 || len(compile(t, s, "r9").Peers) != 0 {
		t.Fatalf("the relay forwards %+v", table)
	}
	for _, c := range []struct {
		name   string
		change func(*netmap.Snapshot)
		ways   []string // of n3
		pairs  int
	}{
		{"the hub is none", func(s *netmap.Snapshot) { s.HubRelay = false }, ways[:1], 8},
		{"no relay but the hub", func(s *netmap.Snapshot) { s.Nodes = s.Nodes[:len(s.Nodes)-1] }, hub, 8},
		{"the relay's site has no endpoint", func(s *netmap.Snapshot) { s.Sites[len(s.Sites)-1].Endpoint = "" }, hub, 8},
		{"the center can be called", func(s *netmap.Snapshot) { s.Sites[0].Endpoint = "192.0.2.1:51820" }, nil, 4},
		{"the clinic can be called", func(s *netmap.Snapshot) { s.Sites[2].Endpoint = "192.0.2.1:51820" }, nil, 7},
	} {
		s := withRelays()
		c.change(&s)
		if m := compile(t, s, "n3"); !slices.Equal(m.Peers[0].Relays, c.ways) || len(c.ways) == 0 && len(m.Relays) > 0 {
			t.Errorf("%s: the clinic's peer has relays %v, want %v; sessions with %v", c.name, m.Peers[0].Relays, c.ways, m.Relays)
		}
		if got := netmap.NewIndex(s).Relaying(); len(got.Pairs) != c.pairs {
			t.Errorf("%s: %d pairs, want %d", c.name, len(got.Pairs), c.pairs)
		}
	}
}

// Of two centers that cannot be called the first by id begins.
func TestOneOfTwoCentersBegins(t *testing.T) {
	s := withRelays()
	s.Grants = append(s.Grants, provisioning.Grant{Service: "v1", Site: "s4", LANPort: 104, Created: issued})
	for id, want := range map[provisioning.NodeID]int{"n1": 25, "n4": 0, "n3": 25} {
		far := map[provisioning.NodeID]string{"n1": "n4", "n4": "n1", "n3": "n1"}[id]
		m := compile(t, s, id)
		i := slices.IndexFunc(m.Peers, func(p wire.Peer) bool { return p.Node == far })
		if i < 0 || m.Peers[i].Keepalive != want || len(m.Peers[i].Relays) == 0 {
			t.Errorf("the peers of %s are %+v", id, m.Peers)
		}
	}
}

// What relays forward is what the maps say: each pair that is to meet there, and no other, with one of the two to begin.
func TestRelaysForwardWhatMapsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "network")
		s.HubRelay = true
		x := netmap.NewIndex(s)
		table := x.Relaying()
		type pair [2]string
		keys := map[string]string{}
		forwards := map[pair]bool{}
		for _, p := range table.Pairs {
			a, b := table.Members[p[0]].PublicKey.String(), table.Members[p[1]].PublicKey.String()
			if p[0] >= p[1] {
				t.Fatalf("a pair of %v", p)
			}
			forwards[pair{min(a, b), max(a, b)}] = true
		}
		said, begins := map[pair]bool{}, map[pair]int{}
		for _, n := range s.Nodes {
			m, err := x.Compile(n.ID, issued, issued)
			if err != nil {
				continue
			}
			keys[string(n.ID)] = n.PublicKey.String()
			for _, p := range m.Peers {
				a, b := m.Self.PublicKey.String(), p.PublicKey.String()
				k := pair{min(a, b), max(a, b)}
				if len(p.Relays) == 0 {
					continue
				}
				if len(p.Endpoints) > 0 {
					t.Fatalf("node %s has both for %s", n.ID, p.Node)
				}
				said[k] = true
				if p.Keepalive > 0 {
					begins[k]++
				}
			}
		}
		if len(s.Hub.Endpoints) > 0 && !cmp.Equal(said, forwards) {
			t.Fatalf("maps say %v, relays forward %v", said, forwards)
		}
		for k := range said {
			if begins[k] != 1 {
				t.Fatalf("of %v %d begin", k, begins[k])
			}
		}
	})
}

// While a Node is carried to the hub over TCP, the hub's relay has its pairs although the other end can be called, and nobody else's.
func TestCarriedNodesAreRelayed(t *testing.T) {
	s := withRelays()
	for i := range s.Sites {
		if s.Sites[i].Endpoint == "" {
			s.Sites[i].Endpoint = string(s.Sites[i].ID) + ".example.org:51821"
		}
	}
	x := netmap.NewIndex(s)
	if got := x.RelayingWith(nil); len(got.Pairs) != 0 {
		t.Fatalf("relayed without need: %+v", got)
	}
	carried := key(90)
	for _, n := range s.Nodes {
		if n.ID == "n3" {
			carried = n.PublicKey
		}
	}
	got := x.RelayingWith(map[wgkey.PublicKey]bool{carried: true})
	if len(got.Pairs) == 0 {
		t.Fatal("a carried clinic meets nobody")
	}
	for _, p := range got.Pairs {
		if got.Members[p[0]].PublicKey != carried && got.Members[p[1]].PublicKey != carried {
			t.Errorf("the pair %v is not of the carried clinic", p)
		}
	}
	if other := x.RelayingWith(map[wgkey.PublicKey]bool{key(99): true}); len(other.Pairs) != 0 {
		t.Errorf("a key of nobody has %+v", other)
	}
}
