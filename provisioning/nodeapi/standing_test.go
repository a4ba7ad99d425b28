package nodeapi_test

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// ask asks for the standing of a node. An answer that is not sealed has a code.
func ask(t *testing.T, n *provisioningtest.Network, remote, node string, key wgkey.PublicKey) (wire.StandingResponse, int) {
	t.Helper()
	body, opener, err := wire.SealStanding(n.Identity().HPKE, wire.StandingRequest{Format: wire.Format, Node: node, PublicKey: key})
	if err != nil {
		t.Fatal(err)
	}
	rec := do(n.Public, http.MethodPost, wire.PathStanding, remote, body)
	if rec.Code != http.StatusOK {
		return wire.StandingResponse{}, rec.Code
	}
	if rec.Body.Len() != wire.StandingSize {
		t.Errorf("the answer has %d bytes, want %d", rec.Body.Len(), wire.StandingSize)
	}
	res, err := opener.Open(rec.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if time.Since(res.Now).Abs() > time.Minute {
		t.Errorf("the clock of the answer is %s", res.Now)
	}
	return res, rec.Code
}

func TestStanding(t *testing.T) {
	n, _ := newNetwork(t)
	n.Clinic(t, "a")
	box := n.Node(t, "a")
	id, key := string(box.ID), box.Map().Self.PublicKey
	remotes := 0
	want := func(when string, node string, key wgkey.PublicKey, want wire.Standing, words string) {
		t.Helper()
		remotes++
		res, code := ask(t, n, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(remotes)}), 1).String(), node, key)
		if code != 200 || res.Standing != want || !strings.Contains(res.Message, words) || (res.Message == "") != (want == wire.StandingActive) {
			t.Errorf("%s: %d %+v, want %s", when, code, res, want)
		}
	}
	want("in the network", id, key, wire.StandingActive, "")
	want("with another key", id, wgkey.PublicKey{9}, wire.StandingReplaced, "Another box")
	want("without a key", id, wgkey.PublicKey{}, wire.StandingUnknown, "removed")
	want("never there", "node_none", key, wire.StandingUnknown, "removed")
	want("nobody", "", wgkey.PublicKey{}, wire.StandingUnknown, "removed")
	if err := n.RotateNode(t.Context(), "test", box.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := n.NextKey(t.Context(), box.ID, wire.NextKey{Format: 1, PublicKey: wgkey.PublicKey{8}}); err != nil {
		t.Fatal(err)
	}
	want("with the next key", id, wgkey.PublicKey{8}, wire.StandingActive, "")
	if err := n.QuarantineNode(t.Context(), "test", box.ID, "seen at 203.0.113.9"); err != nil {
		t.Fatal(err)
	}
	want("quarantined", id, key, wire.StandingQuarantined, "shut this box out")
	if res, _ := ask(t, n, "192.0.2.200:1", id, key); strings.Contains(res.Message, "203.0.113.9") {
		t.Errorf("anybody hears the reason: %s", res.Message)
	}
	n.Remove(t, box.ID)
	want("removed", id, key, wire.StandingUnknown, "removed")
}

// A box that was removed asks once a minute; who asks for many is stopped before anything is opened.
func TestStandingIsLimited(t *testing.T) {
	n, _ := newNetwork(t)
	n.Clinic(t, "a")
	box := n.Node(t, "a")
	refused := 0
	for range 30 {
		if _, code := ask(t, n, "192.0.2.1:1", "node_none", wgkey.PublicKey{1}); code == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused < 15 {
		t.Errorf("%d of 30 questions about nobody were refused", refused)
	}
	for range 30 {
		if res, code := ask(t, n, "192.0.2.2:1", string(box.ID), box.Map().Self.PublicKey); code != 200 || res.Standing != wire.StandingActive {
			t.Fatalf("a node that is there: %d %+v", code, res)
		}
	}
	for name, body := range map[string][]byte{"nothing": nil, "noise": make([]byte, 1300), "too much": make([]byte, wire.MaxStandingBody+1)} {
		if rec := do(n.Public, http.MethodPost, wire.PathStanding, "192.0.2.3:1", body); rec.Code != 400 && rec.Code != 413 {
			t.Errorf("%s: %d", name, rec.Code)
		}
	}
}

func TestNextKeyIsTakenInsideTheTunnelOnly(t *testing.T) {
	n, _ := newNetwork(t)
	n.Clinic(t, "a")
	box := n.Node(t, "a")
	remote := box.Map().Self.Address.String() + ":5000"
	body, err := json.Marshal(wire.NextKey{Format: 1, PublicKey: wgkey.PublicKey{8}})
	if err != nil {
		t.Fatal(err)
	}
	if rec := do(n.Control, http.MethodPost, wire.PathKey, remote, body); rec.Code != http.StatusConflict {
		t.Errorf("a key that nobody asked for: %d %s", rec.Code, rec.Body)
	}
	if err := n.RotateNode(t.Context(), "test", box.ID, false); err != nil {
		t.Fatal(err)
	}
	if rec := do(n.Public, http.MethodPost, wire.PathKey, remote, body); rec.Code != http.StatusNotFound {
		t.Errorf("from outside: %d", rec.Code)
	}
	if rec := do(n.Control, http.MethodPost, wire.PathKey, "10.99.0.1:1", body); rec.Code != http.StatusForbidden {
		t.Errorf("from nobody: %d", rec.Code)
	}
	for _, bad := range []string{"", "{", `{"format":1,"public_key":"x"}`, strings.Repeat(" ", 2000)} {
		if rec := do(n.Control, http.MethodPost, wire.PathKey, remote, []byte(bad)); rec.Code != http.StatusBadRequest {
			t.Errorf("%.20q: %d", bad, rec.Code)
		}
	}
	for range 2 {
		if rec := do(n.Control, http.MethodPost, wire.PathKey, remote, body); rec.Code != http.StatusNoContent {
			t.Errorf("the key: %d %s", rec.Code, rec.Body)
		}
	}
	nodes, err := n.Nodes(t.Context())
	if err != nil || nodes[0].NextKey != (wgkey.PublicKey{8}) || nodes[0].Rotate != wire.RotateWait || nodes[0].State != provisioning.NodeActive {
		t.Errorf("the node is %+v (%v)", nodes, err)
	}
}
