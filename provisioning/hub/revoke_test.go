package hub_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/hub"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/turn"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// revokedWithin is how soon a key is worth nothing.
const revokedWithin = 2 * time.Second

// Who was removed or quarantined is shut out at once, over real WireGuard on loopback, although its box goes on sending: with the next
// generation its key is gone from the hub and from its peers' maps, and nothing it sends is answered.
func TestRevocation(t *testing.T) {
	for name, revoke := range map[string]func(context.Context, *provisioningtest.Network, provisioning.NodeID) error{
		"removed": func(ctx context.Context, n *provisioningtest.Network, id provisioning.NodeID) error {
			return n.RemoveNode(ctx, "test", id)
		},
		"quarantined": func(ctx context.Context, n *provisioningtest.Network, id provisioning.NodeID) error {
			return n.QuarantineNode(ctx, "test", id, "stolen")
		},
	} {
		for _, off := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, off %v", name, off), func(t *testing.T) { tryRevocation(t, revoke, off) })
		}
	}
}

func tryRevocation(t *testing.T, revoke func(context.Context, *provisioningtest.Network, provisioning.NodeID) error, off bool) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stack, err := netstack.New(netstack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dev := turn.NewStacked(stack, turn.Options{})
	defer dev.Close()
	n := newNetwork(t, provisioningtest.Options{Init: coordinator.InitOptions{HubEndpoints: []string{"127.0.0.1:1"}}})
	n.Center(t, "lab", "192.0.2.1:51820")
	n.Clinic(t, "nord")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.Grant(t, "pacs", "nord")
	h := hub.New(hub.Config{Device: dev, Stack: dev, Coordinator: n.Coordinator})
	hubCtx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- h.Run(hubCtx) }()
	defer func() { stop(); <-ended }()
	<-h.Ready()
	status, err := dev.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	lab, box := n.Node(t, "lab"), n.Node(t, "nord")
	m := box.Map()
	own, err := netstack.New(netstack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if err := own.Configure(ctx, tunnel.Config{
		PrivateKey: box.Key, Addresses: []netip.Prefix{netip.PrefixFrom(m.Self.Address, 32)},
		Peers: []tunnel.Peer{{
			PublicKey: m.Hub.PublicKey, AllowedIPs: []netip.Prefix{netip.PrefixFrom(m.Hub.Address, 32)}, PersistentKeepalive: wire.NodeKeepalive,
			Endpoint: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), status.ListenPort),
		}},
	}); err != nil {
		t.Fatal(err)
	}
	door := netip.AddrPortFrom(m.Hub.Address, m.Hub.ControlPort).String()
	knock := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		c, err := own.DialContext(ctx, "tcp", door)
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := knock(10 * time.Second); err != nil {
		t.Fatalf("before: %v", err)
	}
	if off {
		own.Close()
	}

	began := time.Now()
	if err := revoke(ctx, n, box.ID); err != nil {
		t.Fatal(err)
	}
	if _, m, err := n.NetMapFor(ctx, lab.ID); err != nil || len(m.Peers) != 0 || len(m.Offers) != 0 {
		t.Errorf("the center's next map has peers %+v, offers %+v (%v)", m.Peers, m.Offers, err)
	}
	gone := func() bool {
		s, err := dev.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range s.Peers {
			if p.PublicKey == m.Self.PublicKey {
				return false
			}
		}
		return true
	}
	for !gone() {
		if time.Since(began) > revokedWithin {
			t.Fatalf("after %s the hub still has the key", revokedWithin)
		}
		runtime.Gosched()
	}
	t.Logf("gone from the hub after %s", time.Since(began).Round(time.Millisecond))
	if !off {
		if err := knock(time.Second); err == nil {
			t.Error("the hub still answers")
		}
		if !gone() {
			t.Error("what the box sends brings its key back")
		}
	}
}

// maxPerPeer is what a node may cost the hub's device, in bytes.
const maxPerPeer = 64 << 10

// BenchmarkHubMemory measures what a peer of the hub's device costs that calls nobody: the heap and the stacks.
func BenchmarkHubMemory(b *testing.B) {
	const peers = 10_000
	for b.Loop() {
		before := memoryInUse()
		stack, err := netstack.New(netstack.Options{})
		if err != nil {
			b.Fatal(err)
		}
		dev := turn.NewStacked(stack, turn.Options{})
		key, err := wgkey.NewPrivateKey()
		if err != nil {
			b.Fatal(err)
		}
		c := tunnel.Config{PrivateKey: key, Addresses: []netip.Prefix{netip.MustParsePrefix("10.201.0.1/32")}}
		for i := range peers {
			var k wgkey.PublicKey
			binary.BigEndian.PutUint32(k[:], uint32(i+1))
			a := netip.AddrFrom4([4]byte{10, 202, byte(i >> 8), byte(i)})
			c.Peers = append(c.Peers, tunnel.Peer{PublicKey: k, AllowedIPs: []netip.Prefix{netip.PrefixFrom(a, 32)}})
		}
		if err := dev.Configure(b.Context(), c); err != nil {
			b.Fatal(err)
		}
		each := float64(memoryInUse()-before) / peers
		b.ReportMetric(each, "B/peer")
		if each > maxPerPeer {
			b.Errorf("a peer costs %.0f bytes and %d are the bar", each, maxPerPeer)
		}
		if err := dev.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func memoryInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
