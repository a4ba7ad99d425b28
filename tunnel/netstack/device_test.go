package netstack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/capture"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/steer"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func TestContractInMemory(t *testing.T) {
	tunneltest.Device(t, inMemory)
}

// With a Bind that steers, peers that are not steered are as they always were.
func TestContractSteered(t *testing.T) {
	tunneltest.Device(t, func(t testing.TB, n int) []tunneltest.Node {
		network := tunneltest.NewNetwork()
		nodes := make([]tunneltest.Node, n)
		for i := range nodes {
			a := netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})
			nodes[i] = node(t, netstack.Options{Bind: steer.New(network.Bind(a))}, a)
		}
		return nodes
	})
}

func TestContractUDP(t *testing.T) {
	tunneltest.Device(t, func(t testing.TB, n int) []tunneltest.Node {
		nodes := make([]tunneltest.Node, n)
		for i := range nodes {
			nodes[i] = node(t, netstack.Options{}, netip.MustParseAddr("127.0.0.1"))
		}
		return nodes
	})
}

func inMemory(t testing.TB, n int) []tunneltest.Node {
	network := tunneltest.NewNetwork()
	nodes := make([]tunneltest.Node, n)
	for i := range nodes {
		a := netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})
		nodes[i] = node(t, netstack.Options{Bind: network.Bind(a)}, a)
	}
	return nodes
}

func node(t testing.TB, o netstack.Options, underlay netip.Addr) tunneltest.Node {
	t.Helper()
	d, err := netstack.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return tunneltest.Node{Device: d, Underlay: underlay}
}

func config(t testing.TB, address string, mtu int) tunnel.Config {
	t.Helper()
	key, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return tunnel.Config{PrivateKey: key, Addresses: []netip.Prefix{netip.MustParsePrefix(address)}, MTU: mtu}
}

// pair makes two devices that are each other's peers, on a network whose sockets never drop unless told.
func pair(t testing.TB, network *tunneltest.Network, mtu int) (devices [2]*netstack.Device, confs [2]tunnel.Config) {
	t.Helper()
	return tapped(t, network, mtu, nil)
}

// tapped is pair with a tap on the first device.
func tapped(t testing.TB, network *tunneltest.Network, mtu int, tap *capture.Tap) (devices [2]*netstack.Device, confs [2]tunnel.Config) {
	t.Helper()
	for i := range devices {
		a := netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})
		d, err := netstack.New(netstack.Options{Bind: network.Bind(a), Tap: []*capture.Tap{tap, nil}[i]})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		devices[i] = d
		confs[i] = config(t, []string{"100.64.0.1/32", "100.64.0.2/32"}[i], mtu)
		confs[i].ListenPort = 51820
	}
	for i, d := range devices {
		other := confs[1-i]
		key, err := other.PrivateKey.Public()
		if err != nil {
			t.Fatal(err)
		}
		confs[i].Peers = []tunnel.Peer{{
			PublicKey: key, AllowedIPs: other.Addresses,
			Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(2 - i)}), 51820),
		}}
		if err := d.Configure(t.Context(), confs[i]); err != nil {
			t.Fatal(err)
		}
	}
	return devices, confs
}

// connect returns both ends of a connection from the first device to the second.
func connect(t testing.TB, devices [2]*netstack.Device) (client, server net.Conn) {
	t.Helper()
	ln, err := devices[1].Listen(t.Context(), "tcp", "100.64.0.2:104")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), tunneltest.Patience)
	defer cancel()
	if client, err = devices[0].DialContext(ctx, "tcp", "100.64.0.2:104"); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	for _, c := range []net.Conn{client, server} {
		if err := c.SetDeadline(time.Now().Add(tunneltest.Patience)); err != nil {
			t.Fatal(err)
		}
	}
	return client, server
}

