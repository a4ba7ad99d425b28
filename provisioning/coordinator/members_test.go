package coordinator_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// offlineNetwork is one whose key is kept in a file of its own.
type offlineNetwork struct {
	*provisioningtest.Network
	key coordinator.OfflineKey
	dir string
}

func newOfflineNetwork(t *testing.T) offlineNetwork {
	t.Helper()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "network.key")
	if _, err := coordinator.CreateOfflineKeys(dir, file); err != nil {
		t.Fatal(err)
	}
	keys, err := coordinator.LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := coordinator.LoadOfflineKey(file)
	if err != nil {
		t.Fatal(err)
	}
	n := newNetwork(t, provisioningtest.Options{Keys: keys})
	n.Center(t, "lab", "192.0.2.1:51820")
	n.Clinic(t, "nord")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.Grant(t, "pacs", "nord")
	return offlineNetwork{n, key, dir}
}

// sign signs all that waits, and stores it.
func (n offlineNetwork) sign(t *testing.T) coordinator.Taken {
	t.Helper()
	taken, err := n.TakeSigned(t.Context(), provisioningtest.Actor, n.signatures(t))
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

func (n offlineNetwork) signatures(t *testing.T) []wire.SignedMember {
	t.Helper()
	waiting, err := n.Unsigned(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []wire.SignedMember
	for _, u := range waiting {
		s, err := n.key.Sign(u.Member)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// join enrolls a box, which has to wait, be signed and ask again.
func (n offlineNetwork) join(t *testing.T, site string) *provisioningtest.Node {
	t.Helper()
	b, token := n.Box(t), n.Token(t, site)
	err := b.Enroll(t.Context(), token, wire.Facts{})
	if w, ok := errors.AsType[*provisioningtest.WaitingError](err); !ok || !strings.Contains(w.Message, "not signed") {
		t.Fatalf("before it is signed: %v", err)
	}
	if taken := n.sign(t); len(taken.Active) != 1 || len(taken.Stale) != 0 {
		t.Fatalf("signed: %+v", taken)
	}
	if err := b.Enroll(t.Context(), token, wire.Facts{}); err != nil {
		t.Fatalf("after it was signed: %v", err)
	}
	return b
}

// believed is what a box makes of its newest map.
func (n offlineNetwork) believed(t *testing.T, id provisioning.NodeID) (wire.NetMap, []wire.Unsigned) {
	t.Helper()
	s, _, err := n.NetMapFor(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Open(n.key.Public())
	if err != nil || !m.Delegated {
		t.Fatalf("the map is delegated %v (%v)", m.Delegated, err)
	}
	return wire.Restrict(m, n.key.Public())
}

// useful fails unless the box has its peer and its use.
func (n offlineNetwork) useful(t *testing.T, id provisioning.NodeID, when string, want netip.Addr) wire.NetMap {
	t.Helper()
	m, unsigned := n.believed(t, id)
	if len(unsigned) > 0 || len(m.Peers) != 1 || len(m.Uses) != 1 || m.Uses[0].Address.Addr() != want {
		t.Errorf("%s: the box believes in peers %+v and uses %+v; %v", when, m.Peers, m.Uses, unsigned)
	}
	return m
}

func TestOfflineKeyEndToEnd(t *testing.T) {
	n := newOfflineNetwork(t)
	ctx := t.Context()
	lab, nord := n.join(t, "lab"), n.join(t, "nord")
	if s := n.signatures(t); len(s) != 0 {
		t.Errorf("%d signatures are asked for when all is signed", len(s))
	}
	old := lab.Map().Self.Address
	n.useful(t, nord.ID, "at first", old)
	if m, unsigned := n.believed(t, lab.ID); len(unsigned) > 0 || len(m.Offers) != 1 || len(m.Offers[0].From) != 1 {
		t.Errorf("the center believes in %+v; %v", m.Offers, unsigned)
	}

	// Renumbering works as before until it is signed.
	moved, err := n.Renumber(ctx, provisioningtest.Actor, coordinator.RenumberRequest{Site: "lab", Keep: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	n.useful(t, nord.ID, "renumbered and not signed", old)
	if m, unsigned := n.believed(t, lab.ID); len(unsigned) > 0 || m.Self.Address != old {
		t.Errorf("the center takes itself for %v; %v", m.Self.Address, unsigned)
	}
	found, err := n.Findings(ctx)
	if err != nil || !hasFinding(found, coordinator.FindingUnsigned, lab.ID) {
		t.Errorf("the findings are %+v (%v)", found, err)
	}
	if taken := n.sign(t); len(taken.Accepted) != 1 || len(taken.Active) != 0 {
		t.Errorf("signed: %+v", taken)
	}
	n.useful(t, nord.ID, "renumbered and signed", moved.Nodes[0].New)

	// The change of a key waits for a signature, and its end needs none.
	if err := n.RotateNode(ctx, provisioningtest.Actor, lab.ID, false); err != nil {
		t.Fatal(err)
	}
	next := wgkey.PublicKey{7, 7, 7}
	if err := n.NextKey(ctx, lab.ID, wire.NextKey{Format: 1, PublicKey: next}); err != nil {
		t.Fatal(err)
	}
	silent(t, n.Network, nord)
	if err := n.TendRotations(ctx); err != nil {
		t.Fatal(err)
	}
	if i := nodeInfo(t, n.Network, lab.ID); i.Rotate != wire.RotateWait {
		t.Errorf("without a signature the key change is at %q", i.Rotate)
	}
	if found, err = n.Findings(ctx); err != nil || !strings.Contains(findingText(found, coordinator.FindingRotation), "a signature for the new key") {
		t.Errorf("the findings are %+v (%v)", found, err)
	}
	n.sign(t)
	if err := n.TendRotations(ctx); err != nil {
		t.Fatal(err)
	}
	if m := n.useful(t, nord.ID, "with a next key", moved.Nodes[0].New); m.Peers[0].NextKey != next {
		t.Errorf("the next key is %v", m.Peers[0].NextKey)
	}
	if err := n.Turned(ctx, lab.ID, next); err != nil {
		t.Fatal(err)
	}
	if m := n.useful(t, nord.ID, "with the new key", moved.Nodes[0].New); m.Peers[0].PublicKey != next {
		t.Errorf("the key is %v", m.Peers[0].PublicKey)
	}
	if taken := n.sign(t); len(taken.Accepted) != 1 {
		t.Errorf("the old key is to be signed away: %+v", taken)
	}
}

// silent lets a node have applied its newest map.
func silent(t *testing.T, n *provisioningtest.Network, nodes ...*provisioningtest.Node) {
	t.Helper()
	for _, b := range nodes {
		_, m, err := n.NetMapFor(t.Context(), b.ID)
		if err != nil {
			t.Fatal(err)
		}
		n.Beat(b.ID, wire.Beat{Applied: m.Generation + 10})
	}
}

func hasFinding(found []coordinator.Finding, code string, id provisioning.NodeID) bool {
	for _, f := range found {
		if f.Code == code && f.Node == id && f.Message != "" && f.Proposal != "" {
			return true
		}
	}
	return false
}

func findingText(found []coordinator.Finding, code string) string {
	for _, f := range found {
		if f.Code == code {
			return f.Message
		}
	}
	return ""
}

// Whoever has the coordinator has its map key, all that was ever signed, and the hub: but not the network's key.
func TestCoordinatorInWrongHands(t *testing.T) {
	n := newOfflineNetwork(t)
	lab, nord := n.join(t, "lab"), n.join(t, "nord")
	n.Clinic(t, "sued")
	sued := n.join(t, "sued")
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(n.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := os.Stat(filepath.Join(n.dir, "network.key")); err == nil {
		t.Fatal("the network's key is on the coordinator")
	}
	mapKey := ed25519.NewKeyFromSeed(read("map.key"))
	right := &wire.Delegation{Key: mapKey.Public().(ed25519.PublicKey), Signature: read("map.delegation")}
	honest := n.useful(t, nord.ID, "honestly", lab.Map().Self.Address)
	own, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	evil, err := own.Public()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		tamper  func(*wire.NetMap)
		refused bool
		// evil says whether anything of the center's may still be reached.
		peers int
	}{
		"its own key as the center's": {func(m *wire.NetMap) { m.Peers[0].PublicKey = evil }, false, 0},
		"its own key as the next one": {func(m *wire.NetMap) { m.Peers[0].NextKey = evil }, false, 1},
		"its own key, signed by the map key": {func(m *wire.NetMap) {
			m.Peers[0].PublicKey = evil
			member, err := wire.SignedMember{Payload: m.Peers[0].Member.Payload, Signature: m.Peers[0].Member.Signature}.Open(n.key.Public())
			if err != nil {
				t.Fatal(err)
			}
			member.PublicKey = evil
			e, err := member.Sign(mapKey)
			if err == nil {
				t.Error("another key signs members of this network")
			}
			m.Peers[0].Member = &e
		}, false, 0},
		"a prefix added": {func(m *wire.NetMap) { m.Peers[0].AllowedIPs = append(m.Peers[0].AllowedIPs, prefix("0.0.0.0/0")) }, false, 1},
		"a node of its own added": {func(m *wire.NetMap) {
			m.Peers = append(m.Peers, wire.Peer{Node: "node_evil", Site: "lab", PublicKey: evil, AllowedIPs: []netip.Prefix{prefix("10.201.99.1/32")}})
		}, false, 1},
		"another clinic let in":         {func(m *wire.NetMap) { p := n.peerOf(t, sued); m.Peers = append(m.Peers, p) }, false, 1},
		"the hub at the center's":       {func(m *wire.NetMap) { m.Hub.Address = lab.Map().Self.Address }, true, 0},
		"the hub instead of the center": {func(m *wire.NetMap) { m.Hub.Address = lab.Map().Self.Address; m.Peers = nil }, false, 0},
		"this box somewhere else":       {func(m *wire.NetMap) { m.Self.Address = lab.Map().Self.Address }, true, 0},
	} {
		m := honest
		m.Peers = append([]wire.Peer(nil), honest.Peers...)
		m.Peers[0].AllowedIPs = append([]netip.Prefix(nil), honest.Peers[0].AllowedIPs...)
		m.Generation++
		tc.tamper(&m)
		e, err := wire.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		s := e.Sign(mapKey)
		s.Delegation = right
		opened, err := s.Open(n.key.Public())
		if err != nil {
			t.Fatalf("%s: the coordinator cannot even sign: %v", name, err)
		}
		got, unsigned := wire.Restrict(opened, n.key.Public())
		refused := false
		for _, u := range unsigned {
			refused = refused || u.Refuses()
		}
		if len(unsigned) == 0 || refused != tc.refused || len(got.Peers) != tc.peers {
			t.Errorf("%s: refused %v with %d peers; %v", name, refused, len(got.Peers), unsigned)
		}
		for _, p := range got.Peers {
			if p.PublicKey == evil || p.NextKey == evil || len(p.AllowedIPs) != 1 {
				t.Errorf("%s: the box believes in %+v", name, p)
			}
		}
		if tc.peers == 0 && len(got.Uses) > 0 {
			t.Errorf("%s: what is sent to the center goes to %+v", name, got.Uses)
		}
		whole := e.Sign(mapKey)
		if _, err := whole.Open(n.key.Public()); !errors.Is(err, wire.ErrSignature) {
			t.Errorf("%s: without its delegation the map key counts: %v", name, err)
		}
	}
}

// peerOf is how the center sees a box.
func (n offlineNetwork) peerOf(t *testing.T, b *provisioningtest.Node) wire.Peer {
	m := b.Map().Self
	return wire.Peer{
		Node: m.Node, Site: m.Site, PublicKey: m.PublicKey, Member: m.Member, AllowedIPs: []netip.Prefix{netip.PrefixFrom(m.Address, m.Address.BitLen())},
	}
}

func TestSignaturesAreTakenOnlyForWhatIs(t *testing.T) {
	n := newOfflineNetwork(t)
	ctx := t.Context()
	lab := n.join(t, "lab")
	// An answer that comes after the node has changed again does not bring the old state back.
	if _, err := n.Renumber(ctx, provisioningtest.Actor, coordinator.RenumberRequest{Site: "lab", Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
	stale := n.signatures(t)
	if _, err := n.EndRenumbering(ctx, provisioningtest.Actor, "lab"); err != nil {
		t.Fatal(err)
	}
	taken, err := n.TakeSigned(ctx, provisioningtest.Actor, stale)
	if err != nil || len(taken.Accepted) != 0 || len(taken.Stale) != 1 || taken.Stale[0] != string(lab.ID) {
		t.Errorf("an old answer: %+v, %v", taken, err)
	}
	_, foreign, err := coordinator.NewOfflineKeys()
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := n.Unsigned(ctx)
	if err != nil || len(waiting) != 1 {
		t.Fatalf("%+v, %v", waiting, err)
	}
	if _, err := foreign.Sign(waiting[0].Member); err == nil {
		t.Error("another network's key signs a member of this one")
	}
	m := waiting[0].Member
	m.Network = foreign.NetworkID()
	s, err := foreign.Sign(m)
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, reason(n.TakeSigned(ctx, "test", append(n.signatures(t), s))), provisioning.Denied, "signature 2 of 2", n.NetworkID())
	if again, err := n.Unsigned(ctx); err != nil || len(again) != 1 {
		t.Errorf("of a refused answer something was stored: %+v (%v)", again, err)
	}
	wantCode(t, reason(n.TakeSigned(ctx, "test", nil)), provisioning.Invalid)
	online := newNetwork(t, provisioningtest.Options{})
	wantCode(t, reason(online.Unsigned(ctx)), provisioning.Conflict, "offline-key")
	wantCode(t, reason(online.TakeSigned(ctx, "test", []wire.SignedMember{s})), provisioning.Conflict)
}

// A box that takes another's place has a key that nobody has signed.
func TestReplacementWaitsForASignature(t *testing.T) {
	n := newOfflineNetwork(t)
	lab := n.join(t, "lab")
	_, token, err := n.CreateToken(t.Context(), provisioningtest.Actor, coordinator.NewToken{Replaces: lab.ID})
	if err != nil {
		t.Fatal(err)
	}
	spare := n.Box(t)
	if _, ok := errors.AsType[*provisioningtest.WaitingError](spare.Enroll(context.WithoutCancel(t.Context()), token, wire.Facts{})); !ok {
		t.Error("the spare takes part without a signature")
	}
	n.sign(t)
	if err := spare.Enroll(t.Context(), token, wire.Facts{}); err != nil || spare.ID != lab.ID {
		t.Errorf("signed, it is node %s: %v", spare.ID, err)
	}
}
