package coordinator_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

// token makes one of any kind.
func token(t testing.TB, n *provisioningtest.Network, o coordinator.NewToken) wire.Token {
	t.Helper()
	_, k, err := n.CreateToken(context.WithoutCancel(t.Context()), provisioningtest.Actor, o)
	if err != nil {
		t.Fatalf("make a token %+v: %v", o, err)
	}
	return k
}

// waits enrolls a box that has to wait, and returns what it is told.
func waits(t testing.TB, b *provisioningtest.Node, k wire.Token, f wire.Facts) wire.Wait {
	t.Helper()
	err := b.Enroll(t.Context(), k, f)
	w, ok := errors.AsType[*provisioningtest.WaitingError](err)
	if !ok {
		t.Fatalf("got %v, want to wait", err)
	}
	return w.Wait
}

func onlyNode(t testing.TB, n *provisioningtest.Network) coordinator.NodeInfo {
	t.Helper()
	all, err := n.Nodes(context.WithoutCancel(t.Context()))
	if err != nil || len(all) != 1 {
		t.Fatalf("the nodes are %+v (%v), want one", all, err)
	}
	return all[0]
}

func reported(t testing.TB, n *provisioningtest.Network) (out []netip.Prefix) {
	t.Helper()
	plan, err := n.Plan(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range plan.Ranges {
		if r.Kind == provisioning.RangeReported {
			out = append(out, r.Prefix)
		}
	}
	return out
}

func TestApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Clinic(t, "a")
		k := token(t, n, coordinator.NewToken{Site: "a", Approval: true, TTL: time.Hour})
		box := n.Box(t)
		facts := wire.Facts{LANs: []netip.Prefix{prefix("192.168.178.0/24")}}
		w := waits(t, box, k, facts)
		if w.After != 5 || !strings.Contains(w.Message, "site a") || !strings.Contains(w.Message, "not approved yet") {
			t.Errorf("the box is told %+v", w)
		}
		node := onlyNode(t, n)
		if node.State != provisioning.NodeWaiting || !node.Address.IsValid() || node.Origin.String() != "198.51.100.7" || len(reported(t, n)) != 0 {
			t.Errorf("the waiting node is %+v, its LANs %v", node.Node, reported(t, n))
		}
		if _, _, err := n.NetMapFor(t.Context(), node.ID); err == nil {
			t.Error("a waiting node has a map")
		}
		wantCode(t, n.Box(t).Enroll(t.Context(), k, wire.Facts{}), provisioning.Denied, "was used on")
		second := token(t, n, coordinator.NewToken{Site: "a"})
		wantCode(t, n.Box(t).Enroll(t.Context(), second, wire.Facts{}), provisioning.Conflict, "another box is there", "node reject")
		wantCode(t, box.Enroll(t.Context(), token(t, n, coordinator.NewToken{Site: "a", Kind: wire.Relay}), wire.Facts{}), provisioning.Conflict, "known already", "not approved yet")

		// The token ends while it waits, which is nobody's fault: it goes on, less often.
		events := lastEvent(t, n).Seq
		time.Sleep(2 * time.Hour)
		if w := waits(t, box, k, facts); w.After != 300 {
			t.Errorf("after two hours it is to come again in %d s", w.After)
		}
		if e := lastEvent(t, n); e.Seq != events {
			t.Errorf("asking again has left %+v", e)
		}
		if err := n.ApproveNode(t.Context(), "anna", node.ID); err != nil {
			t.Fatal(err)
		}
		if e := lastEvent(t, n); e.Action != "node.approve" || e.Actor != "anna" || !strings.Contains(e.Detail, node.PublicKey.String()) {
			t.Errorf("the event is %+v", e)
		}
		wantCode(t, n.ApproveNode(t.Context(), "anna", node.ID), provisioning.Conflict, "takes part already")
		wantCode(t, n.RejectNode(t.Context(), "anna", node.ID, ""), provisioning.Conflict, "does not wait", "node remove")
		time.Sleep(71 * time.Hour)
		if err := box.Enroll(t.Context(), k, facts); err != nil || box.ID != node.ID {
			t.Fatalf("after the approval: %v, node %s instead of %s", err, box.ID, node.ID)
		}
		if got := reported(t, n); len(got) != 1 || got[0] != facts.LANs[0] {
			t.Errorf("after the approval, the reported LANs are %v", got)
		}
		time.Sleep(time.Hour)
		wantCode(t, box.Enroll(t.Context(), k, facts), provisioning.Expired, "was good until")
	})
}