func TestPortInUse(t *testing.T) {
	taken, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := netip.MustParseAddrPort(taken.LocalAddr().String()).Port()
	d, err := netstack.New(netstack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c := config(t, "100.64.0.1/32", 0)
	c.ListenPort = port
	check := func(err error) {
		t.Helper()
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), fmt.Sprintf("UDP port %d is used by another program", port)) {
			t.Errorf("error %v does not name the port", err)
		}
	}
	check(d.Configure(t.Context(), c))
	if _, err := d.DialContext(t.Context(), "tcp", "100.64.0.2:1"); err == nil {
		t.Error("dialing works although configuring failed")
	}

	c.ListenPort = 0
	if err := d.Configure(t.Context(), c); err != nil {
		t.Fatalf("a free port: %v", err)
	}
	before, err := d.Status(t.Context())
	if err != nil || before.ListenPort == 0 {
		t.Fatalf("status %+v (%v)", before, err)
	}
	c.ListenPort = port
	check(d.Configure(t.Context(), c))
	if after, err := d.Status(t.Context()); err != nil || after.ListenPort != before.ListenPort {
		t.Errorf("after a failed move the port is %d, before it was %d (%v)", after.ListenPort, before.ListenPort, err)
	}
}

// Of a reset connection, gVisor tells one caller the reason and all others that the stream has ended.
func TestResetIsNeverEndOfStream(t *testing.T) {
	devices, _ := pair(t, tunneltest.NewNetwork(), 1280)
	for _, first := range []string{"read", "write", "theft"} {
		client, server := connect(t, devices)
		if _, err := client.Write([]byte("something")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil { // with data unread: that is a reset
			t.Fatal(err)
		}
		if first == "write" {
			for {
				if _, err := client.Write([]byte("more")); err != nil {
					break
				}
			}
		}
		if first == "theft" {
			awaitReset(t, client)
			netstack.StealError(client)
		}
		for range 3 {
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s first: read of a reset connection: %v", first, err)
			}
		}
		if _, err := client.Write([]byte("more")); err == nil {
			t.Errorf("%s first: write to a reset connection succeeded", first)
		}
	}
}

// awaitReset returns when the reset has arrived, without asking for its reason.
func awaitReset(t *testing.T, c net.Conn) {
	t.Helper()
	for end := time.Now().Add(tunneltest.Patience); !netstack.InError(c); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the reset does not arrive")
		}
	}
}

