package netmap_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// withMembers is the sample with all kinds of nodes at the center and at one clinic, which uses its own service besides.
func withMembers() netmap.Snapshot {
	s := sample()
	s.Ranges = append(s.Ranges,
		provisioning.Range{ID: 20, Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeWorkstation, Prefix: netip.MustParsePrefix("10.201.10.0/28"), Owner: "s1"},
		provisioning.Range{ID: 21, Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeWorkstation, Prefix: netip.MustParsePrefix("10.201.20.0/28"), Owner: "s2"},
	)
	add := func(id string, site provisioning.SiteID, kind wire.NodeKind, k byte, a string) {
		s.Nodes = append(s.Nodes, provisioning.Node{ID: provisioning.NodeID(id), Site: site, Kind: kind, PublicKey: key(k), Address: addr(a)})
	}
	add("w1", "s1", wire.Workstation, 11, "10.201.10.1")
	add("w2", "s1", wire.Workstation, 12, "10.201.10.2")
	add("r1", "s1", wire.Relay, 13, "10.201.1.3")
	add("w3", "s2", wire.Workstation, 14, "10.201.20.1")
	add("u3", "s2", wire.Unmanaged, 15, "10.201.20.2")
	s.Grants = append(s.Grants, provisioning.Grant{Service: "v2", Site: "s2", LANPort: 2575, Created: issued})
	return s
}

// outline is who a node knows, and what it uses and offers to whom.
func outline(m wire.NetMap) string {
	var b strings.Builder
	for _, p := range m.Peers {
		fmt.Fprintf(&b, "%s(%s) ", p.Node, p.Kind)
	}
	for _, o := range m.Offers {
		fmt.Fprintf(&b, "offers %s to", o.Service)
		for _, f := range o.From {
			fmt.Fprintf(&b, " %v", f.Prefix.Addr())
		}
		b.WriteByte(' ')
	}
	for _, u := range m.Uses {
		fmt.Fprintf(&b, "uses %s at %v ", u.Service, u.Address)
	}
	return strings.TrimSpace(b.String())
}

func TestKindsOfNodes(t *testing.T) {
	s := withMembers()
	for id, want := range map[provisioning.NodeID]string{
		"n1": "n2() u3(unmanaged) w3(workstation) n3() offers pacs to 10.201.2.1 10.201.20.1 10.201.20.2 10.201.3.1 uses his at 10.201.2.1:2575",
		"n2": "n1() w1(workstation) w2(workstation) u3(unmanaged) w3(workstation) " +
			"offers his to 10.201.1.1 10.201.10.1 10.201.10.2 10.201.20.1 10.201.20.2 uses pacs at 10.201.1.1:11112",
		"n3": "n1() uses pacs at 10.201.1.1:11112",
		"w1": "n2() uses his at 10.201.2.1:2575",
		"r1": "",
		"w3": "n1() n2() uses his at 10.201.2.1:2575 uses pacs at 10.201.1.1:11112",
		"u3": "n1() n2() uses his at 10.201.2.1:2575 uses pacs at 10.201.1.1:11112",
	} {
		m := compile(t, s, id)
		if got := outline(m); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
		i := slices.IndexFunc(s.Nodes, func(n provisioning.Node) bool { return n.ID == id })
		if kind := s.Nodes[i].Kind; kind == wire.Gateway != (m.Self.Kind == "") || kind != wire.Gateway && m.Self.Kind != kind {
			t.Errorf("the map of %s, a %s, says %q", id, kind, m.Self.Kind)
		}
	}
	x := netmap.NewIndex(s)
	if o := x.Omissions(); len(o) != 0 {
		t.Errorf("sound objects were left out: %v", o)
	}
	if slices.ContainsFunc(x.Nodes(), func(n provisioning.Node) bool { return n.ID == "u3" }) || len(x.Nodes()) != len(s.Nodes)-1 {
		t.Errorf("the hub talks to %v", x.Nodes())
	}
}

// TestAWorkstationIsNotWhereItsSiteIs holds that nobody looks for one at the site's endpoint.
func TestAWorkstationIsNotWhereItsSiteIs(t *testing.T) {
	s := withMembers()
	s.Sites[1].Endpoint = "192.0.2.2:51820"
	for _, p := range compile(t, s, "n1").Peers {
		if called := len(p.Endpoints) > 0; called != (p.Node == "n2") {
			t.Errorf("the center calls %s at %v", p.Node, p.Endpoints)
		}
	}
	for _, p := range compile(t, s, "w3").Peers {
		if len(p.Endpoints) == 0 || p.Keepalive != 25 {
			t.Errorf("the workstation calls %s at %v and keeps it for %d s", p.Node, p.Endpoints, p.Keepalive)
		}
	}
}

