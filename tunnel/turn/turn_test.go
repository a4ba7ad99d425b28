package turn_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/turn"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// keyOf is a made-up public key: small numbers sort before each other and before most real keys, large ones last.
func keyOf(n uint32) (k wgkey.PublicKey) {
	binary.BigEndian.PutUint32(k[:], n)
	k[31] = 1
	return k
}

func prefixOf(n uint32) netip.Prefix {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 10<<24|n)
	return netip.PrefixFrom(netip.AddrFrom4(a), 32)
}

var somewhere = netip.MustParseAddrPort("192.0.2.1:51820")

// pairs is a Config with n peers; peer i has key 2i and next key 2i+1.
func pairs(t testing.TB, n int) tunnel.Config {
	c := tunnel.Config{PrivateKey: newKey(t)}
	for i := range uint32(n) {
		c.Peers = append(c.Peers, tunnel.Peer{PublicKey: keyOf(2*i + 2), Next: keyOf(2*i + 3), AllowedIPs: []netip.Prefix{prefixOf(i)}})
	}
	return c
}

func configure(t testing.TB, d tunnel.Device, c tunnel.Config) {
	t.Helper()
	if err := d.Configure(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

// fakeTime runs the test with a wrapped fake.
func fakeTime(t *testing.T, f func(t *testing.T, dev *fake, d *turn.Device)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dev := newFake(t)
		d := turn.New(dev, turn.Options{})
		defer func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(t, dev, d)
	})
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestPair(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := pairs(t, 1)
		psk, err := wgkey.NewPresharedKey()
		if err != nil {
			t.Fatal(err)
		}
		p := &c.Peers[0]
		p.PresharedKey, p.Endpoint, p.PersistentKeepalive = psk, somewhere, 25*time.Second
		configure(t, d, c)
		key, next := dev.peer(p.PublicKey), dev.peer(p.Next)
		if !key.PresharedKey.Equal(psk) || key.Endpoint != somewhere || key.PersistentKeepalive != p.PersistentKeepalive || len(key.AllowedIPs) != 1 {
			t.Errorf("the key in use: %+v", key)
		}
		if !next.PresharedKey.Equal(psk) || next.Endpoint != somewhere || next.PersistentKeepalive != 0 || len(next.AllowedIPs) != 0 || next.session == 0 {
			t.Errorf("the next key: %+v", next)
		}
		before, _ := dev.number()
		dev.shake(p.Next, time.Now())
		wait(20 * time.Millisecond)
		if after, _ := dev.number(); after != before+1 {
			t.Errorf("%d Configures for one move", after-before)
		}
		key, next = dev.peer(p.PublicKey), dev.peer(p.Next)
		if key.PersistentKeepalive != 0 || len(key.AllowedIPs) != 0 || key.Endpoint != somewhere {
			t.Errorf("the former key: %+v", key)
		}
		if next.PersistentKeepalive != p.PersistentKeepalive || !slices.Equal(next.AllowedIPs, p.AllowedIPs) {
			t.Errorf("the new key: %+v", next)
		}
		session := next.session
		p.PublicKey, p.Next = p.Next, wgkey.PublicKey{}
		configure(t, d, c)
		if next = dev.peer(p.PublicKey); next.session != session || next.handshake.IsZero() || len(next.AllowedIPs) != 1 {
			t.Errorf("the new key alone: %+v", next)
		}
		if old := dev.peer(keyOf(2)); old.session != 0 {
			t.Errorf("the former key is still there: %+v", old)
		}
	})
}

func TestManyTurnAtOnceAndBack(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := pairs(t, 500)
		configure(t, d, c)
		for round := range 4 {
			wait(time.Second)
			before, _ := dev.number()
			want := func(i int) wgkey.PublicKey {
				if round%2 == 0 && i%5 != 0 {
					return c.Peers[i].Next
				}
				return c.Peers[i].PublicKey
			}
			for i := range c.Peers {
				dev.shake(want(i), time.Now())
			}
			wait(20 * time.Millisecond)
			if after, _ := dev.number(); after != before+1 {
				t.Errorf("round %d: %d Configures", round, after-before)
			}
			configure(t, d, c) // and nothing is undone
			for i := range c.Peers {
				if got := dev.owner(prefixOf(uint32(i))); got != want(i) {
					t.Fatalf("round %d: peer %d uses %v, want %v", round, i, got, want(i))
				}
			}
		}
	})
}