func TestHalfClose(t *testing.T) {
	devices, _ := pair(t, tunneltest.NewNetwork(), 1280)
	client, server := connect(t, devices)
	if err := client.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read after the other end's half-close: %v", err)
	}
	if _, err := io.WriteString(server, "still open"); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(client); err != nil || string(b) != "still open" {
		t.Errorf("read %q (%v)", b, err)
	}
	if _, err := client.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after one's own half-close: %v", err)
	}
	for range 2 {
		if err := client.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

// Connections keep the segment size of their beginning; a lower MTU holds for them all the same.
func TestLowerMTUHoldsForLiveConnections(t *testing.T) {
	network := tunneltest.NewNetwork()
	var largest atomic.Int64
	network.Drop = func(_, _ netip.AddrPort, payload []byte) bool {
		for n := int64(len(payload)); ; {
			if old := largest.Load(); n <= old || largest.CompareAndSwap(old, n) {
				return false
			}
		}
	}
	devices, confs := pair(t, network, 1420)
	client, server := connect(t, devices)
	send := func(n int) {
		t.Helper()
		go func() { _, _ = client.Write(make([]byte, n)) }()
		if _, err := io.CopyN(io.Discard, server, int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	const overhead = 32 // of a transport message (WireGuard paper §5.4.6)
	send(1 << 20)
	if got := largest.Load(); got > 1420+overhead || got <= 1280+overhead {
		t.Errorf("the largest packet has %d bytes, want up to %d", got, 1420+overhead)
	}
	for i := range devices {
		confs[i].MTU = 1280
		if err := devices[i].Configure(t.Context(), confs[i]); err != nil {
			t.Fatal(err)
		}
	}
	send(1) // whatever was under way has arrived
	largest.Store(0)
	send(1 << 20)
	if got := largest.Load(); got > 1280+overhead || got < 1200 {
		t.Errorf("the largest packet has %d bytes after the MTU was lowered, want %d", got, 1280+overhead)
	}
}

// Changing the port closes WireGuard's sockets and waits for its receivers, in the middle of everything.
func TestPortChangesUnderLoad(t *testing.T) {
	devices, confs := pair(t, tunneltest.NewNetwork(), 1280)
	stop := make(chan struct{})
	var flows sync.WaitGroup
	var moved [2]atomic.Int64
	for range 4 {
		client, server := connect(t, devices)
		for i, c := range []net.Conn{client, server} {
			flows.Go(func() {
				b := make([]byte, 256<<10)
				for !closed(stop) {
					if _, err := c.Write(b); err != nil {
						return
					}
				}
				_ = c.Close()
			})
			flows.Go(func() {
				b := make([]byte, 256<<10)
				for {
					n, err := c.Read(b)
					moved[i].Add(int64(n))
					if err != nil {
						return
					}
				}
			})
		}
	}
	for round := range 20 {
		before := [2]int64{moved[0].Load(), moved[1].Load()}
		i := round % 2 // in turn, or they would not find each other again
		confs[i].ListenPort = uint16(40000 + round)
		if err := devices[i].Configure(t.Context(), confs[i]); err != nil {
			t.Fatal(err)
		}
		for i := range moved {
			for end := time.Now().Add(3 * tunneltest.Patience); moved[i].Load() < before[i]+1<<20; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("round %d: nothing moves any more in direction %d", round, i)
				}
			}
		}
	}
	close(stop)
	for _, d := range devices {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	flows.Wait()
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestRoamingByAddress(t *testing.T) {
	network := tunneltest.NewNetwork()
	bind := network.Bind(netip.MustParseAddr("198.51.100.77"))
	devices, confs := pair(t, network, 1280)
	third, err := netstack.New(netstack.Options{Bind: bind})
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	c := config(t, "100.64.0.3/32", 1280)
	key, err := confs[1].PrivateKey.Public()
	if err != nil {
		t.Fatal(err)
	}
	c.Peers = []tunnel.Peer{{
		PublicKey: key, AllowedIPs: confs[1].Addresses, Endpoint: netip.MustParseAddrPort("198.51.100.2:51820"),
	}}
	if key, err = c.PrivateKey.Public(); err != nil {
		t.Fatal(err)
	}
	confs[1].Peers = append(confs[1].Peers, tunnel.Peer{PublicKey: key, AllowedIPs: c.Addresses})
	if err := errors.Join(devices[1].Configure(t.Context(), confs[1]), third.Configure(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	devices[0] = third
	client, server := connect(t, devices)
	for _, home := range []string{"198.51.100.78", "2001:db8::77", "198.51.100.77"} {
		if err := bind.Move(netip.MustParseAddr(home)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(client, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // and configuring the same again does not put it back
			s, err := devices[1].Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(s.Peers, func(p tunnel.PeerStatus) bool { return p.PublicKey == key })
			if got := s.Peers[i].Endpoint.Addr().String(); got != home {
				t.Errorf("endpoint %v, want %v", got, home)
			}
			if err := devices[1].Configure(t.Context(), confs[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Loss, both ways, costs time but no bytes.
func TestLossyNetwork(t *testing.T) {
	network := tunneltest.NewNetwork()
	var n atomic.Uint64
	network.Drop = func(_, _ netip.AddrPort, payload []byte) bool { return len(payload) > 148 && n.Add(1)%199 == 0 }
	devices, _ := pair(t, network, 1280)
	client, server := connect(t, devices)
	sent := make([]byte, 2<<20)
	if _, err := rand.NewChaCha8([32]byte{1}).Read(sent); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = client.Write(sent)
		_ = client.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if got, err := io.ReadAll(server); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes arrived unchanged (%v)", len(got), len(sent), err)
	}
}

func TestBeforeConfigureAndAfterClose(t *testing.T) {
	d, err := netstack.New(netstack.Options{Name: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := d.Status(t.Context()); err != nil || s.Backend != "edge" {
		t.Errorf("status %+v (%v)", s, err)
	}
	if _, err := d.DialContext(t.Context(), "tcp", "100.64.0.2:1"); err == nil || !strings.Contains(err.Error(), "not configured yet") {
		t.Errorf("dial before configure: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Configure(t.Context(), config(t, "100.64.0.1/32", 0)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("configure after close: %v", err)
	}
}