func TestRejectedBoxStaysOut(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Center(t, "lab", "192.0.2.9:51820")
	k := token(t, n, coordinator.NewToken{Site: "lab", Kind: wire.Workstation, Limit: 3, Approval: true})
	box, other := n.Box(t), n.Box(t)
	waits(t, box, k, wire.Facts{})
	id := onlyNode(t, n).ID
	waits(t, other, k, wire.Facts{})
	if err := n.RejectNode(t.Context(), "anna", id, "nobody's\nlaptop"); err != nil {
		t.Fatal(err)
	}
	if e := lastEvent(t, n); e.Action != "node.reject" || e.Subject != string(id) || !strings.HasPrefix(e.Detail, "nobody's laptop (workstation 10.201.") {
		t.Errorf("the event is %+v", e)
	}
	// There is a use left, and it is not for this one.
	for range 2 {
		wantCode(t, box.Enroll(t.Context(), k, wire.Facts{}), provisioning.Denied, "rejected or removed")
	}
	left := onlyNode(t, n)
	if left.ID == id {
		t.Error("the rejected one is there")
	}
	if err := n.RevokeToken(t.Context(), "anna", provisioning.TokenID(k.ID)); err != nil {
		t.Fatalf("revoke a token that is used in part: %v", err)
	}
	if e := lastEvent(t, n); !strings.Contains(e.Detail, "used 2 of 3 times") {
		t.Errorf("the event is %+v", e)
	}
	wantCode(t, n.Box(t).Enroll(t.Context(), k, wire.Facts{}), provisioning.Denied, "was withdrawn")
	waits(t, other, k, wire.Facts{})
	if err := n.ApproveNode(t.Context(), "anna", left.ID); err != nil {
		t.Fatal(err)
	}
	if err := other.Enroll(t.Context(), k, wire.Facts{}); err != nil {
		t.Errorf("who was approved does not get its map: %v", err)
	}
	wantCode(t, n.ApproveNode(t.Context(), "anna", "node_none"), provisioning.NotFound)
	wantCode(t, n.RejectNode(t.Context(), "anna", "node_none", ""), provisioning.NotFound)
}

func TestApprovalLooksAtThePlanAgain(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "a")
	waits(t, n.Box(t), token(t, n, coordinator.NewToken{Site: "a", Approval: true}), wire.Facts{LANs: []netip.Prefix{prefix("10.99.0.0/24")}})
	if _, err := n.AddRange(t.Context(), "anna", coordinator.NewRange{Kind: provisioning.RangePool, Prefix: prefix("10.99.0.0/16")}); err != nil {
		t.Fatal(err)
	}
	node := onlyNode(t, n)
	wantCode(t, n.ApproveNode(t.Context(), "anna", node.ID), provisioning.Conflict, "10.99.0.0/24", "10.99.0.0/16")
	if got := onlyNode(t, n); got.State != provisioning.NodeWaiting {
		t.Errorf("the node is %s", got.State)
	}
}

func TestQuarantinedBoxGetsNoMap(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "a")
	k := n.Token(t, "a")
	box := n.Box(t)
	if err := box.Enroll(t.Context(), k, wire.Facts{}); err != nil {
		t.Fatal(err)
	}
	setState(t, n, box.ID, provisioning.NodeQuarantined, "its key was seen in two places")
	wantCode(t, box.Enroll(t.Context(), k, wire.Facts{}), provisioning.Denied, "quarantined", "two places")
	wantCode(t, n.ApproveNode(t.Context(), "anna", box.ID), provisioning.Conflict, "quarantined", "node replace")
}