// The caller's other changes do not undo a move, and what it does with its slices later does not matter.
func TestConfigureDuringATurn(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := pairs(t, 2)
		configure(t, d, c)
		dev.shake(c.Peers[0].Next, time.Now())
		added := tunnel.Peer{PublicKey: keyOf(100), AllowedIPs: []netip.Prefix{prefixOf(100)}}
		more := c
		more.Peers = append(slices.Clone(c.Peers), added)
		configure(t, d, more) // before anybody has looked
		if got := dev.owner(prefixOf(0)); got != c.Peers[0].Next {
			t.Errorf("the peer that has turned uses %v", got)
		}
		more.Peers[2].AllowedIPs[0] = prefixOf(101)
		more.Peers[1] = added
		dev.shake(c.Peers[1].Next, time.Now())
		wait(20 * time.Millisecond)
		if got := dev.owner(prefixOf(1)); got != c.Peers[1].Next {
			t.Errorf("the other peer uses %v", got)
		}
		if got := dev.owner(prefixOf(100)); got != added.PublicKey {
			t.Errorf("the added peer's address belongs to %v", got)
		}
	})
}

// After a restart the handshakes on the device say which key is in use.
func TestRestart(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := pairs(t, 2)
		configure(t, d, c)
		dev.shake(c.Peers[0].PublicKey, time.Now())
		dev.shake(c.Peers[0].Next, time.Now().Add(time.Second))
		dev.shake(c.Peers[1].PublicKey, time.Now().Add(time.Second))
		dev.shake(c.Peers[1].Next, time.Now())
		again := turn.New(dev, turn.Options{})
		configure(t, again, c)
		if a, b := dev.owner(prefixOf(0)), dev.owner(prefixOf(1)); a != c.Peers[0].Next || b != c.Peers[1].PublicKey {
			t.Errorf("the peers use %v and %v", a, b)
		}
		if groups, _ := dev.made(); len(groups) != 0 {
			t.Errorf("the same key as before, but it calls %v", groups)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A clock that was set back between two handshakes makes the later one look earlier.
func TestClockSetBack(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := pairs(t, 1)
		configure(t, d, c)
		dev.shake(c.Peers[0].PublicKey, time.Now())
		wait(time.Second)
		for range 3 {
			dev.shake(c.Peers[0].Next, dev.peer(c.Peers[0].PublicKey).handshake.Add(-time.Hour))
			wait(20 * time.Millisecond)
			configure(t, d, c)
			if got := dev.owner(prefixOf(0)); got != c.Peers[0].Next {
				t.Fatalf("the peer uses %v", got)
			}
			dev.shake(c.Peers[0].PublicKey, dev.peer(c.Peers[0].Next).handshake.Add(-time.Hour))
			wait(20 * time.Millisecond)
			if got := dev.owner(prefixOf(0)); got != c.Peers[0].PublicKey {
				t.Fatalf("the peer that turned back uses %v", got)
			}
		}
	})
}

func TestPolling(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := pairs(t, 1)
		plain := tunnel.Config{PrivateKey: c.PrivateKey, Peers: []tunnel.Peer{{PublicKey: c.Peers[0].PublicKey}}}
		looks := func(during time.Duration) int {
			_, before := dev.number()
			wait(during)
			_, after := dev.number()
			return after - before
		}
		configure(t, d, plain)
		if n := looks(time.Hour); n != 0 {
			t.Errorf("%d looks without a next key", n)
		}
		configure(t, d, c)
		wait(10 * time.Millisecond)
		if n := looks(time.Second); n != 50 {
			t.Errorf("%d looks per second, want 50", n)
		}
		dev.locked(func() { dev.cost = 10 * time.Millisecond })
		wait(time.Second)
		if n := looks(time.Minute); n < 280 || n > 290 { // 10 ms of every 210 ms
			t.Errorf("%d looks of 10 ms per minute", n)
		}
		dev.locked(func() { dev.cost = 0 })
		wait(time.Second)
		configure(t, d, plain)
		wait(time.Second)
		if n := looks(time.Hour); n != 0 {
			t.Errorf("%d looks when there is no next key anymore", n)
		}
		configure(t, d, c)
		if n := looks(time.Second); n < 50 {
			t.Errorf("%d looks per second for another next key", n)
		}
	})
}

