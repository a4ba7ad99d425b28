package prove_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
)

// TestAffectedIsNoMoreThanItMust holds that who is not concerned need not be looked at.
func TestAffectedIsNoMoreThanItMust(t *testing.T) {
	base := large(t, 5)
	for name, tt := range map[string]struct {
		change func(*netmap.Snapshot)
		want   []string
	}{
		"nothing":   {func(*netmap.Snapshot) {}, nil},
		"a clinic":  {func(s *netmap.Snapshot) { addSite(s, 6, wire.Clinic, 1) }, []string{"node6-0"}},
		"a LAN":     {func(s *netmap.Snapshot) { s.Ranges[5].Prefix = prefix("192.168.1.0/24") }, nil},
		"a report":  {func(s *netmap.Snapshot) { s.Ranges[9].Prefix = prefix("192.168.1.0/24") }, nil},
		"a grant":   {func(s *netmap.Snapshot) { s.Grants = s.Grants[2:] }, []string{"node0-0", "node1-0"}},
		"a mapping": {func(s *netmap.Snapshot) { mapLAN(s, 2, 0) }, []string{"node0-0", "node2-0"}},
		"a key":     {func(s *netmap.Snapshot) { s.Nodes[3].PublicKey = keyOf(999) }, []string{"node0-0", "node3-0"}},
		"a node":    {func(s *netmap.Snapshot) { s.Nodes = s.Nodes[:5] }, []string{"node0-0", "node5-0"}},
		"a service": {func(s *netmap.Snapshot) { s.Services[4].Port++ }, []string{"node0-0", "node4-0"}},
		"a relay of the center": {func(s *netmap.Snapshot) {
			s.Nodes = append(s.Nodes, provisioning.Node{ID: "relay", Site: "site0", Kind: wire.Relay, PublicKey: keyOf(999), Address: v4(10<<24 | 20)})
		}, []string{"relay"}},
		"a workstation of a clinic": {func(s *netmap.Snapshot) { dialIn(s, 3, 0, wire.Workstation, 1) }, []string{"node0-0", "node3-0", "workstation3-0"}},
		"a next key":                {func(s *netmap.Snapshot) { rotate(&s.Nodes[3], wire.RotateWait) }, []string{"node0-0", "node3-0"}},
		"a signature":               {func(s *netmap.Snapshot) { s.Nodes[3].Member = &wire.SignedMember{} }, []string{"node0-0", "node3-0"}},
		"what a box says of itself": {func(s *netmap.Snapshot) {
			s.Nodes[3].Facts.WANs, s.Nodes[3].LastSeen = []netip.Prefix{prefix("192.0.2.0/24")}, issued
		}, nil},
		"a pool":     {func(s *netmap.Snapshot) { s.Ranges = s.Ranges[1:] }, []string{"node0-0", "node1-0", "node2-0", "node3-0", "node4-0", "node5-0"}},
		"the hub":    {func(s *netmap.Snapshot) { s.Hub.ControlPort++ }, []string{"node0-0", "node1-0", "node2-0", "node3-0", "node4-0", "node5-0"}},
		"the center": {func(s *netmap.Snapshot) { s.Sites[0].Endpoint = "" }, []string{"node0-0", "node1-0", "node2-0", "node3-0", "node4-0", "node5-0"}},
	} {
		s := copied(base)
		tt.change(&s)
		a, b := prove.Export(base, netmap.NewIndex(base).Nodes()), prove.Export(s, netmap.NewIndex(s).Nodes())
		if got := prove.Affected(a, b); !slices.Equal(got, tt.want) {
			t.Errorf("%s: affected are %v, want %v", name, got, tt.want)
		}
		if got := prove.Affected(b, a); !slices.Equal(got, tt.want) {
			t.Errorf("%s, back: affected are %v, want %v", name, got, tt.want)
		}
	}
}

