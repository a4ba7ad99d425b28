package coordinator_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// setState does what a clone or an operator would bring about.
func setState(t testing.TB, n *provisioningtest.Network, id provisioning.NodeID, s provisioning.NodeState, reason string) {
	t.Helper()
	err := n.Store.Update(context.WithoutCancel(t.Context()), func(tx store.Tx) error {
		if err := tx.Nodes().SetState(id, s, reason, time.Now().UTC()); err != nil {
			return err
		}
		_, err := tx.Bump()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Another box takes the place of one: everything that others know of it stays, and what only the old box had is worth nothing.
func TestReplace(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Center(t, "lab", "192.0.2.9:51820")
	n.Clinic(t, "nord")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.DICOM(t, "nord", "ct", "CT")
	n.Grant(t, "pacs", "nord")
	n.Grant(t, "ct", "lab")
	lab := n.Node(t, "lab")
	first := n.Token(t, "nord")
	old := n.Box(t)
	if err := old.Enroll(ctx, first, wire.Facts{Serial: "old", LANs: []netip.Prefix{prefix("192.168.1.0/24")}}); err != nil {
		t.Fatal(err)
	}
	before := old.Map()
	if err := old.Report(ctx, wire.Report{Format: 1, Applied: 4, Queues: []wire.Queue{{Name: "pacs", Queued: 2}}, Facts: wire.Facts{Serial: "old"}}); err != nil {
		t.Fatal(err)
	}

	stale := token(t, n, coordinator.NewToken{Replaces: old.ID})
	k := token(t, n, coordinator.NewToken{Replaces: old.ID})
	spare := n.Box(t)
	wantCode(t, spare.Enroll(ctx, stale, wire.Facts{}), provisioning.Denied, "was withdrawn")
	wantCode(t, old.Enroll(ctx, k, wire.Facts{}), provisioning.Conflict, "the box that is to be replaced")
	clash := wire.Facts{LANs: []netip.Prefix{prefix("10.201.3.0/24")}}
	wantCode(t, spare.Enroll(ctx, k, clash), provisioning.Conflict, "10.201.3.0/24")
	wantCode(t, lab.Enroll(ctx, k, wire.Facts{}), provisioning.Conflict, "belongs to a node")
	if got := nodeInfo(t, n, old.ID); got.PublicKey != before.Self.PublicKey || got.Facts.Serial != "old" {
		t.Fatalf("refusals have changed the node: %+v", got.Node)
	}

	facts := wire.Facts{Serial: "spare", LANs: []netip.Prefix{prefix("192.168.2.0/24")}}
	for range 2 { // the answer is lost once
		if err := spare.Enroll(ctx, k, facts); err != nil {
			t.Fatal(err)
		}
	}
	after := spare.Map()
	pub, err := spare.Key.Public()
	if err != nil {
		t.Fatal(err)
	}
	if after.Self.Node != before.Self.Node || after.Self.Address != before.Self.Address || after.Self.PublicKey != pub {
		t.Errorf("the spare is %+v, the old box was %+v", after.Self, before.Self)
	}
	if len(after.Uses) != 1 || len(after.Offers) != 1 || after.Uses[0].Service != "pacs" || after.Offers[0].Service != "ct" {
		t.Errorf("the spare uses %+v and offers %+v", after.Uses, after.Offers)
	}
	info := nodeInfo(t, n, old.ID)
	if info.Facts.Serial != "spare" || !info.LastSeen.IsZero() || info.Applied != 0 || len(info.Queues) != 0 || info.State != provisioning.NodeActive {
		t.Errorf("what is left of the old box: %+v", info.Node)
	}
	if got := reported(t, n); !slices.Equal(got, facts.LANs) {
		t.Errorf("the reported LANs are %v", got)
	}
	_, m, err := n.NetMapFor(ctx, lab.ID)
	if err != nil || len(m.Peers) != 1 || m.Peers[0].PublicKey != pub {
		t.Errorf("the center's peers are %+v (%v)", m.Peers, err)
	}
	view, err := n.HubView(ctx)
	if err != nil || slices.ContainsFunc(view.Nodes, func(x provisioning.Node) bool { return x.PublicKey == before.Self.PublicKey }) {
		t.Errorf("the hub knows the old key: %+v (%v)", view.Nodes, err)
	}
	wantCode(t, old.Enroll(ctx, first, wire.Facts{}), provisioning.Denied, "another box has taken")
	wantCode(t, old.Enroll(ctx, k, wire.Facts{}), provisioning.Denied, "was used on")
	events, err := n.Events(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(events, func(e provisioning.Event) bool { return e.Action == "node.replace" })
	if i < 0 || events[i].Subject != string(old.ID) || !strings.Contains(events[i].Detail, pub.String()+" instead of "+before.Self.PublicKey.String()) {
		t.Errorf("the event is %+v", events[max(i, 0)])
	}
	d, err := n.Coordinator.Node(ctx, old.ID)
	if err != nil || d.Token != provisioning.TokenID(k.ID) {
		t.Errorf("it enrolled with %s (%v), want %s", d.Token, err, k.ID)
	}
}

// The stream of the old box ends with its place.
func TestReplaceEndsTheOldStream(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "nord")
	old := n.Node(t, "nord")
	arrived := make(chan struct{}, 8)
	ended := make(chan error, 1)
	go func() {
		ended <- n.Watch(context.Background(), old.ID, wire.Have{}, func(wire.Frame) error { arrived <- struct{}{}; return nil })
	}()
	<-arrived
	spare := n.Box(t)
	if err := spare.Enroll(t.Context(), token(t, n, coordinator.NewToken{Replaces: old.ID}), wire.Facts{}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended without a reason")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the old box is still watching")
	}
	if nodeInfo(t, n, old.ID).Online {
		t.Error("the node counts as online")
	}
}

func TestReplaceQuarantined(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "nord")
	old := n.Node(t, "nord")
	setState(t, n, old.ID, provisioning.NodeQuarantined, "stolen")
	spare := n.Box(t)
	if err := spare.Enroll(t.Context(), token(t, n, coordinator.NewToken{Replaces: old.ID}), wire.Facts{}); err != nil {
		t.Fatal(err)
	}
	if got := nodeInfo(t, n, old.ID); got.State != provisioning.NodeActive || got.Reason != "" {
		t.Errorf("the node is %s, %s", got.State, got.Reason)
	}
}

func TestReplaceRefusals(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "nord")
	old := n.Node(t, "nord")
	peer := addPeer(t, n, "nord", "phone")
	n.Clinic(t, "sued")
	waits(t, n.Box(t), token(t, n, coordinator.NewToken{Site: "sued", Approval: true}), wire.Facts{})
	all, err := n.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waiting := all[slices.IndexFunc(all, func(i coordinator.NodeInfo) bool { return i.State == provisioning.NodeWaiting })].ID
	for name, tc := range map[string]struct {
		o    coordinator.NewToken
		code provisioning.Code
		says string
	}{
		"nobody":         {coordinator.NewToken{Replaces: "node_none"}, provisioning.NotFound, "there is no node"},
		"several":        {coordinator.NewToken{Replaces: old.ID, Limit: 2}, provisioning.Invalid, "place of one"},
		"approval":       {coordinator.NewToken{Replaces: old.ID, Approval: true}, provisioning.Invalid, "at once"},
		"site":           {coordinator.NewToken{Replaces: old.ID, Site: "sued"}, provisioning.Invalid, "has its site"},
		"kind":           {coordinator.NewToken{Replaces: old.ID, Kind: wire.Relay}, provisioning.Invalid, "has its site"},
		"address":        {coordinator.NewToken{Replaces: old.ID, Address: netip.MustParseAddr("10.201.0.18")}, provisioning.Invalid, "has its site"},
		"waiting":        {coordinator.NewToken{Replaces: waiting}, provisioning.Conflict, "not approved yet"},
		"plain device":   {coordinator.NewToken{Replaces: peer.Node.ID}, provisioning.Conflict, "peer add phone"},
		"too many":       {coordinator.NewToken{Site: "nord", Limit: 1001}, provisioning.Invalid, "1000"},
		"none":           {coordinator.NewToken{Site: "nord", Limit: -1}, provisioning.Invalid, "1000"},
		"one address":    {coordinator.NewToken{Site: "nord", Kind: wire.Workstation, Limit: 2, Address: netip.MustParseAddr("10.201.0.18")}, provisioning.Invalid, "one address"},
		"unmanaged":      {coordinator.NewToken{Site: "nord", Kind: wire.Unmanaged}, provisioning.Invalid, "peer add"},
		"no such kind":   {coordinator.NewToken{Site: "nord", Kind: "toaster"}, provisioning.Invalid, "toaster"},
		"no range there": {coordinator.NewToken{Site: "nord", Kind: wire.Workstation, Address: netip.MustParseAddr("10.201.0.18")}, provisioning.Invalid, "workstation"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := n.CreateToken(t.Context(), "test", tc.o)
			wantCode(t, err, tc.code, tc.says)
		})
	}
	gone := token(t, n, coordinator.NewToken{Replaces: old.ID})
	n.Remove(t, old.ID)
	wantCode(t, n.Box(t).Enroll(t.Context(), gone, wire.Facts{}), provisioning.Conflict, "was removed", "new box")
}
