package kernel

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// model is a WireGuard interface as the kernel's (drivers/net/wireguard/netlink.c) takes calls.
type model struct {
	key   wgtypes.Key
	port  int
	peers map[wgtypes.Key]*modelPeer
	// replaced counts how often a peer lost its prefixes for a moment.
	replaced int
}

type modelPeer struct {
	psk       wgtypes.Key
	endpoint  netip.AddrPort
	keepalive time.Duration
	allowed   map[netip.Prefix]bool
}

func (m *model) call(t *rapid.T, c wgtypes.Config) {
	if c.ReplacePeers {
		t.Fatal("all peers are replaced")
	}
	if c.PrivateKey != nil {
		m.key = *c.PrivateKey
	}
	if c.ListenPort != nil {
		m.port = *c.ListenPort
	}
	twice := map[wgtypes.Key]bool{}
	for _, p := range c.Peers {
		if twice[p.PublicKey] {
			t.Fatal("a peer is in one call twice, of which wgctrl loses a part when it splits the call")
		}
		twice[p.PublicKey] = true
		m.peer(p)
	}
}

func (m *model) peer(p wgtypes.PeerConfig) {
	is := m.peers[p.PublicKey]
	switch {
	case p.Remove:
		delete(m.peers, p.PublicKey)
		return
	case is == nil && p.UpdateOnly:
		return
	case is == nil:
		is = &modelPeer{allowed: map[netip.Prefix]bool{}}
		m.peers[p.PublicKey] = is
	case p.ReplaceAllowedIPs:
		m.replaced++
	}
	if p.ReplaceAllowedIPs {
		clear(is.allowed)
	}
	for _, a := range prefixes(p.AllowedIPs) {
		for _, other := range m.peers { // a prefix has one owner
			delete(other.allowed, a)
		}
		is.allowed[a] = true
	}
	if p.PresharedKey != nil {
		is.psk = *p.PresharedKey
	}
	if p.Endpoint != nil {
		is.endpoint = p.Endpoint.AddrPort()
	}
	if p.PersistentKeepaliveInterval != nil {
		is.keepalive = p.PersistentKeepaliveInterval.Truncate(time.Second) // as wgctrl sends it
	}
}

// device is what wgctrl would read back.
func (m *model) device() *wgtypes.Device {
	d := &wgtypes.Device{PrivateKey: m.key, ListenPort: m.port}
	for k, p := range m.peers {
		o := wgtypes.Peer{
			PublicKey: k, PresharedKey: p.psk, PersistentKeepaliveInterval: p.keepalive, AllowedIPs: ipNets(slices.Collect(maps.Keys(p.allowed))),
			LastHandshakeTime: time.Unix(0, 0), // none, says the kernel
		}
		if p.endpoint.IsValid() {
			o.Endpoint = net.UDPAddrFromAddrPort(p.endpoint)
		}
		d.Peers = append(d.Peers, o)
	}
	return d
}

// From any configuration to any other, through the calls that are made: in between nothing is allowed that neither allows, peers that stay are
// never without the prefixes that stay, and in the end all is as wanted.
func TestRenderAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{peers: map[wgtypes.Key]*modelPeer{}}
		var old tunnel.Config
		configured := endpoints{}
		for range rapid.IntRange(1, 4).Draw(t, "configurations") {
			next := tunneltest.Configs().Draw(t, "config")
			is, err := observe(m.device(), configured)
			if err != nil {
				t.Fatal(err)
			}
			calls, err := render(tunnel.Diff(is, next))
			if err != nil {
				t.Fatal(err)
			}
			m.replaced = 0
			for _, c := range calls {
				m.call(t, c)
				m.checkBetween(t, old, next)
			}
			if m.replaced > 0 {
				t.Fatal("a peer that stays lost all its prefixes for a moment")
			}
			clear(configured)
			for _, p := range next.Peers {
				if p.Endpoint.IsValid() {
					configured[p.PublicKey] = p.Endpoint
				}
			}
			m.checkEnd(t, next, configured)
			old = next
		}
	})
}

func (m *model) checkBetween(t *rapid.T, old, next tunnel.Config) {
	for k, p := range m.peers {
		may := map[netip.Prefix]bool{}
		var stay []netip.Prefix
		known := false
		for _, c := range []tunnel.Config{old, next} {
			i := slices.IndexFunc(c.Peers, func(p tunnel.Peer) bool { return p.PublicKey == wgkey.PublicKey(k) })
			if i < 0 {
				continue
			}
			known = true
			for _, a := range c.Peers[i].AllowedIPs {
				if may[a] {
					stay = append(stay, a)
				}
				may[a] = true
			}
		}
		if !known { // the one that nobody can be: nothing can be sent to it
			if p.endpoint.IsValid() || p.keepalive != 0 {
				t.Fatal("a peer that nobody asked for has an endpoint")
			}
			continue
		}
		for a := range p.allowed {
			if !may[a] {
				t.Fatalf("%v is allowed to a peer to which no configuration allows it", a)
			}
		}
		for _, a := range stay {
			if !p.allowed[a] {
				t.Fatalf("%v stays with its peer, and left it in between", a)
			}
		}
	}
}

func (m *model) checkEnd(t *rapid.T, want tunnel.Config, configured endpoints) {
	got, err := observe(m.device(), configured)
	if err != nil {
		t.Fatal(err)
	}
	if want.ListenPort == 0 {
		want.ListenPort = got.ListenPort
	}
	if c := tunnel.Diff(got, want); !c.IsZero() {
		t.Fatalf("in the end there still is to do: %+v", c)
	}
	var s tunnel.Status
	report(&s, m.device())
	for _, p := range want.Peers {
		i := slices.IndexFunc(s.Peers, func(s tunnel.PeerStatus) bool { return s.PublicKey == p.PublicKey })
		if i < 0 || p.Endpoint.IsValid() && s.Peers[i].Endpoint != p.Endpoint || !s.Peers[i].LastHandshake.IsZero() {
			t.Fatalf("status %+v does not show %+v", s, p)
		}
		sorted := slices.SortedFunc(slices.Values(p.AllowedIPs), netip.Prefix.Compare)
		seen := slices.SortedFunc(slices.Values(s.Peers[i].AllowedIPs), netip.Prefix.Compare)
		if d := cmp.Diff(slices.Compact(sorted), seen, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("allowed IPs (-want +got):\n%s", d)
		}
	}
}
