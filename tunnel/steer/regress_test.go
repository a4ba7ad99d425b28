package steer_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/device"

	"github.com/towpath/towpath/tunnel/path"
	"github.com/towpath/towpath/tunnel/steer"
	"github.com/towpath/towpath/tunnel/tunneltest/fakenet"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// homesIn is the usual pair: two home routers.
func homesIn(v6 bool) [2]place {
	kinds := places(relayAt(v6))
	return [2]place{kinds[3], kinds[3]}
}

// A direct way on which nothing passes is never taken, however quiet it is (blind steering lost 150 of 150).
func TestDeadWayIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false, homesIn(false))
		defer w.close()
		w.tunnel()
		w.net.Lose(func(src, dst netip.AddrPort) bool { return src != w.relay && dst != w.relay })
		w.reveal(0)
		for range 20 {
			if lost := w.traffic(50 * time.Millisecond); lost != 0 {
				t.Errorf("%d packets lost", lost)
			}
			time.Sleep(time.Second)
		}
		if s := w.status(0); s.Way.IsValid() || s.State != path.HoldOff && s.State != path.Opening {
			t.Errorf("status %+v", s)
		}
	})
}

// A way that works in one direction stays unused and costs nothing (nebula#893).
func TestOneWayPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kinds := places(relayAt(false))
		w := newWorld(t, false, [2]place{kinds[0], kinds[0]})
		defer w.close()
		w.tunnel()
		w.net.Lose(func(src, dst netip.AddrPort) bool { return dst == w.seen[0] && src != w.relay })
		w.reveal(0)
		if lost := w.traffic(20 * time.Second); lost != 0 {
			t.Errorf("%d packets lost", lost)
		}
		if w.status(0).Way.IsValid() || w.status(1).Way.IsValid() {
			t.Error("a way that works in one direction is used")
		}
		if s := w.status(1); s.State != path.Asymmetric && s.State != path.Opening {
			t.Errorf("status of the end that hears: %+v", s)
		}
	})
}

// A node with another address goes on by the relay at once, and is direct again within 3 s (tailscale#13379).
func TestRoaming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kinds := places(relayAt(false))
		w := newWorld(t, false, [2]place{kinds[0], kinds[0]})
		defer w.close()
		w.tunnel()
		w.reveal(0)
		if _, ok := w.until(2*time.Second, isDirect); !ok {
			t.Fatal("not direct")
		}
		time.Sleep(10 * time.Second)
		lost := make(chan int, 1)
		go func() { lost <- w.traffic(6 * time.Second) }()
		time.Sleep(time.Second)
		n := w.nodes[0]
		n.host.Move(netip.MustParseAddrPort("192.0.2.77:51820"))
		w.net.Meet(w.nodes[0].host, w.nodes[1].host) // the next packet of its session tells the relay
		n.bind.Moved()
		took, ok := w.until(3*time.Second, func(s path.Status) bool {
			return s.Way.IsValid() && time.Since(s.Since) < 3*time.Second
		})
		if !ok {
			t.Errorf("not direct again within 3 s: %+v %+v", w.status(0), w.status(1))
		}
		if way := w.status(1).Way.Addr().String(); way != "192.0.2.77" {
			t.Errorf("the other end sends to %s", way)
		}
		<-lost
		gap := max(time.Duration(w.nodes[0].gap.Load()), time.Duration(w.nodes[1].gap.Load()))
		t.Logf("direct again after %v, nothing arrived for %v", took, gap)
		if gap > 3*time.Second {
			t.Errorf("nothing arrived for %v", gap)
		}
	})
}

// A peer that no longer is steered, or whose Bind was shut down, is reached by its relay.
func TestStopSteering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false, homesIn(false))
		defer w.close()
		w.tunnel()
		w.reveal(0)
		if _, ok := w.until(2*time.Second, isDirect); !ok {
			t.Fatal("not direct")
		}
		w.must(w.nodes[0].bind.Configure(steer.Config{PrivateKey: w.nodes[0].key}))
		w.nodes[1].bind.Shutdown()
		w.net.Lose(func(src, dst netip.AddrPort) bool { return src != w.relay && dst != w.relay })
		if lost := w.traffic(3 * time.Second); lost != 0 {
			t.Errorf("%d packets lost", lost)
		}
		if _, ok := w.nodes[0].bind.Status(w.nodes[1].pub); ok {
			t.Error("there is still a status")
		}
		if err := w.nodes[1].bind.Configure(steer.Config{PrivateKey: w.nodes[1].key}); err == nil {
			t.Error("configured after its end")
		}
	})
}

// A Config that says the same again changes nothing.
func TestConfigureAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false, homesIn(false))
		defer w.close()
		w.tunnel()
		w.reveal(0)
		if _, ok := w.until(2*time.Second, isDirect); !ok {
			t.Fatal("not direct")
		}
		before := w.status(0)
		w.reveal(0)
		if after := w.status(0); after.State != path.Direct || after.Since != before.Since {
			t.Errorf("before %+v, after %+v", before, after)
		}
		text, err := w.nodes[0].dev.IpcGet()
		w.must(err)
		if want := fmt.Sprintf("endpoint=%s\n", before.Way); !strings.Contains(text, want) {
			t.Errorf("the device does not show %q", want)
		}
	})
}

// An alias of a peer that nobody steers is refused, and a real address is not an alias.
func TestAlias(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := fakenet.New(oneWay)
		b := steer.New(n.Host(netip.MustParseAddrPort("192.0.2.1:1"), nil, nil))
		if _, err := b.ParseEndpoint(steer.Alias(wgkey.PublicKey{1}).String()); err == nil {
			t.Error("the alias of a stranger is taken")
		}
		if e, err := b.ParseEndpoint("192.0.2.9:5"); err != nil || e.DstToString() != "192.0.2.9:5" {
			t.Errorf("%v %v", e, err)
		}
		if steer.Alias(wgkey.PublicKey{1}) == steer.Alias(wgkey.PublicKey{2}) {
			t.Error("two peers have one alias")
		}
		var _ steer.NoRoaming = (*device.Device)(nil)
	})
}