// Relays in service are in many maps, and theirs change with whoever meets through them.
func TestAffectedKnowsRelays(t *testing.T) {
	base := large(t, 3)
	addSite(&base, 9, wire.Center, 1)
	base.Sites[len(base.Sites)-1].Endpoint = "relay.example.org:51820"
	last := &base.Nodes[len(base.Nodes)-1]
	last.Kind = wire.Relay
	id, all := string(last.ID), []string{}
	for _, n := range base.Nodes {
		all = append(all, string(n.ID))
	}
	slices.Sort(all)
	for name, tt := range map[string]struct {
		change func(*netmap.Snapshot)
		want   []string
	}{
		"nothing":                           {func(*netmap.Snapshot) {}, nil},
		"a grant":                           {func(s *netmap.Snapshot) { s.Grants = s.Grants[2:] }, []string{"node0-0", "node1-0", id}},
		"a LAN":                             {func(s *netmap.Snapshot) { s.Nodes[3].LastSeen = issued }, nil},
		"the relay's key":                   {func(s *netmap.Snapshot) { s.Nodes[len(s.Nodes)-1].PublicKey = keyOf(999) }, all},
		"the relay's endpoint":              {func(s *netmap.Snapshot) { s.Sites[len(s.Sites)-1].Endpoint = "elsewhere:1" }, all},
		"the relay goes":                    {func(s *netmap.Snapshot) { s.Nodes = s.Nodes[:len(s.Nodes)-1] }, all},
		"the relay's key is another's, too": {func(s *netmap.Snapshot) { s.Nodes[2].PublicKey = s.Nodes[len(s.Nodes)-1].PublicKey }, all},
	} {
		s := copied(base)
		tt.change(&s)
		a, b := prove.Export(base, netmap.NewIndex(base).Nodes()), prove.Export(s, netmap.NewIndex(s).Nodes())
		if got := prove.Affected(a, b); !slices.Equal(got, tt.want) {
			t.Errorf("%s: affected are %v, want %v", name, got, tt.want)
		}
		if got := prove.Affected(b, a); !slices.Equal(got, tt.want) {
			t.Errorf("%s, back: affected are %v, want %v", name, got, tt.want)
		}
	}
}

// TestAffectedKnowsRivals has changes at one site that decide what becomes of another, because both want what only one can have.
func TestAffectedKnowsRivals(t *testing.T) {
	for name, tt := range map[string]struct {
		rivals, change func(*netmap.Snapshot)
		want           string
	}{
		"one key": {
			func(s *netmap.Snapshot) { s.Nodes[3].PublicKey = s.Nodes[1].PublicKey }, func(s *netmap.Snapshot) { s.Nodes[1].PublicKey = keyOf(999) }, "node3-0",
		},
		"one address": {
			func(s *netmap.Snapshot) { s.Nodes[3].Address = s.Nodes[1].Address }, func(s *netmap.Snapshot) { s.Nodes = slices.Delete(s.Nodes, 3, 4) }, "node1-0",
		},
		"one former address": {
			func(s *netmap.Snapshot) { renumber(s, 1); s.Nodes[3].Former = s.Nodes[1].Former }, func(s *netmap.Snapshot) { s.Nodes = slices.Delete(s.Nodes, 3, 4) }, "node1-0",
		},
		"one name": {
			func(s *netmap.Snapshot) {
				s.Services[3].Name = s.Services[1].Name
				s.Grants = slices.DeleteFunc(s.Grants, func(g provisioning.Grant) bool { return g.Service == "svc1" })
			},
			func(s *netmap.Snapshot) { s.Services[1].Name = "other" }, "node3-0",
		},
		"one range": {
			func(*netmap.Snapshot) {}, func(s *netmap.Snapshot) { allot(s, 3, provisioning.PurposeOverlay, prefix("10.0.0.33/32")) }, "node1-0",
		},
		"one door": {
			func(s *netmap.Snapshot) { s.Services[3].Receiver = s.Services[1].Receiver },
			func(s *netmap.Snapshot) {
				s.Grants = slices.DeleteFunc(s.Grants, func(g provisioning.Grant) bool { return g.Service == "svc1" })
			}, "node3-0",
		},
		"one door, of a service": {
			func(s *netmap.Snapshot) { s.Services[3].Receiver = s.Services[1].Receiver }, func(s *netmap.Snapshot) { s.Services[1].Receiver = "X" }, "node3-0",
		},
		"one place, of a service made anew": {
			func(s *netmap.Snapshot) {
				mapLAN(s, 0, 0)
				v := service(7, 0, wire.DICOM)
				v.Target, v.Created = s.Services[0].Target, issued
				s.Services = append(s.Services, v)
				s.Grants = append(s.Grants, provisioning.Grant{Service: v.ID, Site: "site2", LANPort: 104, Created: issued})
			},
			func(s *netmap.Snapshot) { s.Services[0].Created = issued.Add(time.Hour) }, "node2-0",
		},
		"one door, of a grant made anew": {
			func(s *netmap.Snapshot) { s.Services[3].Receiver = s.Services[1].Receiver },
			func(s *netmap.Snapshot) {
				for i := range s.Grants {
					if s.Grants[i].Service == "svc1" {
						s.Grants[i].Created = issued.Add(time.Hour)
					}
				}
			}, "node3-0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := copied(large(t, 5))
			tt.rivals(&before)
			after := copied(before)
			tt.change(&after)
			a, b := netmap.NewIndex(before), netmap.NewIndex(after)
			got := stays(t, a, b, prove.Export(before, a.Nodes()), prove.Export(after, b.Nodes()))
			if !slices.Contains(got, tt.want) {
				t.Errorf("affected are %v, want %s among them", got, tt.want)
			}
		})
	}
}
