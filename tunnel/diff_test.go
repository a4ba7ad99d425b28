package tunnel_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// model is the naive device: it does what a Change says, with WireGuard's rule that a prefix belongs to whoever got it last.
type model struct {
	key   wgkey.PrivateKey
	port  uint16
	peers map[wgkey.PublicKey]modelPeer
	owner map[netip.Prefix]wgkey.PublicKey
}

type modelPeer struct {
	Shared    wgkey.PresharedKey
	Endpoint  netip.AddrPort
	Keepalive time.Duration
	session   int // which life of the peer this is: a new one means that the session was lost
}

func newModel() *model {
	return &model{peers: map[wgkey.PublicKey]modelPeer{}, owner: map[netip.Prefix]wgkey.PublicKey{}}
}

// apply performs the change and calls after between its parts.
func (m *model) apply(c tunnel.Change, session int, after func()) error {
	if c.PrivateKey != nil {
		m.key = *c.PrivateKey
	}
	if c.ListenPort != nil {
		m.port = *c.ListenPort
	}
	for _, k := range c.Removed {
		if _, ok := m.peers[k]; !ok {
			return fmt.Errorf("removes %v, which is not there", k)
		}
		delete(m.peers, k)
		maps.DeleteFunc(m.owner, func(_ netip.Prefix, o wgkey.PublicKey) bool { return o == k })
		after()
	}
	for _, u := range c.Updated {
		for _, p := range u.RemovedIPs {
			if m.owner[p] != u.PublicKey {
				return fmt.Errorf("takes %v from %v, which does not have it", p, u.PublicKey)
			}
			delete(m.owner, p)
		}
		after()
	}
	for _, u := range c.Updated {
		p, ok := m.peers[u.PublicKey]
		if !ok {
			return fmt.Errorf("updates %v, which is not there", u.PublicKey)
		}
		if u.PresharedKey != nil {
			p.Shared = *u.PresharedKey
		}
		if u.Endpoint != nil {
			p.Endpoint = *u.Endpoint
		}
		if u.PersistentKeepalive != nil {
			p.Keepalive = *u.PersistentKeepalive
		}
		m.peers[u.PublicKey] = p
		for _, a := range u.AddedIPs {
			m.owner[a] = u.PublicKey
		}
		after()
	}
	for _, a := range c.Added {
		if _, ok := m.peers[a.PublicKey]; ok {
			return fmt.Errorf("adds %v, which is there", a.PublicKey)
		}
		m.peers[a.PublicKey] = modelPeer{Shared: a.PresharedKey, Endpoint: a.Endpoint, Keepalive: a.PersistentKeepalive, session: session}
		for _, p := range a.AllowedIPs {
			m.owner[p] = a.PublicKey
		}
		after()
	}
	return nil
}

func owners(c tunnel.Config) map[netip.Prefix]wgkey.PublicKey {
	m := map[netip.Prefix]wgkey.PublicKey{}
	for _, p := range c.Peers {
		for _, a := range p.AllowedIPs {
			m[a] = p.PublicKey
		}
	}
	return m
}

func TestDiffsLeadToTheConfig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel()
		var old tunnel.Config
		for session, next := range rapid.SliceOfN(tunneltest.Configs(), 1, 8).Draw(t, "configs") {
			if err := next.Validate(); err != nil {
				t.Fatalf("generated %v", err)
			}
			for k, p := range m.peers { // roam
				if p.Endpoint.IsValid() && rapid.Bool().Draw(t, "roams") {
					p.Endpoint = netip.MustParseAddrPort("203.0.113.9:9")
					m.peers[k] = p
				}
			}
			before, was := maps.Clone(m.peers), owners(old)
			will := owners(next)
			change := tunnel.Diff(old, next)
			err := m.apply(change, session, func() {
				for p, o := range m.owner {
					if was[p] != o && will[p] != o {
						t.Fatalf("half-way, %v belongs to %v: before it was %v, then it will be %v", p, o, was[p], will[p])
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			want := map[wgkey.PublicKey]modelPeer{}
			for _, p := range next.Peers {
				w := modelPeer{Shared: p.PresharedKey, Endpoint: p.Endpoint, Keepalive: tunnel.WholeSeconds(p.PersistentKeepalive), session: session}
				i := slices.IndexFunc(old.Peers, func(o tunnel.Peer) bool { return o.PublicKey == p.PublicKey })
				if i >= 0 {
					w.session = before[p.PublicKey].session
					if !p.Endpoint.IsValid() || p.Endpoint == old.Peers[i].Endpoint {
						w.Endpoint = before[p.PublicKey].Endpoint
					}
				}
				want[p.PublicKey] = w
			}
			if d := cmp.Diff(want, m.peers, cmp.AllowUnexported(modelPeer{}), cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
				t.Fatalf("peers after the change (-want +got):\n%s", d)
			}
			if !maps.Equal(m.owner, will) {
				t.Fatalf("prefixes after the change: %v, want %v", m.owner, will)
			}
			if !m.key.Equal(next.PrivateKey) || (next.ListenPort != 0 && m.port != next.ListenPort) {
				t.Fatalf("key or port %d are not those of the config (port %d)", m.port, next.ListenPort)
			}
			if again := tunnel.Diff(next, next); !again.IsZero() {
				t.Fatalf("a config differs from itself: %+v", again)
			}
			old = next
			old.ListenPort = m.port // what a device would report
		}
	})
}

func TestDiffIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, next := tunneltest.Configs().Draw(t, "old"), tunneltest.Configs().Draw(t, "next")
		want := tunnel.Diff(old, next)
		shuffle := func(c tunnel.Config, label string) tunnel.Config {
			c.Peers = rapid.Permutation(c.Peers).Draw(t, label)
			c.Peers = slices.Clone(c.Peers)
			for i := range c.Peers {
				c.Peers[i].AllowedIPs = rapid.Permutation(c.Peers[i].AllowedIPs).Draw(t, label)
			}
			return c
		}
		got := tunnel.Diff(shuffle(old, "old order"), shuffle(next, "next order"))
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("the order of the lists matters:\n%s", d)
		}
	})
}

func TestDiffIgnoresNext(t *testing.T) {
	p := tunnel.Peer{PublicKey: wgkey.PublicKey{1}}
	with := p
	with.Next = wgkey.PublicKey{2}
	plain, pair := tunnel.Config{Peers: []tunnel.Peer{p}}, tunnel.Config{Peers: []tunnel.Peer{with}}
	if c := tunnel.Diff(plain, pair); !c.IsZero() {
		t.Errorf("a next key changes the device: %+v", c)
	}
	if c := tunnel.Diff(tunnel.Config{}, pair); len(c.Added) != 1 || !c.Added[0].Next.IsZero() {
		t.Errorf("a next key is added to the device: %+v", c)
	}
}

func TestPortZeroKeepsThePort(t *testing.T) {
	c := tunnel.Diff(tunnel.Config{ListenPort: 40000}, tunnel.Config{})
	if c.ListenPort != nil {
		t.Errorf("port 0 moves the device to %d", *c.ListenPort)
	}
}

func TestWholeSeconds(t *testing.T) {
	for in, want := range map[time.Duration]time.Duration{
		-1: 0, 0: 0, 1: time.Second, 400 * time.Millisecond: time.Second, 1499 * time.Millisecond: time.Second,
		1500 * time.Millisecond: 2 * time.Second, tunnel.MaxKeepalive: tunnel.MaxKeepalive,
	} {
		if got := tunnel.WholeSeconds(in); got != want {
			t.Errorf("WholeSeconds(%v) = %v, want %v", in, got, want)
		}
	}
}
