package prove_test

import (
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// TestAllMembersAreProven has every state that a coordinator may bring a network into.
func TestAllMembersAreProven(t *testing.T) {
	own := func(s *netmap.Snapshot) {
		s.Grants = append(s.Grants, provisioning.Grant{Service: "svc1", Site: "site1", LANPort: 2575, Created: issued})
	}
	for name, tt := range map[string]struct {
		change  func(*netmap.Snapshot)
		pending int
	}{
		"two workstations of a clinic":    {func(s *netmap.Snapshot) { dialIn(s, 1, 0, wire.Workstation, 2) }, 0},
		"two workstations of the center":  {func(s *netmap.Snapshot) { dialIn(s, 0, 0, wire.Workstation, 2) }, 0},
		"workstations of two clinics":     {func(s *netmap.Snapshot) { dialIn(s, 1, 0, wire.Workstation, 1); dialIn(s, 2, 0, wire.Workstation, 1) }, 0},
		"unmanaged devices":               {func(s *netmap.Snapshot) { dialIn(s, 0, 0, wire.Unmanaged, 2); dialIn(s, 1, 0, wire.Unmanaged, 1) }, 0},
		"relays":                          {func(s *netmap.Snapshot) { dialIn(s, 0, 0, wire.Relay, 1); dialIn(s, 1, 0, wire.Relay, 1) }, 0},
		"own service, nobody for it":      {own, 1},
		"own service, with a workstation": {func(s *netmap.Snapshot) { own(s); dialIn(s, 1, 0, wire.Workstation, 1) }, 0},
		"own service, all kinds": {func(s *netmap.Snapshot) {
			own(s)
			dialIn(s, 1, 0, wire.Workstation, 2)
			dialIn(s, 1, 2, wire.Unmanaged, 1)
		}, 0},
		"own service at further places": {func(s *netmap.Snapshot) {
			own(s)
			dialIn(s, 1, 0, wire.Workstation, 1)
			mapLAN(s, 1, 0)
			renumber(s, 1)
		}, 0},
		"a site with only workstations": {func(s *netmap.Snapshot) { s.Nodes[1].Kind = wire.Workstation }, 1},
		"a center with only a relay":    {func(s *netmap.Snapshot) { s.Nodes[0].Kind = wire.Relay }, 6},
		"a waiting gateway":             {func(s *netmap.Snapshot) { s.Nodes[1].State = provisioning.NodeWaiting }, 2},
		"a quarantined gateway, its workstations": {func(s *netmap.Snapshot) {
			dialIn(s, 1, 0, wire.Workstation, 1)
			s.Nodes[1].State = provisioning.NodeQuarantined
		}, 1},
		"a key to be made": {func(s *netmap.Snapshot) { rotate(&s.Nodes[1], wire.RotateMake) }, 0},
		"a key that waits": {func(s *netmap.Snapshot) { rotate(&s.Nodes[1], wire.RotateWait); rotate(&s.Nodes[0], wire.RotateTurn) }, 0},
		"a key that turns": {func(s *netmap.Snapshot) { rotate(&s.Nodes[0], wire.RotateTurn) }, 0},
		"a key that has turned": {func(s *netmap.Snapshot) {
			rotate(&s.Nodes[0], wire.RotateTurn)
			s.Nodes[0].PublicKey = s.Nodes[0].NextKey
			rotate(&s.Nodes[0], "")
		}, 0},
		"a workstation's key": {func(s *netmap.Snapshot) { dialIn(s, 1, 0, wire.Workstation, 1); rotate(&s.Nodes[4], wire.RotateWait) }, 0},
	} {
		s := large(t, 3)
		tt.change(&s)
		x := netmap.NewIndex(s)
		if o := x.Omissions(); len(o) > 0 {
			t.Errorf("%s: left out are %v", name, o)
		}
		c, err := prove.Prove(compiled(t, s), stamp)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.Counts.PendingGrants != tt.pending {
			t.Errorf("%s: %d grants are pending, want %d", name, c.Counts.PendingGrants, tt.pending)
		}
		if unmanaged := strings.Contains(strings.Join(c.Assumed, "\n"), "unmanaged devices"); unmanaged != (name == "unmanaged devices" || name == "own service, all kinds") {
			t.Errorf("%s: assumed is %q", name, c.Assumed)
		}
	}
}

// TestAClaimedNextKeyHarmsNobodyElse holds that who names a key of another as its next one cannot have that one's map held.
func TestAClaimedNextKeyHarmsNobodyElse(t *testing.T) {
	s := large(t, 2)
	s.Nodes[2].Rotate, s.Nodes[2].NextKey = wire.RotateWait, s.Nodes[1].PublicKey
	_, err := prove.Prove(compiled(t, s), stamp)
	bad := refuted(t, err)
	for _, c := range bad.CounterExamples {
		if c.Safety() || c.Node != "node2-0" {
			t.Errorf("got %+v", c)
		}
	}
	s.Nodes[2].NextKey = wgkey.PublicKey{7}
	if _, err := prove.Prove(compiled(t, s), stamp); err != nil {
		t.Error(err)
	}
}
