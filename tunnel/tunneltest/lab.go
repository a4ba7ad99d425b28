package tunneltest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Patience is how long a test waits for something that must happen; Silence how long it watches that something does not.
const (
	Patience = 20 * time.Second
	Silence  = 500 * time.Millisecond
)

// Endpointed is a device under test that is also a Stack.
type Endpointed interface {
	tunnel.Device
	tunnel.Stack
}

// Node is one device under test and where the others reach it.
type Node struct {
	Device Endpointed
	// Underlay is the address at which its UDP port answers.
	Underlay netip.Addr
}

// Factory makes n devices, not configured yet, whose UDP ports reach each other. It registers their cleanup with t.
type Factory func(t testing.TB, n int) []Node

// lab is a full mesh of devices and the configurations they have.
type lab struct {
	t     testing.TB
	nodes []Node
	conf  []tunnel.Config
}

// addr4 and addr6 are the overlay addresses of node i.
func addr4(i int) netip.Addr { return netip.AddrFrom4([4]byte{100, 64, 0, byte(i + 1)}) }
func addr6(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd7a:10::%x", i+1)) }

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// newLab configures n devices as a full mesh.
func newLab(t testing.TB, f Factory, n int) *lab {
	t.Helper()
	l := &lab{t: t, nodes: f(t, n), conf: make([]tunnel.Config, n)}
	for i := range n {
		key, err := wgkey.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		l.conf[i] = tunnel.Config{
			PrivateKey: key,
			Addresses:  []netip.Prefix{host(addr4(i)), host(addr6(i))},
			MTU:        1280,
		}
		l.apply(i) // opens the port
	}
	for i := range n {
		for j := range n {
			if i != j {
				l.conf[i].Peers = append(l.conf[i].Peers, l.peer(j))
			}
		}
	}
	for i := range n {
		l.apply(i)
	}
	return l
}

// peer is node j as the others see it.
func (l *lab) peer(j int) tunnel.Peer {
	l.t.Helper()
	key, err := l.conf[j].PrivateKey.Public()
	if err != nil {
		l.t.Fatal(err)
	}
	return tunnel.Peer{
		PublicKey:  key,
		Endpoint:   netip.AddrPortFrom(l.nodes[j].Underlay, l.status(j).ListenPort),
		AllowedIPs: []netip.Prefix{host(addr4(j)), host(addr6(j))},
	}
}

// peerOf points to node j in the configuration of node i.
func (l *lab) peerOf(i, j int) *tunnel.Peer {
	l.t.Helper()
	key, err := l.conf[j].PrivateKey.Public()
	if err != nil {
		l.t.Fatal(err)
	}
	n := slices.IndexFunc(l.conf[i].Peers, func(p tunnel.Peer) bool { return p.PublicKey == key })
	if n < 0 {
		l.t.Fatalf("node %d has no peer %d", i, j)
	}
	return &l.conf[i].Peers[n]
}

// drop takes node j out of the configuration of node i.
func (l *lab) drop(i, j int) {
	l.t.Helper()
	key := l.peerOf(i, j).PublicKey
	l.conf[i].Peers = slices.DeleteFunc(slices.Clone(l.conf[i].Peers), func(p tunnel.Peer) bool { return p.PublicKey == key })
}

func (l *lab) apply(i int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := l.nodes[i].Device.Configure(ctx, l.conf[i]); err != nil {
		l.t.Fatalf("configure node %d: %v", i, err)
	}
}

func (l *lab) status(i int) tunnel.Status {
	l.t.Helper()
	s, err := l.nodes[i].Device.Status(context.Background())
	if err != nil {
		l.t.Fatalf("status of node %d: %v", i, err)
	}
	return s
}

// seen is what node i says about its peer j; ok is false if it has none.
func (l *lab) seen(i, j int) (s tunnel.PeerStatus, ok bool) {
	l.t.Helper()
	key, err := l.conf[j].PrivateKey.Public()
	if err != nil {
		l.t.Fatal(err)
	}
	st := l.status(i)
	n := slices.IndexFunc(st.Peers, func(p tunnel.PeerStatus) bool { return p.PublicKey == key })
	if n < 0 {
		return s, false
	}
	return st.Peers[n], true
}
