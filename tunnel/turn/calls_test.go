package turn_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/turn"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// plainPeers is a Config whose peers have no next key: every second one has a keepalive, every third one no endpoint.
func plainPeers(t testing.TB, n int) tunnel.Config {
	c := tunnel.Config{PrivateKey: newKey(t)}
	for i := range uint32(n) {
		p := tunnel.Peer{PublicKey: keyOf(i + 1), AllowedIPs: []netip.Prefix{prefixOf(i)}}
		if i%2 == 0 {
			p.PersistentKeepalive = 25 * time.Second
		}
		if i%3 != 0 {
			p.Endpoint = somewhere
		}
		c.Peers = append(c.Peers, p)
	}
	return c
}

func TestNewOwnKeyCallsEverybody(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := plainPeers(t, 300)
		configure(t, d, c)
		wait(time.Minute)
		if groups, _ := dev.made(); len(groups) != 1 || len(groups[0]) != 150 {
			t.Errorf("the first key calls more than the peers with a keepalive: %v", groups)
		}
		roamed := c.Peers[297].PublicKey // which has no endpoint configured
		dev.locked(func() { dev.peers[roamed].learned = somewhere })
		dev.shake(roamed, time.Now())
		c.PrivateKey = newKey(t)
		configure(t, d, c)
		wait(0)
		if got := dev.peer(roamed); got.PersistentKeepalive == 0 {
			t.Error("the peer heard last is not called first, or not at once")
		}
		wait(time.Second)
		groups, times := dev.made()
		var all []wgkey.PublicKey
		for i, g := range groups {
			if len(g) > 64 {
				t.Errorf("%d calls at once", len(g))
			}
			if i > 0 && times[i].Sub(times[i-1]) < 20*time.Millisecond {
				t.Errorf("%v between two groups", times[i].Sub(times[i-1]))
			}
			all = append(all, g...)
		}
		if len(groups) != 4 || len(all) != 201 {
			t.Errorf("%d calls in %d groups, want 201 in 4", len(all), len(groups))
		}
		for _, p := range c.Peers {
			n := 0
			for _, k := range all {
				if k == p.PublicKey {
					n++
				}
			}
			want := 0
			if p.Endpoint.IsValid() || p.PublicKey == roamed {
				want = 1
			}
			if got := dev.peer(p.PublicKey); n != want || got.PersistentKeepalive != p.PersistentKeepalive {
				t.Errorf("peer %v was called %d times, want %d, and has a keepalive of %v, want %v",
					p.PublicKey, n, want, got.PersistentKeepalive, p.PersistentKeepalive)
			}
		}
		applied, asked := dev.number()
		wait(time.Hour)
		if a, b := dev.number(); a != applied || b != asked {
			t.Error("it does not end")
		}
	})
}

// A Configure of the caller while the calls go out neither loses nor repeats any.
func TestConfigureDuringTheCalls(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := plainPeers(t, 300)
		configure(t, d, c)
		dev.made()
		c.PrivateKey = newKey(t)
		for range 20 {
			configure(t, d, c)
			wait(5 * time.Millisecond)
		}
		wait(time.Second)
		groups, _ := dev.made()
		all := slices.Concat(groups...)
		slices.SortFunc(all, func(a, b wgkey.PublicKey) int { return slices.Compare(a[:], b[:]) })
		if n := len(all); n != 200 || len(slices.Compact(all)) != n {
			t.Errorf("%d calls to %d peers, want one each to 200", n, len(slices.Compact(all)))
		}
	})
}

// If the device fails half-way, nobody knows whether it has the new key: the next Configure calls in any case.
func TestNewOwnKeyAfterAFailure(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := plainPeers(t, 6)
		configure(t, d, c)
		dev.made()
		c.PrivateKey = newKey(t)
		broken := errors.New("broken")
		dev.locked(func() {
			dev.fail = broken
			dev.conf.PrivateKey = c.PrivateKey // half-way
		})
		if err := d.Configure(t.Context(), c); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		dev.locked(func() { dev.fail = nil })
		configure(t, d, c)
		wait(time.Second)
		if groups, _ := dev.made(); len(slices.Concat(groups...)) != 4 {
			t.Errorf("calls %v, want 4", groups)
		}
	})
}

