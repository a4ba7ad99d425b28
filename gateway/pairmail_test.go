package gateway

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// countingMailer counts requests, and has a full box of messages that are nobody's if it is told so.
type countingMailer struct {
	n    atomic.Int64
	more bool
}

func (c *countingMailer) PairMail(context.Context, wire.PairMail) (wire.PairMailbox, error) {
	c.n.Add(1)
	return wire.PairMailbox{More: c.more}, nil
}

// withPeer gives the box a peer to agree with.
func (b *box) withPeer(t *testing.T) {
	t.Helper()
	key, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	b.plan.Peers = []wire.Peer{{Node: "node_b", Site: "lab", PublicKey: pub, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.201.2.0/24")}}}
}

// The box asks for messages when the coordinator says that there are some, and when it is reached again, and not all the time; whatever the
// coordinator says.
func TestPairingAsksWhenThereIsMail(t *testing.T) {
	for _, more := range []bool{false, true} {
		b := newBox(t)
		b.withPeer(t)
		m := &countingMailer{more: more}
		b.pairing.mailer = m
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			b.pairing.answers = make(chan pairAnswer, 1) // in the bubble
			ended := make(chan error, 1)
			go func() { ended <- b.pairLoop(ctx) }()
			time.Sleep(time.Hour + 300*time.Millisecond) // from here on never at the same moment as the loop
			if n := m.n.Load(); n != 0 {
				t.Errorf("%d requests without a coordinator", n)
			}
			within := func(what string, least int64) {
				t.Helper()
				before := m.n.Load()
				time.Sleep(1500 * time.Millisecond)
				if n := m.n.Load() - before; n < least || n > 2 {
					t.Errorf("%s: %d requests", what, n)
				}
			}
			b.connection(nil)
			within("the coordinator is reached", 1)
			time.Sleep(time.Hour)
			before := m.n.Load()
			time.Sleep(time.Hour)
			if n := m.n.Load() - before; n < 50 || n > 70 {
				t.Errorf("%d requests in an hour, more to come %v", n, more)
			}
			for range 3 { // one of them may meet the minute
				if err := b.frame(wire.Frame{Generation: 5, Now: time.Now(), Mail: true}); err != nil {
					t.Error(err)
				}
				within("mail", 1)
			}
			b.connection(errors.New("no way"))
			within("no coordinator", 0)
			b.connection(nil)
			within("the coordinator is back", 1)
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// A box whose store cannot be opened starts all the same, says so, and has keys when it can be.
func TestPairingStartsWithoutItsStore(t *testing.T) {
	a, b, p := pairEnds(t, wire.PairKeysPreferred)
	path := b.dir.Path("pairs")
	if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	b.open(t, postOf{p, "node_b"})
	now := runPair(time.Now(), time.Minute, a, b)
	if !b.health.Has(codePairKeyStore) || !b.key("node_a").IsZero() || !a.key("node_b").IsZero() {
		t.Error("a key is used that cannot be saved")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	runPair(now, 5*time.Minute, a, b)
	files, err := filepath.Glob(path + "/*")
	if x := a.key("node_b"); x.IsZero() || !x.Equal(b.key("node_a")) || b.health.Has(codePairKeyStore) || err != nil || len(files) != 1 {
		t.Errorf("files %v (%v), conditions %v", files, err, b.health.List())
	}
}

// A listener on the LAN that cannot be is no reason to doubt what key the device has.
func TestPairingKnowsWhatTheDeviceHas(t *testing.T) {
	b := newBox(t)
	b.withPeer(t)
	b.opt.LANAddress = netip.MustParseAddr("192.0.2.1") // which is none of this machine
	b.plan.Uses = []wire.Use{{
		Service: "pacs", Site: "lab", Protocol: wire.DICOM, Mode: wire.PassThrough, AETitle: "PACS", LANPort: 41104,
		Address: netip.MustParseAddrPort("10.201.2.1:104"),
	}}
	b.pairing.meet(b.pairView(), time.Now())
	b.pairing.setKey("node_b", wgkey.PresharedKeyOf([32]byte{7}), wire.PairKeysPreferred)
	b.dev.fail = errors.New("no device")
	if b.apply(t.Context()); b.pairing.ready != 0 {
		t.Error("a device that failed has the key")
	}
	b.dev.fail = nil
	if b.apply(t.Context()) {
		t.Errorf("the listener is there: %v", b.health.List())
	}
	if b.pairing.ready == 0 {
		t.Errorf("the device has change %d; %v", b.pairing.ready, b.health.List())
	}
}
