package coordinator_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func stepOf(t testing.TB, n *provisioningtest.Network, id provisioning.NodeID) wire.RotateStep {
	return nodeInfo(t, n, id).Rotate
}

// tend lets the coordinator look, as the hub makes it.
func tendKeys(t testing.TB, n *provisioningtest.Network) {
	t.Helper()
	if err := n.TendRotations(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRotationGoesThroughItsSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, lab, boxes := newFleet(t, openStore(t), 3)
		ctx, id := t.Context(), lab.ID
		old, next := lab.Map().Self.PublicKey, wgkey.PublicKey{42}
		wantCode(t, n.NextKey(ctx, id, wire.NextKey{Format: 1, PublicKey: next}), provisioning.Conflict, "not asked")
		if err := n.RotateNode(ctx, "test", id, false); err != nil {
			t.Fatal(err)
		}
		if _, m, err := n.NetMapFor(ctx, id); err != nil || m.Self.Rotate != wire.RotateMake || m.Self.PublicKey != old {
			t.Errorf("asked for a key, its map says %+v (%v)", m.Self, err)
		}
		wantCode(t, n.RotateNode(ctx, "test", id, false), provisioning.Conflict, "already")
		for name, k := range map[string]wgkey.PublicKey{"none": {}, "its own": old, "the hub's": n.Keys.HubPublicKey()} {
			if err := n.NextKey(ctx, id, wire.NextKey{Format: 1, PublicKey: k}); err == nil {
				t.Errorf("%s is taken as next key", name)
			}
		}
		wantCode(t, n.NextKey(ctx, id, wire.NextKey{Format: 1, PublicKey: boxes[0].Map().Self.PublicKey}), provisioning.Conflict, "not the node's alone")
		wantCode(t, n.NextKey(ctx, id, wire.NextKey{Format: wire.Format + 1, PublicKey: next}), provisioning.Invalid, "format")
		for range 2 { // the answer may have been lost
			if err := n.NextKey(ctx, id, wire.NextKey{Format: 1, PublicKey: next}); err != nil {
				t.Fatal(err)
			}
		}
		wantCode(t, n.NextKey(ctx, id, wire.NextKey{Format: 1, PublicKey: wgkey.PublicKey{43}}), provisioning.Conflict)
		if err := n.Turned(ctx, id, next); err == nil {
			t.Error("it turned before the others knew")
		}

		// Nobody has applied the map with the next key yet.
		tendKeys(t, n)
		silent(t, n, boxes[0], boxes[1])
		tendKeys(t, n)
		if s := stepOf(t, n, id); s != wire.RotateWait {
			t.Errorf("one peer does not know, and the step is %q", s)
		}
		found, err := n.Findings(ctx)
		if text := findingText(found, coordinator.FindingRotation); err != nil || !strings.Contains(text, string(boxes[2].ID)) || strings.Contains(text, string(boxes[1].ID)) {
			t.Errorf("the finding is %q (%v)", text, err)
		}
		silent(t, n, boxes[2])
		tendKeys(t, n)
		if _, m, err := n.NetMapFor(ctx, id); err != nil || m.Self.Rotate != wire.RotateTurn || m.Self.NextKey != next || m.Self.PublicKey != old {
			t.Errorf("all know, and its map says %+v (%v)", m.Self, err)
		}
		if err := n.Turned(ctx, id, wgkey.PublicKey{43}); err == nil {
			t.Error("it turned to another key")
		}
		if err := n.Turned(ctx, id, next); err != nil {
			t.Fatal(err)
		}
		if _, m, err := n.NetMapFor(ctx, id); err != nil || m.Self.Rotate != "" || m.Self.PublicKey != next || !m.Self.NextKey.IsZero() {
			t.Errorf("at the end its map says %+v (%v)", m.Self, err)
		}
		if _, m, err := n.NetMapFor(ctx, boxes[0].ID); err != nil || m.Peers[0].PublicKey != next || !m.Peers[0].NextKey.IsZero() {
			t.Errorf("at the end a peer knows %+v (%v)", m.Peers, err)
		}
		if found, err = n.Findings(ctx); err != nil || hasFinding(found, coordinator.FindingRotation, id) {
			t.Errorf("at the end the findings are %+v (%v)", found, err)
		}
	})
}