// counted can tell about a few peers.
type counted struct {
	*fake
	keys [][]wgkey.PublicKey // that were asked for
}

func (c *counted) StatusOf(ctx context.Context, keys []wgkey.PublicKey) (tunnel.Status, error) {
	c.keys = append(c.keys, keys)
	return c.Status(ctx)
}

// Where the device can tell about a few peers, only pairs are asked for.
func TestPollingAFewPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := &counted{fake: newFake(t)}
		d := turn.New(dev, turn.Options{})
		c := pairs(t, 3)
		c.Peers[1].Next = wgkey.PublicKey{}
		configure(t, d, c)
		wait(time.Second)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if _, asked := dev.number(); len(dev.keys) < 50 || asked != len(dev.keys)+1 { // one in Configure
			t.Errorf("%d of %d looks at a few peers", len(dev.keys), asked)
		}
		if want := []wgkey.PublicKey{keyOf(2), keyOf(3), keyOf(6), keyOf(7)}; !slices.Equal(dev.keys[0], want) {
			t.Errorf("asked for %v, want %v", dev.keys[0], want)
		}
	})
}

func TestFailures(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := pairs(t, 1)
		configure(t, d, c)
		broken := errors.New("broken")
		dev.locked(func() { dev.fail = broken })
		if err := d.Configure(t.Context(), pairs(t, 3)); !errors.Is(err, broken) {
			t.Errorf("the device's error is %v", err)
		}
		dev.shake(c.Peers[0].Next, time.Now())
		wait(5 * time.Second)
		if got := dev.owner(prefixOf(0)); got != c.Peers[0].PublicKey {
			t.Errorf("while the device fails, the peer uses %v", got)
		}
		dev.locked(func() { dev.fail, dev.failLook = nil, broken })
		wait(2 * time.Second)
		if err := d.Configure(t.Context(), c); !errors.Is(err, broken) {
			t.Errorf("the device's error is %v", err)
		}
		dev.locked(func() { dev.failLook = nil })
		wait(time.Second)
		if got := dev.owner(prefixOf(0)); got != c.Peers[0].Next {
			t.Errorf("when the device works again, the peer uses %v", got)
		}
		applied, asked := dev.number()
		bad := c
		bad.MTU = -1
		if err := d.Configure(t.Context(), bad); !errors.Is(err, tunnel.ErrInvalid) {
			t.Errorf("an invalid Config: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Configure(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("a canceled context: %v", err)
		}
		if a, b := dev.number(); a != applied || b != asked {
			t.Error("a refused Config reached the device")
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := newFake(t)
		d := turn.New(dev, turn.Options{})
		configure(t, d, pairs(t, 3))
		for range 4 {
			go func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
				_, n := dev.number()
				time.Sleep(time.Second)
				if _, m := dev.number(); m != n {
					t.Error("it still looks after Close")
				}
			}()
		}
		wait(2 * time.Second)
		if err := d.Configure(t.Context(), pairs(t, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("configure a closed device: %v", err)
		}
		if _, err := d.Status(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("status of a closed device: %v", err)
		}
	})
}

// Everything at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		a, b := pairs(t, 20), pairs(t, 30)
		a.Peers[0].Endpoint, b.Peers[0].Endpoint = somewhere, somewhere
		configure(t, d, a)
		for i, c := range []tunnel.Config{a, b, a, b} {
			go func() {
				for range 50 {
					configure(t, d, c)
					if _, err := d.Status(context.Background()); err != nil {
						t.Error(err)
					}
					dev.shake(c.Peers[i].Next, time.Now())
					time.Sleep(7 * time.Millisecond)
				}
			}()
		}
		wait(10 * time.Second)
		for i := range uint32(4) {
			if got := dev.owner(prefixOf(i)); got != a.Peers[i].Next {
				t.Errorf("peer %d uses %v", i, got)
			}
		}
	})
}
