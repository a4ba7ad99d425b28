package gateway

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
)

// In a network whose key is kept off the coordinator, a box takes of its maps what that key has signed, and tells of the rest.
func TestUnsignedPartsOfAPlan(t *testing.T) {
	b := newBox(t)
	public, mapKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	delegation := wire.Delegate(b.key, public)
	member := func(m wire.Member) *wire.SignedMember {
		m.Network = b.m.Network
		s, err := m.Sign(b.key)
		if err != nil {
			t.Fatal(err)
		}
		return &s
	}
	m := b.m
	m.Generation = 6
	m.Self.Member = member(wire.Member{
		Node: "node_a", Kind: wire.Gateway, Site: "north", SiteKind: wire.Clinic, PublicKey: m.Self.PublicKey,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.201.1.0/28")},
	})
	center := clinicPeers()[0]
	center.Member = member(wire.Member{
		Node: "node_c", Kind: wire.Gateway, Site: "center", SiteKind: wire.Center, PublicKey: center.PublicKey,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.201.0.16/28")},
	})
	stranger := wire.Peer{Node: "node_x", Site: "center", PublicKey: [32]byte{66}, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.201.0.40/32")}}
	m.Peers = []wire.Peer{center, stranger}
	take := func(m wire.NetMap) error {
		s := b.signed(t, m, mapKey)
		s.Delegation = &delegation
		return b.frame(wire.Frame{NetMap: &s, Generation: m.Generation, Now: time.Now()})
	}

	if err := take(m); err != nil {
		t.Fatal(err)
	}
	if !b.apply(t.Context()) {
		t.Fatal(b.problem)
	}
	if len(b.dev.config.Peers) != 2 || b.dev.config.Peers[1].PublicKey != center.PublicKey {
		t.Errorf("the tunnel has %v", b.dev.config.Peers)
	}
	if text := b.condition(codeUnsigned+"peer node_x", health.Error); !strings.Contains(text, "leaves it out") {
		t.Errorf("conditions: %v", b.health.List())
	}
	if len(b.held().NetMap.Peers) != 2 {
		t.Error("the next change would be made from another map than the coordinator's")
	}
	// It is the whole map that the next change is made from, and that the next boot begins with.
	again, err := New(b.opt)
	if err != nil || len(again.plan.Peers) != 1 || len(again.netMap.Peers) != 2 || again.have().Hash != b.have().Hash {
		t.Errorf("after a restart: %v", err)
	}

	// A map that makes the box another one is refused, and the last good one stays, on the disk too.
	forged := m
	forged.Generation, forged.Self.Address = 7, netip.MustParseAddr("10.201.0.18")
	if err := take(forged); !errors.Is(err, wire.ErrSignature) {
		t.Errorf("a map with an address that was not signed: %v", err)
	}
	if !b.apply(t.Context()) || b.have().Generation != 6 || b.from != m.Self.Address {
		t.Errorf("the box has generation %d at %s", b.have().Generation, b.from)
	}
	if saved, err := b.opt.Dir.NetMap(b.opt.Identity.NetworkKey); err != nil || saved.Generation != 6 {
		t.Errorf("the disk has generation %d (%v)", saved.Generation, err)
	}
	if text := b.condition(codeUnsigned+"self", health.Error); !strings.Contains(text, "keeps the last one") {
		t.Errorf("conditions: %v", b.health.List())
	}
	m.Generation, m.Peers = 8, m.Peers[:1]
	if err := take(m); err != nil || len(b.health.List()) > 0 {
		t.Errorf("a good map afterwards: %v, %v", err, b.health.List())
	}
}
