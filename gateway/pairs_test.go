package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// post is a coordinator's mail in memory.
type post struct {
	mail map[[2]string]wire.PairItem // by recipient and sender
	n    int
	deaf []string
	fail error
}

type postOf struct {
	*post
	node string
}

func (p postOf) PairMail(_ context.Context, m wire.PairMail) (wire.PairMailbox, error) {
	if p.fail != nil {
		return wire.PairMailbox{}, p.fail
	}
	for key, item := range p.mail {
		if key[0] == p.node && slices.Contains(m.Done, item.ID) {
			delete(p.mail, key)
		}
	}
	box := wire.PairMailbox{Deaf: p.deaf}
	for _, x := range m.Post {
		p.n++
		p.mail[[2]string{x.To, p.node}] = wire.PairItem{ID: fmt.Sprint(p.n), From: p.node, Body: x.Body}
	}
	for key, item := range p.mail {
		if key[0] == p.node {
			box.Mail = append(box.Mail, item)
		}
	}
	return box, nil
}

// pairEnd is one box of a pair, without the rest of it.
type pairEnd struct {
	*pairing
	dir    *state.Dir
	view   pairView
	health *health.Set
	log    *bytes.Buffer
}

// pairEnds are two boxes that are each other's peers.
func pairEnds(t *testing.T, policy wire.PairKeys) (a, b *pairEnd, p *post) {
	t.Helper()
	p = &post{mail: map[[2]string]wire.PairItem{}}
	var ends [2]*pairEnd
	var peers [2]wire.Peer
	for i, node := range []string{"node_a", "node_b"} {
		key, err := wgkey.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		pub, err := key.Public()
		if err != nil {
			t.Fatal(err)
		}
		dir, err := state.Open(filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = dir.Close() })
		e := &pairEnd{dir: dir, log: &bytes.Buffer{}, health: &health.Set{}}
		e.view = pairView{self: wire.Self{Node: node, Site: node, PairKeys: policy}, own: []wgkey.PrivateKey{key}, connected: true}
		e.open(t, postOf{p, node})
		ends[i], peers[i] = e, wire.Peer{Node: node, Site: "site-" + node, PublicKey: pub}
	}
	ends[0].view.peers, ends[1].view.peers = peers[1:], peers[:1]
	return ends[0], ends[1], p
}

func (e *pairEnd) open(t *testing.T, m pairMailer) {
	t.Helper()
	var err error
	if e.pairing, err = openPairing(e.dir, m, e.health, slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug}))); err != nil {
		t.Fatal(err)
	}
}

// tick is one turn of the loop, with a device that takes what it is given.
func (e *pairEnd) tick(now time.Time) {
	none := func(context.Context) (tunnel.Status, error) { return tunnel.Status{}, nil }
	e.round(context.Background(), e.view, none, now)
	for e.busy {
		e.answer(e.view, <-e.answers, now)
		e.round(context.Background(), e.view, none, now)
	}
	_, change := e.current()
	e.applied(change)
}

func (e *pairEnd) key(node string) wgkey.PresharedKey {
	keys, _ := e.current()
	return keys[node]
}

func runPair(from time.Time, d time.Duration, ends ...*pairEnd) time.Time {
	for end := from.Add(d); from.Before(end); from = from.Add(time.Second) {
		for _, e := range ends {
			e.tick(from)
		}
	}
	return from
}

func TestPairingAgreesKeepsAndForgets(t *testing.T) {
	a, b, p := pairEnds(t, wire.PairKeysPreferred)
	now := runPair(time.Now(), 30*time.Second, a, b)
	key := a.key("node_b")
	if key.IsZero() || !key.Equal(b.key("node_a")) {
		t.Fatalf("a has a key: %v, b has one: %v", !key.IsZero(), !b.key("node_a").IsZero())
	}
	if got := a.describe(a.view.peers[0]); got != "from the next handshake on (epoch 1)" {
		t.Errorf("the status says %q", got)
	}
	for _, e := range []*pairEnd{a, b} {
		if secret := key.RevealBytes(); bytes.Contains(e.log.Bytes(), secret[:]) || strings.Contains(e.log.String(), key.RevealHex()) {
			t.Error("the log has the key")
		}
	}
	now = runPair(now, 2*time.Minute, a, b)
	if len(p.mail) > 0 {
		t.Errorf("%d messages are left behind", len(p.mail))
	}

	// After a restart without a coordinator the key is there at once.
	a.open(t, postOf{p, "node_a"})
	a.view.connected = false
	a.meet(a.view, now)
	if !a.key("node_b").Equal(key) {
		t.Error("a restart loses the key")
	}
	// Off, or without the peer, nothing of it remains.
	a.view.peers = nil
	a.tick(now)
	if files, err := filepath.Glob(a.dir.Path("pairs/*")); !a.key("node_b").IsZero() || err != nil || len(files) > 0 {
		t.Errorf("of a peer that is gone there are %v (%v)", files, err)
	}
	if got := a.describe(b.view.peers[0]); got != "no: switched off" {
		t.Errorf("the status says %q", got)
	}
}