// Who was silent for a day is not waited for; who is there is, however long it takes; and so is the hub.
func TestRotationWaitsForWhoIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, lab, boxes := newFleet(t, openStore(t), 2)
		stream := boxes[0].Open(t.Context(), http.MethodGet, boxes[0].Have())
		defer stream.Close()
		go func() {
			for {
				if _, err := stream.Next(); err != nil {
					return
				}
			}
		}()
		if err := n.RotateNode(t.Context(), "test", lab.ID, false); err != nil {
			t.Fatal(err)
		}
		n.HubApplied(1)
		if err := n.NextKey(t.Context(), lab.ID, wire.NextKey{Format: 1, PublicKey: wgkey.PublicKey{42}}); err != nil {
			t.Fatal(err)
		}
		if err := boxes[1].Report(t.Context(), wire.Report{Format: 1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(23 * time.Hour)
		tendKeys(t, n)
		found, err := n.Findings(t.Context())
		text := findingText(found, coordinator.FindingRotation)
		if err != nil || !strings.Contains(text, string(boxes[0].ID)) || !strings.Contains(text, string(boxes[1].ID)) || !strings.Contains(text, "the hub") {
			t.Errorf("after 23 hours it waits for %q (%v)", text, err)
		}
		time.Sleep(2 * time.Hour)
		n.HubApplied(1000)
		tendKeys(t, n)
		found, err = n.Findings(t.Context())
		text = findingText(found, coordinator.FindingRotation)
		if err != nil || !strings.Contains(text, string(boxes[0].ID)) || strings.Contains(text, string(boxes[1].ID)) || strings.Contains(text, "the hub") {
			t.Errorf("after 25 hours it waits for %q (%v)", text, err)
		}
		silent(t, n, boxes[0])
		tendKeys(t, n)
		if s := stepOf(t, n, lab.ID); s != wire.RotateTurn {
			t.Errorf("the step is %q", s)
		}
	})
}

// A peer whose map changes again in between has to apply that, too.
func TestRotationLooksAtTheNewestMaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, lab, boxes := newFleet(t, openStore(t), 1)
		if err := n.RotateNode(t.Context(), "test", lab.ID, false); err != nil {
			t.Fatal(err)
		}
		_, m, err := n.NetMapFor(t.Context(), boxes[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		n.Beat(boxes[0].ID, wire.Beat{Applied: m.Generation})
		if err := n.NextKey(t.Context(), lab.ID, wire.NextKey{Format: 1, PublicKey: wgkey.PublicKey{42}}); err != nil {
			t.Fatal(err)
		}
		// Nobody has made the peer's map since: what it has applied is older than the next key.
		tendKeys(t, n)
		if s := stepOf(t, n, lab.ID); s != wire.RotateWait {
			t.Errorf("the step is %q", s)
		}
	})
}

func TestRotationIsCanceled(t *testing.T) {
	n, lab, _ := newFleet(t, openStore(t), 1)
	ctx := t.Context()
	wantCode(t, n.CancelRotation(ctx, "test", lab.ID), provisioning.Conflict, "not changing")
	if err := n.RotateNode(ctx, "test", lab.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := n.NextKey(ctx, lab.ID, wire.NextKey{Format: 1, PublicKey: wgkey.PublicKey{42}}); err != nil {
		t.Fatal(err)
	}
	if err := n.CancelRotation(ctx, "test", lab.ID); err != nil {
		t.Fatal(err)
	}
	if i := nodeInfo(t, n, lab.ID); i.Rotate != "" || !i.NextKey.IsZero() || i.PublicKey != lab.Map().Self.PublicKey {
		t.Errorf("canceled, it is %+v", i.Node)
	}
	wantCode(t, n.RotateNode(ctx, "test", "node_none", true), provisioning.NotFound)
	if err := n.QuarantineNode(ctx, "test", lab.ID, "x"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, n.RotateNode(ctx, "test", lab.ID, false), provisioning.Conflict, "quarantined")
}

// The files of plain WireGuard devices hold the center's key.
func TestRotationSparesUnmanagedDevices(t *testing.T) {
	n, lab, boxes := newFleet(t, openStore(t), 1)
	ctx := t.Context()
	site := nodeInfo(t, n, boxes[0].ID).SiteName
	p, err := n.AddPeer(ctx, "test", coordinator.NewPeer{Site: site, Name: "fritz", PublicKey: wgkey.PublicKey{77}})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, n.RotateNode(ctx, "test", lab.ID, false), provisioning.Conflict, "--force", string(p.Node.ID))
	wantCode(t, n.RotateNode(ctx, "test", p.Node.ID, true), provisioning.Invalid, "fritz")
	if err := n.RotateNode(ctx, "test", lab.ID, true); err != nil {
		t.Fatal(err)
	}
}