func TestASiteWithoutGatewayHasNoPlace(t *testing.T) {
	s := withMembers()
	s.Nodes[1].State = provisioning.NodeQuarantined
	x := netmap.NewIndex(s)
	if at := x.At("v2"); at.IsValid() {
		t.Errorf("its service is at %v", at)
	}
	if got := outline(compile(t, s, "w3")); got != "n1() uses pacs at 10.201.1.1:11112" {
		t.Errorf("its workstation: %s", got)
	}
	if got := outline(compile(t, s, "w1")); got != "" {
		t.Errorf("who used its service: %s", got)
	}
	if o := x.Omissions(); len(o) != 0 {
		t.Errorf("left out are %v", o)
	}
}

func TestOnlyActiveNodesAreInMaps(t *testing.T) {
	for _, state := range []provisioning.NodeState{provisioning.NodeWaiting, provisioning.NodeQuarantined} {
		s := withMembers()
		s.Nodes[2].State = state
		// What is not there cannot be in the way, either.
		s.Nodes[2].PublicKey = s.Nodes[1].PublicKey
		if _, err := netmap.Compile(s, "n3"); !errors.Is(err, netmap.ErrInactive) || !strings.Contains(err.Error(), state.String()) {
			t.Errorf("%v: its own map: %v", state, err)
		}
		if got := outline(compile(t, s, "n1")); strings.Contains(got, "n3") || !strings.Contains(got, "n2()") || strings.Contains(got, "10.201.3.1") {
			t.Errorf("%v: the center has %s", state, got)
		}
		x := netmap.NewIndex(s)
		if slices.ContainsFunc(x.Nodes(), func(n provisioning.Node) bool { return n.ID == "n3" }) || len(x.Omissions()) > 0 {
			t.Errorf("%v: the hub talks to it, or it is a fault: %v", state, x.Omissions())
		}
	}
}

func TestAChangeOfAKey(t *testing.T) {
	next := key(50)
	for name, tc := range map[string]struct {
		step wire.RotateStep
		next wgkey.PublicKey
		// goesOn is whether the maps have the step and the key.
		goesOn bool
	}{
		"to be made":     {wire.RotateMake, wgkey.PublicKey{}, true},
		"told":           {wire.RotateWait, next, true},
		"turning":        {wire.RotateTurn, next, true},
		"made too early": {wire.RotateMake, next, false},
		"without key":    {wire.RotateTurn, wgkey.PublicKey{}, false},
		"odd":            {"odd", next, false},
		"another's":      {wire.RotateWait, key(3), false},
		"another's next": {wire.RotateWait, key(60), false},
		"the hub's":      {wire.RotateWait, key(99), false},
		"its own":        {wire.RotateWait, key(2), false},
	} {
		s := sample()
		s.Nodes[1].Rotate, s.Nodes[1].NextKey = tc.step, tc.next
		s.Nodes[2].Rotate, s.Nodes[2].NextKey = wire.RotateWait, key(60)
		self, lab := compile(t, s, "n2").Self, compile(t, s, "n1")
		step, told := tc.step, tc.next
		if !tc.goesOn {
			step, told = "", wgkey.PublicKey{}
		}
		if self.Rotate != step || self.NextKey != told || self.PublicKey != key(2) || lab.Peers[0].NextKey != told || lab.Peers[0].PublicKey != key(2) {
			t.Errorf("%s: the node has %+v, its peer %+v", name, self, lab.Peers[0])
		}
		x := netmap.NewIndex(s)
		i := slices.IndexFunc(x.Nodes(), func(n provisioning.Node) bool { return n.ID == "n2" })
		if n := x.Nodes()[i]; n.NextKey != told {
			t.Errorf("%s: the hub has %v", name, n.NextKey)
		}
		if omitted := fmt.Sprint(x.Omissions()); strings.Contains(omitted, "key change of node n2") == tc.goesOn {
			t.Errorf("%s: left out are %s", name, omitted)
		}
		// Whoever names another's next key harms that change as well, and no more.
		if lab.Peers[1].PublicKey != key(3) || (lab.Peers[1].NextKey == key(60)) == (name == "another's next") {
			t.Errorf("%s: the other node is %+v", name, lab.Peers[1])
		}
	}
}

func TestMapsCarryTheMembership(t *testing.T) {
	s := sample()
	s.Hub.URLs, s.Hub.Seal = []string{"https://vpn.example.org"}, []byte{1, 2}
	for i := range s.Nodes {
		s.Nodes[i].Member = &wire.SignedMember{Payload: []byte(s.Nodes[i].ID)}
	}
	m := compile(t, s, "n2")
	if d := cmp.Diff(s.Hub, m.Hub, equateNet); d != "" {
		t.Errorf("the hub: -want +got\n%s", d)
	}
	if string(m.Self.Member.Payload) != "n2" || string(m.Peers[0].Member.Payload) != "n1" {
		t.Errorf("the map has %+v and %+v", m.Self.Member, m.Peers[0].Member)
	}
}
