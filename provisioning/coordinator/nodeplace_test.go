package coordinator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

// A center's second gateway comes in when it is approved, and its rank and endpoint are in the maps of those who use the center.
func TestSecondGateway(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Center(t, "lab", "192.0.2.1:51820")
	n.Clinic(t, "nord")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.Grant(t, "pacs", "nord")
	first, box := n.Node(t, "lab"), n.Node(t, "nord")
	_, token, err := n.CreateToken(t.Context(), provisioningtest.Actor, coordinator.NewToken{Site: "lab", Approval: true})
	if err != nil {
		t.Fatal(err)
	}
	second := n.Box(t)
	if err := second.Enroll(t.Context(), token, wire.Facts{}); err == nil {
		t.Fatal("it came in without approval")
	}
	nodes, err := n.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waiting := nodes[slices.IndexFunc(nodes, func(i coordinator.NodeInfo) bool { return i.State == provisioning.NodeWaiting })].ID
	if err := n.ApproveNode(t.Context(), provisioningtest.Actor, waiting); err != nil {
		t.Fatal(err)
	}
	if err := second.Enroll(t.Context(), token, wire.Facts{}); err != nil {
		t.Fatal(err)
	}
	place := func(id provisioning.NodeID, p coordinator.NodePlace) error {
		return n.PlaceNode(t.Context(), provisioningtest.Actor, id, p)
	}
	wantCode(t, place("node_x", coordinator.NodePlace{Rank: new(1)}), provisioning.NotFound)
	wantCode(t, place(second.ID, coordinator.NodePlace{Rank: new(100)}), provisioning.Invalid)
	wantCode(t, place(second.ID, coordinator.NodePlace{Endpoint: new("nowhere")}), provisioning.Invalid)
	if err := place(second.ID, coordinator.NodePlace{Rank: new(1)}); err != nil {
		t.Fatal(err)
	}
	if err := place(second.ID, coordinator.NodePlace{Endpoint: new("192.0.2.2:51820")}); err != nil {
		t.Fatal(err)
	}
	if e := lastEvent(t, n); e.Action != "node.place" || !strings.Contains(e.Detail, "rank from 1 to 1") || !strings.Contains(e.Detail, "192.0.2.2:51820") {
		t.Errorf("%+v", e)
	}
	x, err := n.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(x.Input.Maps, func(m wire.NetMap) bool { return m.Self.Node == string(box.ID) })
	m := x.Input.Maps[i]
	if len(m.Shared) != 1 || !slices.Equal(m.Shared[0].Gateways, []string{string(second.ID), string(first.ID)}) || len(m.Peers) != 2 {
		t.Fatalf("the clinic's map has %+v", m.Shared)
	}
	for _, p := range m.Peers {
		want := map[string]string{string(first.ID): "192.0.2.1:51820", string(second.ID): "192.0.2.2:51820"}[p.Node]
		if !slices.Equal(p.Endpoints, []string{want}) {
			t.Errorf("node %s is at %v, want %s", p.Node, p.Endpoints, want)
		}
	}
}