// The key in use is called; the other one only if that does not answer.
func TestNewOwnKeyWithPairs(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := pairs(t, 3)
		for i := range c.Peers {
			c.Peers[i].Endpoint = somewhere
		}
		configure(t, d, c)
		for i := range c.Peers {
			dev.shake(c.Peers[i].PublicKey, time.Now())
		}
		dev.shake(c.Peers[1].Next, time.Now().Add(time.Second))
		wait(5 * time.Second)
		if groups, _ := dev.made(); len(groups) != 0 {
			t.Errorf("calls without a reason: %v", groups)
		}
		c.PrivateKey = newKey(t)
		configure(t, d, c)
		wait(100 * time.Millisecond)
		groups, _ := dev.made()
		if want := []wgkey.PublicKey{c.Peers[0].PublicKey, c.Peers[1].Next, c.Peers[2].PublicKey}; len(groups) != 1 || !slices.Equal(sorted(groups[0]), want) {
			t.Errorf("calls %v, want %v", groups, want)
		}
		dev.shake(c.Peers[0].PublicKey, time.Now())
		dev.shake(c.Peers[1].Next, time.Now())
		wait(3 * time.Second)
		if groups, _ = dev.made(); len(groups) != 1 || !slices.Equal(groups[0], []wgkey.PublicKey{c.Peers[2].Next}) {
			t.Errorf("calls %v, want the other key of the silent peer %v", groups, c.Peers[2].Next)
		}
		wait(5 * time.Minute)
		if groups, _ = dev.made(); len(groups) != 5 {
			t.Errorf("%d more calls in five minutes: %v", len(groups), groups)
		}
		dev.shake(c.Peers[2].Next, time.Now())
		wait(3 * time.Second)
		if got := dev.owner(prefixOf(2)); got != c.Peers[2].Next {
			t.Errorf("the silent peer answered under its next key, but uses %v", got)
		}
	})
}

// Which end is patient for longer depends on the keys, so that both never call each other at the same time.
func TestPatience(t *testing.T) {
	for name, c := range map[string]struct {
		next wgkey.PublicKey
		want time.Duration
	}{
		"smaller": {keyOf(1), 2 * time.Second}, "larger": {keyOf(1<<32 - 1), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
				conf := pairs(t, 1)
				conf.Peers[0].Next, conf.Peers[0].Endpoint = c.next, somewhere
				start := time.Now()
				configure(t, d, conf)
				wait(10 * time.Second)
				if _, times := dev.made(); len(times) != 1 || times[0].Sub(start).Round(100*time.Millisecond) != c.want {
					t.Errorf("called at %v, want %v after %v", times, c.want, start)
				}
			})
		})
	}
}

// A peer that is to be kept alive and has been silent for longer than a session lasts is called under its other key; one that merely
// has nothing to say, or is nowhere, is not.
func TestSilence(t *testing.T) {
	fakeTime(t, func(t *testing.T, dev *fake, d *turn.Device) {
		c := pairs(t, 3)
		c.Peers[0].Endpoint, c.Peers[1].Endpoint = somewhere, somewhere
		c.Peers[0].PersistentKeepalive, c.Peers[2].PersistentKeepalive = 25*time.Second, 25*time.Second
		configure(t, d, c)
		dev.shake(c.Peers[0].PublicKey, time.Now())
		dev.shake(c.Peers[1].PublicKey, time.Now())
		wait(3 * time.Minute)
		dev.made()
		wait(5 * time.Second)
		if groups, _ := dev.made(); len(groups) != 1 || !slices.Equal(groups[0], []wgkey.PublicKey{c.Peers[0].Next}) {
			t.Errorf("calls %v, want %v", groups, c.Peers[0].Next)
		}
	})
}

func sorted(keys []wgkey.PublicKey) []wgkey.PublicKey {
	return slices.SortedFunc(slices.Values(keys), func(a, b wgkey.PublicKey) int { return slices.Compare(a[:], b[:]) })
}