// What a network requires is never left out: without a key, and without a coordinator, the peer is locked out.
func TestPairingRequired(t *testing.T) {
	a, b, p := pairEnds(t, wire.PairKeysRequired)
	p.fail = errors.New("no way")
	now := runPair(time.Now(), 2*time.Minute, a, b)
	if x, y := a.key("node_b"), b.key("node_a"); x.IsZero() || y.IsZero() || x.Equal(y) {
		t.Error("two boxes without an agreement can talk")
	}
	if !a.health.Has(codePairKey + "site-node_b") {
		t.Error("nobody is told")
	}
	for _, c := range a.health.List() {
		if c.Severity != health.Error || !strings.Contains(c.Message, "requires one") {
			t.Errorf("%+v", c)
		}
	}
	p.fail = nil
	runPair(now, 2*time.Minute, a, b)
	if x, y := a.key("node_b"), b.key("node_a"); x.IsZero() || !x.Equal(y) || a.health.Has(codePairKey+"site-node_b") {
		t.Error("no agreement with the coordinator")
	}
}

func TestPairingSaysWhy(t *testing.T) {
	for _, x := range []struct {
		name   string
		change func(*post)
		status string
		says   string // in the Condition; empty for none
	}{
		{"silent", func(*post) {}, "no: not agreed yet", "has not answered"},
		{"old box", func(p *post) { p.deaf = []string{"node_a", "node_b"} }, "no: the box there is too old", ""},
		{"old coordinator", func(p *post) { p.fail = control.ErrNoPairMail }, "no: not agreed yet", "the coordinator does not carry"},
	} {
		_, b, p := pairEnds(t, wire.PairKeysPreferred)
		x.change(p)
		now := runPair(time.Now(), 9*time.Minute, b)
		if b.health.Has(codePairKey + "site-node_a") {
			t.Errorf("%s: too early", x.name)
		}
		runPair(now, 2*time.Minute, b)
		if got := b.describe(b.view.peers[0]); got != x.status || !b.key("node_a").IsZero() {
			t.Errorf("%s: the status says %q", x.name, got)
		}
		list := b.health.List()
		if x.says == "" && len(list) > 0 || x.says != "" && (len(list) != 1 || list[0].Severity != health.Info || !strings.Contains(list[0].Message, x.says)) {
			t.Errorf("%s: %+v", x.name, list)
		}
	}
	if got := new(pairing).describe(wire.Peer{Node: "node_c", Kind: wire.Unmanaged}); got != "no: a plain device" {
		t.Errorf("of a plain device the status says %q", got)
	}
}

// A key that cannot be saved is not used, and what came comes again.
func TestPairingSavesFirst(t *testing.T) {
	a, b, _ := pairEnds(t, wire.PairKeysPreferred)
	if err := errors.Join(os.RemoveAll(b.dir.Path("pairs")), os.WriteFile(b.dir.Path("pairs"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	now := runPair(time.Now(), time.Minute, a, b)
	if !a.key("node_b").IsZero() || !b.key("node_a").IsZero() || !b.health.Has(codePairKeyStore) {
		t.Error("a key is used that cannot be saved")
	}
	if err := errors.Join(os.Remove(b.dir.Path("pairs")), os.Mkdir(b.dir.Path("pairs"), 0o700)); err != nil {
		t.Fatal(err)
	}
	runPair(now, 5*time.Minute, a, b)
	if x := a.key("node_b"); x.IsZero() || !x.Equal(b.key("node_a")) || b.health.Has(codePairKeyStore) {
		t.Error("no key with room on the disk")
	}
}
