package netmap_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
)

// paired is mapped with a second gateway at the center.
func paired() netmap.Snapshot {
	s := mapped()
	second := s.Nodes[0]
	second.ID, second.PublicKey, second.Address = "n5", key(5), addr("10.201.1.2")
	s.Nodes = append(s.Nodes, second)
	return s
}

// A center's second gateway has all that the first has, and its users are told what they may move to it.
func TestCenterWithTwoGateways(t *testing.T) {
	s := paired()
	nord, first, second := compile(t, s, "n2"), compile(t, s, "n1"), compile(t, s, "n5")
	shared := []wire.Shared{{Site: "lab", Gateways: []string{"n1", "n5"}, Prefixes: []netip.Prefix{host("10.201.40.1")}}}
	for name, m := range map[string]wire.NetMap{"a user's map": nord, "the first one's map": first, "the second one's map": second} {
		if !reflect.DeepEqual(m.Shared, shared) {
			t.Errorf("%s has %+v", name, m.Shared)
		}
	}
	if a, b := allowed(t, nord, "n1"), allowed(t, nord, "n5"); a != "[10.201.1.1/32 10.201.40.1/32]" || b != "[10.201.1.2/32]" {
		t.Errorf("who knows nothing of that uses %s of the first and %s of the second", a, b)
	}
	if a, b := offerOf(t, first, "pacs").Also, offerOf(t, second, "pacs").Also; fmt.Sprint(a) != "[10.201.40.1:11112]" || fmt.Sprint(b) != fmt.Sprint(a) {
		t.Errorf("the first offers the PACS at %v, the second at %v", a, b)
	}
	// The center's users are clinics: which of their boxes is used is not for it to choose.
	if m := compile(t, mapped(), "n2"); m.Shared != nil {
		t.Errorf("with one gateway %+v", m.Shared)
	}
	s.Sites[0].Kind = wire.Clinic
	if m := compile(t, s, "n5"); m.Shared != nil {
		t.Errorf("at a clinic %+v", m.Shared)
	}
}

func TestRankOfGateways(t *testing.T) {
	for name, c := range map[string]struct {
		first, second int
		want          string
	}{
		"none":     {0, 0, "[n1 n5]"},
		"the same": {3, 3, "[n1 n5]"},
		"one":      {0, 9, "[n5 n1]"},
		"both":     {2, 1, "[n5 n1]"},
		"in order": {1, 2, "[n1 n5]"},
	} {
		t.Run(name, func(t *testing.T) {
			s := paired()
			s.Nodes[0].Rank, s.Nodes[len(s.Nodes)-1].Rank = c.first, c.second
			m := compile(t, s, "n2")
			if got := fmt.Sprint(m.Shared[0].Gateways); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if got := allowed(t, m, m.Shared[0].Gateways[0]); got != map[string]string{
				"[n1 n5]": "[10.201.1.1/32 10.201.40.1/32]", "[n5 n1]": "[10.201.1.2/32 10.201.40.1/32]",
			}[c.want] {
				t.Errorf("the first has %s", got)
			}
		})
	}
}

// The site's endpoint is where one machine is, whatever the ranks are. The other is called at its own, or met at a relay.
func TestEndpointsOfTwoGateways(t *testing.T) {
	s := paired()
	s.HubRelay = true
	second := &s.Nodes[len(s.Nodes)-1]
	second.Rank = 1
	ways := func(m wire.NetMap, node string) string {
		for _, p := range m.Peers {
			if p.Node == node {
				return fmt.Sprint(p.Endpoints, p.Relays)
			}
		}
		return "none"
	}
	nord := compile(t, s, "n2")
	if a, b := ways(nord, "n1"), ways(nord, "n5"); a != "[198.51.100.1:51820] []" || b != "[] [vpn.example.org:51820]" {
		t.Errorf("the first is reached at %s, the second at %s", a, b)
	}
	if pairs := netmap.NewIndex(s).Relaying().Pairs; len(pairs) == 0 {
		t.Error("the relay forwards nothing to the second gateway")
	}
	second.Endpoint = "198.51.100.2:51820"
	if got := ways(compile(t, s, "n2"), "n5"); got != "[198.51.100.2:51820] []" {
		t.Errorf("with an endpoint of its own the second is reached at %s", got)
	}
	if pairs := netmap.NewIndex(s).Relaying().Pairs; len(pairs) != 0 {
		t.Errorf("the relay forwards %v though both can be called", pairs)
	}
}

// Two gateways of one site do not both fetch all studies.
func TestOneOfTwoGatewaysPolls(t *testing.T) {
	s := paired()
	for i := range s.Grants {
		if s.Grants[i].Service == "v4" {
			s.Grants[i].Poll = wire.PollOptions{Target: "192.168.0.2:104", CalledAE: "PACS"}
		}
	}
	poll := func(node string) wire.PollOptions {
		for _, u := range compile(t, s, provisioning.NodeID(node)).Uses {
			if u.Service == "ct-s2" {
				return u.Poll
			}
		}
		return wire.PollOptions{}
	}
	if a, b := poll("n1"), poll("n5"); a == (wire.PollOptions{}) || b != (wire.PollOptions{}) {
		t.Errorf("the first polls %+v, the second %+v", a, b)
	}
}
