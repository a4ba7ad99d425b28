package turn_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/turn"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Whatever is configured and whoever shakes hands in between: soon afterwards each peer uses the key with the later handshake, the
// keepalives are those of the Config, and no peer of the device that is in both Configs has been made anew.
func TestModel(t *testing.T) {
	own := []wgkey.PrivateKey{newKey(t), newKey(t)}
	synctest.Test(t, func(t *testing.T) {
		// Deadline must not be called in a bubble, and a testing.TB has none.
		rapid.Check(struct{ testing.TB }{t}, func(r *rapid.T) {
			dev := newFake(t)
			d := turn.New(dev, turn.Options{})
			defer d.Close()
			var sessions map[wgkey.PublicKey]int
			for range rapid.IntRange(1, 6).Draw(r, "configs") {
				c := randomPairs(r)
				c.PrivateKey = rapid.SampledFrom(own).Draw(r, "own key")
				if err := d.Configure(context.Background(), c); err != nil {
					r.Fatal(err)
				}
				sessions = sameSessions(r, dev, c, sessions)
				for range rapid.IntRange(0, 6).Draw(r, "handshakes") {
					if len(c.Peers) == 0 {
						break
					}
					p := rapid.SampledFrom(c.Peers).Draw(r, "peer")
					k := p.PublicKey
					if !p.Next.IsZero() && rapid.Bool().Draw(r, "next") {
						k = p.Next
					}
					wait(time.Duration(rapid.IntRange(1, 50).Draw(r, "ms")) * time.Millisecond)
					dev.shake(k, time.Now())
				}
				wait(100 * time.Millisecond)
				wantInUse(r, dev, c)
			}
		})
	})
}

// randomPairs gives out six keys: to up to six peers, some with two.
func randomPairs(r *rapid.T) (c tunnel.Config) {
	keys := rapid.Permutation([]uint32{1, 2, 3, 4, 5, 6}).Draw(r, "keys")
	for n := uint32(1); len(keys) > 0 && rapid.IntRange(0, 5).Draw(r, "more") > 0; n++ {
		p := tunnel.Peer{PublicKey: keyOf(keys[0]), AllowedIPs: []netip.Prefix{prefixOf(n)}}
		if keys = keys[1:]; len(keys) > 0 && rapid.Bool().Draw(r, "pair") {
			p.Next, keys = keyOf(keys[0]), keys[1:]
		} else if rapid.Bool().Draw(r, "endpoint") {
			p.Endpoint = somewhere
		}
		if rapid.Bool().Draw(r, "keepalive") {
			p.PersistentKeepalive = 25 * time.Second
		}
		c.Peers = append(c.Peers, p)
	}
	return c
}

func sameSessions(r *rapid.T, dev *fake, c tunnel.Config, before map[wgkey.PublicKey]int) map[wgkey.PublicKey]int {
	now := map[wgkey.PublicKey]int{}
	for _, p := range c.Peers {
		now[p.PublicKey] = dev.peer(p.PublicKey).session
		if !p.Next.IsZero() {
			now[p.Next] = dev.peer(p.Next).session
		}
	}
	for k, s := range now {
		if was, ok := before[k]; s == 0 || ok && s != was {
			r.Fatalf("the session of %v is %d, was %d", k, s, was)
		}
	}
	dev.locked(func() {
		if len(dev.peers) != len(now) {
			r.Fatalf("the device has %d peers, want %d", len(dev.peers), len(now))
		}
	})
	return now
}

func wantInUse(r *rapid.T, dev *fake, c tunnel.Config) {
	for _, p := range c.Peers {
		used, idle := dev.peer(p.PublicKey), fakePeer{}
		if !p.Next.IsZero() {
			if idle = dev.peer(p.Next); idle.handshake.After(used.handshake) {
				used, idle = idle, used
			}
		}
		if len(used.AllowedIPs) != 1 || used.AllowedIPs[0] != p.AllowedIPs[0] || len(idle.AllowedIPs) != 0 {
			r.Fatalf("key %v has %v, the other one %v; want %v", used.PublicKey, used.AllowedIPs, idle.AllowedIPs, p.AllowedIPs)
		}
		if used.PersistentKeepalive != p.PersistentKeepalive || idle.PersistentKeepalive != 0 {
			r.Fatalf("keepalives %v and %v, want %v and none", used.PersistentKeepalive, idle.PersistentKeepalive, p.PersistentKeepalive)
		}
	}
}
