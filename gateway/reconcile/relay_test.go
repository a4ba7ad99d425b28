package reconcile_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func TestWaysThroughRelays(t *testing.T) {
	own, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	self, err := own.Public()
	if err != nil {
		t.Fatal(err)
	}
	host := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s + "/32")} }
	m := wire.NetMap{
		Self:    wire.Self{Address: netip.MustParseAddr("10.201.1.1"), PublicKey: self},
		Overlay: []netip.Prefix{netip.MustParsePrefix("10.201.0.0/16")},
		Hub:     wire.Hub{PublicKey: wgkey.PublicKey{1}, Address: netip.MustParseAddr("10.201.0.1"), Endpoints: []string{"hub:1"}},
		Peers: []wire.Peer{
			{Site: "direct", PublicKey: wgkey.PublicKey{2}, Endpoints: []string{"direct:1"}, Relays: []string{"relay:1"}, AllowedIPs: host("10.201.2.1")},
			{Site: "relayed", PublicKey: wgkey.PublicKey{3}, Relays: []string{"unresolved:1", "relay:1", "hub:1"}, AllowedIPs: host("10.201.3.1"), Keepalive: 25},
			{Site: "calls", PublicKey: wgkey.PublicKey{4}, AllowedIPs: host("10.201.4.1")},
			// A name that cannot be resolved now is no reason to go another way: the peer is called where it is once it can be.
			{Site: "nameless", PublicKey: wgkey.PublicKey{5}, Endpoints: []string{"unresolved:1"}, Relays: []string{"relay:1"}, AllowedIPs: host("10.201.5.1")},
		},
		Relays: []wire.RelayServer{
			{Node: "r", PublicKey: wgkey.PublicKey{6}, NextKey: wgkey.PublicKey{7}, Endpoints: []string{"relay:1"}},
			{Node: "thief", PublicKey: wgkey.PublicKey{2}, Endpoints: []string{"relay:1"}},
			{Node: "mirror", PublicKey: self, Endpoints: []string{"relay:1"}},
		},
		Relay: &wire.RelayTable{Members: []wire.RelayMember{{PublicKey: wgkey.PublicKey{8}, NextKey: wgkey.PublicKey{3}}, {PublicKey: wgkey.PublicKey{9}, Unmanaged: true}}},
	}
	at := map[string]netip.AddrPort{
		"hub:1": netip.MustParseAddrPort("192.0.2.1:1"), "relay:1": netip.MustParseAddrPort("192.0.2.2:1"), "direct:1": netip.MustParseAddrPort("192.0.2.3:1"),
	}
	d, err := reconcile.Compile(m, reconcile.Local{PrivateKey: own, Endpoints: at})
	if err != nil {
		t.Fatal(err)
	}
	got := map[byte]tunnel.Peer{}
	for _, p := range d.Tunnel.Peers {
		got[p.PublicKey[0]] = p
	}
	for k, want := range map[byte]struct {
		endpoint  string
		keepalive time.Duration
		routes    int
	}{
		1: {"hub:1", 25 * time.Second, 1}, 2: {"direct:1", 0, 1}, 3: {"relay:1", 25 * time.Second, 1}, 4: {"", 0, 1}, 5: {"", 0, 1},
		6: {"relay:1", 25 * time.Second, 0}, 8: {"", 0, 0},
	} {
		p, ok := got[k]
		if !ok || p.Endpoint != at[want.endpoint] || p.PersistentKeepalive != want.keepalive || len(p.AllowedIPs) != want.routes {
			t.Errorf("peer %d is %+v, want %+v", k, p, want)
		}
	}
	if len(got) != 7 || got[6].Next != (wgkey.PublicKey{7}) || !got[8].Next.IsZero() {
		t.Errorf("there are %d peers, and the relays' next keys are %v and %v", len(got), got[6].Next, got[8].Next)
	}
}
