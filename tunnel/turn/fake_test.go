package turn_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// fake is a device that does what a Config says to its peers and nothing on a network.
type fake struct {
	t    testing.TB
	cost time.Duration // of a Status

	mu       sync.Mutex
	conf     tunnel.Config
	peers    map[wgkey.PublicKey]*fakePeer
	applied  int
	asked    []time.Time // when Status was called
	calls    []called
	fail     error // of Configure
	failLook error // of Status
	closed   bool
	private  wgkey.PrivateKey
	own      wgkey.PublicKey // of private
}

type fakePeer struct {
	tunnel.Peer
	handshake time.Time
	learned   netip.AddrPort
	session   int // the Configure that made the peer
}

// called is a keepalive that was turned on.
type called struct {
	at  time.Time
	key wgkey.PublicKey
}

func newFake(t testing.TB) *fake { return &fake{t: t, peers: map[wgkey.PublicKey]*fakePeer{}} }

func (f *fake) Configure(_ context.Context, c tunnel.Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return net.ErrClosed
	}
	if err := c.Validate(); err != nil { // among others, that no prefix has two owners
		f.t.Errorf("the device gets an invalid Config: %v", err)
	}
	if f.fail != nil {
		return f.fail
	}
	f.applied++
	f.conf = c
	stay := map[wgkey.PublicKey]bool{}
	for _, p := range c.Peers {
		if !p.Next.IsZero() {
			f.t.Error("the device is told about a next key")
		}
		stay[p.PublicKey] = true
		had := f.peers[p.PublicKey]
		if had == nil {
			had = &fakePeer{session: f.applied}
			f.peers[p.PublicKey] = had
		}
		if had.PersistentKeepalive == 0 && p.PersistentKeepalive > 0 {
			f.calls = append(f.calls, called{time.Now(), p.PublicKey})
		}
		had.Peer = p
	}
	for k := range f.peers {
		if !stay[k] {
			delete(f.peers, k)
		}
	}
	return nil
}

func (f *fake) Status(context.Context) (tunnel.Status, error) {
	var cost time.Duration
	f.locked(func() { cost = f.cost })
	<-time.After(cost)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, time.Now())
	if f.closed {
		return tunnel.Status{}, net.ErrClosed
	}
	if f.failLook != nil {
		return tunnel.Status{}, f.failLook
	}
	var s tunnel.Status
	if !f.conf.PrivateKey.IsZero() {
		if !f.conf.PrivateKey.Equal(f.private) {
			f.private, f.own = f.conf.PrivateKey, public(f.t, f.conf.PrivateKey)
		}
		s.PublicKey = f.own
	}
	for k, p := range f.peers {
		e := p.Endpoint
		if p.learned.IsValid() {
			e = p.learned
		}
		s.Peers = append(s.Peers, tunnel.PeerStatus{PublicKey: k, LastHandshake: p.handshake, Endpoint: e, AllowedIPs: p.AllowedIPs})
	}
	return s, nil
}

func (f *fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// locked runs g while nobody else touches the fake.
func (f *fake) locked(g func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g()
}

// shake is a handshake with the key, at a time by the wall clock.
func (f *fake) shake(k wgkey.PublicKey, at time.Time) {
	f.locked(func() { f.peers[k].handshake = at.Round(0) })
}

// owner is who has the prefix, as far as the device knows.
func (f *fake) owner(p netip.Prefix) (owner wgkey.PublicKey) {
	f.locked(func() {
		for k, peer := range f.peers {
			for _, a := range peer.AllowedIPs {
				if a == p {
					owner = k
				}
			}
		}
	})
	return owner
}

func (f *fake) peer(k wgkey.PublicKey) (p fakePeer) {
	f.locked(func() {
		if at := f.peers[k]; at != nil {
			p = *at
		}
	})
	return p
}

func (f *fake) number() (applied, asked int) {
	f.locked(func() { applied, asked = f.applied, len(f.asked) })
	return applied, asked
}

// made are the calls since the last time, in groups made by one Configure.
func (f *fake) made() (groups [][]wgkey.PublicKey, times []time.Time) {
	f.locked(func() {
		for _, c := range f.calls {
			if n := len(times); n == 0 || !times[n-1].Equal(c.at) {
				groups, times = append(groups, nil), append(times, c.at)
			}
			groups[len(groups)-1] = append(groups[len(groups)-1], c.key)
		}
		f.calls = nil
	})
	return groups, times
}
