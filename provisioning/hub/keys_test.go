package hub_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning/hub"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// turningDevice is one that hears handshakes, and counts how often it is asked for them.
type turningDevice struct {
	fakeDevice
	mu    sync.Mutex
	heard []tunnel.PeerStatus
	asked int
}

func (d *turningDevice) Status(context.Context) (tunnel.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	return tunnel.Status{Peers: append([]tunnel.PeerStatus(nil), d.heard...)}, nil
}

func (d *turningDevice) hear(p ...tunnel.PeerStatus) (asked int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard = p
	return d.asked
}

func TestHubDrivesTheChangeOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Clinic(t, "a")
		d := &turningDevice{}
		h := hub.New(hub.Config{Device: d, Stack: d, Coordinator: n.Coordinator, Port: 51820})
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		<-h.Ready()
		box := n.Node(t, "a")
		old, next := box.Map().Self.PublicKey, wgkey.PublicKey{42}
		rotate := func() wire.RotateStep {
			t.Helper()
			nodes, err := n.Nodes(ctx)
			if err != nil || len(nodes) != 1 {
				t.Fatalf("%+v, %v", nodes, err)
			}
			return nodes[0].Rotate
		}
		time.Sleep(time.Hour)
		if asked := d.hear(); asked != 0 {
			t.Errorf("without a change of keys the device was asked %d times", asked)
		}
		if err := n.RotateNode(ctx, "test", box.ID, false); err != nil {
			t.Fatal(err)
		}
		if err := n.NextKey(ctx, box.ID, wire.NextKey{Format: 1, PublicKey: next}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if p := d.last().Peers; len(p) != 1 || p[0].PublicKey != old || p[0].Next != next {
			t.Errorf("the device has %+v", p)
		}
		if s := rotate(); s != wire.RotateTurn {
			t.Errorf("the hub knows the key and nobody else has to: the step is %q", s)
		}
		// The old key speaks, and the new one has not: nothing is over.
		before := d.hear(tunnel.PeerStatus{PublicKey: old, LastHandshake: time.Now()}, tunnel.PeerStatus{PublicKey: next})
		time.Sleep(10 * time.Second)
		if s := rotate(); s != wire.RotateTurn {
			t.Errorf("without a handshake the step is %q", s)
		}
		if asked := d.hear(tunnel.PeerStatus{PublicKey: next, LastHandshake: time.Now()}) - before; asked > 11 {
			t.Errorf("the device was asked %d times in ten seconds", asked)
		}
		time.Sleep(3 * time.Second)
		if p := d.last().Peers; rotate() != "" || len(p) != 1 || p[0].PublicKey != next || !p[0].Next.IsZero() {
			t.Errorf("after the handshake the step is %q and the device has %+v", rotate(), p)
		}
		before = d.hear()
		time.Sleep(time.Hour)
		if asked := d.hear(); asked > before+1 {
			t.Errorf("afterwards the device was asked %d times", asked-before)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the hub ended with %v", err)
		}
	})
}

func TestHubTellsWhereAKeyIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Clinic(t, "a")
		d := &turningDevice{}
		h := hub.New(hub.Config{Device: d, Stack: d, Coordinator: n.Coordinator})
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		<-h.Ready()
		box := n.Node(t, "a")
		key := box.Map().Self.PublicKey
		places := []string{"192.0.2.1:1000", "198.51.100.9:2000"}
		for i := range 6 {
			d.hear(tunnel.PeerStatus{PublicKey: key, Endpoint: netip.MustParseAddrPort(places[i%2])})
			have := box.Have()
			have.Instance = []string{"one", "two"}[i%2]
			s := box.Open(ctx, "GET", have)
			_, _ = s.Next()
			time.Sleep(20 * time.Second)
			s.Close()
		}
		nodes, err := n.Nodes(ctx)
		if want := "its key was seen in two places: 192.0.2.1:1000 and 198.51.100.9:2000"; err != nil || nodes[0].Reason != want {
			t.Errorf("the node is %s: %s (%v), want %s", nodes[0].State, nodes[0].Reason, err, want)
		}
		time.Sleep(time.Second)
		if p := d.last().Peers; len(p) != 0 {
			t.Errorf("the hub still knows %+v", p)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the hub ended with %v", err)
		}
	})
}
