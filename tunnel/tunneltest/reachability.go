package tunneltest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

func testTalks(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	sent := make([]byte, 3<<20+17)
	r := rand.NewChaCha8([32]byte{7})
	if _, err := r.Read(sent); err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{addr4(1), addr6(1)} {
		c := l.dial(0, l.echo(1, a))
		if err := c.SetDeadline(time.Now().Add(3 * Patience)); err != nil { // an emulated machine moves a megabyte a second
			t.Fatal(err)
		}
		written := make(chan error, 1)
		go func() {
			_, err := c.Write(sent)
			written <- errors.Join(err, c.(interface{ CloseWrite() error }).CloseWrite())
		}()
		got, err := io.ReadAll(c)
		if err != nil {
			t.Fatalf("%v: read: %v", a, err)
		}
		if err := <-written; err != nil {
			t.Fatalf("%v: write: %v", a, err)
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("%v: %d bytes came back changed (sent %d)", a, len(got), len(sent))
		}
		if local, err := netip.ParseAddrPort(c.LocalAddr().String()); err != nil || (local.Addr() != addr4(0) && local.Addr() != addr6(0)) {
			t.Errorf("%v: dialed from %v, not from an own address", a, c.LocalAddr())
		}
	}
	s, ok := l.seen(0, 1)
	if !ok || s.LastHandshake.IsZero() || s.RxBytes < uint64(len(sent)) || s.TxBytes < uint64(len(sent)) {
		t.Errorf("status after %d bytes each way: %+v", 2*len(sent), s)
	}
	if want := netip.AddrPortFrom(l.nodes[1].Underlay, l.status(1).ListenPort); s.Endpoint != want {
		t.Errorf("endpoint %v, want %v", s.Endpoint, want)
	}
	if key, _ := l.conf[0].PrivateKey.Public(); l.status(0).PublicKey != key || l.status(0).Backend == "" {
		t.Errorf("status %+v does not name the device", l.status(0))
	}
}

func testRemoved(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	at := l.echo(0, addr4(0))
	c := l.dial(1, at)
	ping(t, c, "while a peer")
	out := l.dial(0, l.echo(1, addr4(1)))
	ping(t, out, "the other way")

	with := l.conf[0]
	l.drop(0, 1)
	l.apply(0)
	if err := tryPing(c, "no longer", Silence); err == nil {
		t.Error("a removed peer can still use its connection")
	}
	if err := tryPing(out, "no longer", Silence); err == nil {
		t.Error("a connection to a removed peer still works")
	}
	if err := l.tryDial(1, at); err == nil {
		t.Error("a removed peer can still connect")
	}
	if err := l.tryDial(0, netip.AddrPortFrom(addr4(1), 9)); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("dialing a removed peer: %v, want no route to host", err)
	}
	l.apply(0) // a removed peer has been knocking all the time
	if s, ok := l.seen(0, 1); ok {
		t.Errorf("a removed peer came back: %+v", s)
	}

	l.conf[0] = with
	l.apply(0)
	// Which of the two starts is not known to the other: from both sides, one of them must get through within WireGuard's own timers.
	ping(t, l.dial(0, l.echo(1, addr4(1))), "a peer again")
}

func testMoves(t *testing.T, f Factory) {
	l := newLab(t, f, 3)
	moving := netip.MustParseAddr("100.64.9.9")
	for _, j := range []int{1, 2} {
		l.conf[j].Addresses = append(l.conf[j].Addresses, host(moving))
		l.apply(j)
	}
	at := map[int]netip.AddrPort{1: l.greet(1, moving, 7001, "1"), 2: l.greet(2, moving, 7001, "2")}
	for _, owner := range []int{1, 2, 1, 2} {
		other := 3 - owner
		l.peerOf(0, owner).AllowedIPs = []netip.Prefix{host(addr4(owner)), host(moving)}
		l.peerOf(0, other).AllowedIPs = []netip.Prefix{host(addr4(other))}
		l.apply(0)
		c := l.dial(0, at[owner])
		if err := c.SetDeadline(time.Now().Add(Patience)); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != string(rune('0'+owner)) {
			t.Fatalf("%v belongs to node %d but %q answered (%v)", moving, owner, b, err)
		}
		if s, _ := l.seen(0, owner); len(s.AllowedIPs) != 2 {
			t.Errorf("owner has %v", s.AllowedIPs)
		}
		if s, _ := l.seen(0, other); len(s.AllowedIPs) != 1 {
			t.Errorf("other has %v", s.AllowedIPs)
		}
	}
}

func testWrongKey(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	stranger, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	real := l.conf[1].PrivateKey
	at := l.echo(0, addr4(0))
	l.conf[1].PrivateKey = stranger
	l.apply(1)
	if err := l.tryDial(1, at); err == nil {
		t.Error("a device with a key nobody knows got through")
	}
	l.conf[1].PrivateKey = real
	if s, _ := l.seen(0, 1); !s.LastHandshake.IsZero() || s.RxBytes != 0 {
		t.Errorf("the peer it pretended to be: %+v", s)
	}
}

func testNowhere(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	d := l.nodes[0].Device
	ping(t, l.dial(0, l.echo(1, addr4(1))), "warm up")
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for _, c := range []struct {
		network, address string
		want             error
	}{
		{"tcp", "100.64.0.2:9", syscall.ECONNREFUSED},
		{"tcp", "[fd7a:10::2]:9", syscall.ECONNREFUSED},
		{"tcp", "100.64.77.7:80", syscall.EHOSTUNREACH},
		{"tcp", "192.0.2.1:80", syscall.EHOSTUNREACH},
		{"tcp", "127.0.0.1:80", syscall.EHOSTUNREACH},
		{"tcp", "[fd7a:10::77]:80", syscall.EHOSTUNREACH},
		{"tcp", "center.example:104", nil},
		{"tcp", "100.64.0.2", nil},
		{"tcp6", "100.64.0.2:9", nil},
		{"udp", "100.64.0.2:9", nil},
	} {
		start := time.Now()
		conn, err := d.DialContext(ctx, c.network, c.address)
		if err == nil {
			_ = conn.Close()
			t.Errorf("dial %s %s succeeded", c.network, c.address)
			continue
		}
		if c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("dial %s %s: %v, want %v", c.network, c.address, err, c.want)
		}
		if took := time.Since(start); took > Patience/4 {
			t.Errorf("dial %s %s took %v to fail", c.network, c.address, took)
		}
	}
	for _, c := range []struct{ network, address string }{
		{"tcp", "100.64.0.2:9"}, {"tcp", "0.0.0.0:9"}, {"tcp", "127.0.0.1:9"}, {"tcp", ":9"}, {"tcp", "[::]:9"}, {"udp", "100.64.0.1:9"},
	} {
		if ln, err := d.Listen(ctx, c.network, c.address); err == nil {
			_ = ln.Close()
			t.Errorf("listen %s %s succeeded", c.network, c.address)
		}
	}
	cancel()
	if _, err := d.DialContext(ctx, "tcp", "100.64.0.2:9"); !errors.Is(err, context.Canceled) {
		t.Errorf("dial after cancel: %v", err)
	}
}

func testAddresses(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	old, added := addr4(1), netip.MustParseAddr("100.64.5.5")
	c := l.dial(0, l.echo(1, old))
	ping(t, c, "first address")
	l.peerOf(0, 1).AllowedIPs = append(l.peerOf(0, 1).AllowedIPs, host(added))
	l.apply(0)
	l.conf[1].Addresses = append(l.conf[1].Addresses, host(added))
	l.conf[1].MTU = 1420
	l.conf[0].MTU = 1420
	l.apply(0)
	l.apply(1)
	ping(t, c, "two addresses")
	big := bytes.Repeat([]byte("0123456789"), 20000)
	c2 := l.dial(0, l.echo(1, added))
	ping(t, c2, string(big))
	l.conf[1].MTU, l.conf[0].MTU = 1280, 1280
	l.apply(0)
	l.apply(1)
	ping(t, c2, string(big))
	l.conf[1].Addresses = l.conf[1].Addresses[1:] // without the first
	l.apply(1)
	ping(t, c2, "second address")
	if err := tryPing(c, "gone", Silence); err == nil {
		t.Error("an address works although it was removed")
	}
	if err := l.tryDial(0, netip.AddrPortFrom(old, 9)); errors.Is(err, syscall.ECONNREFUSED) || err == nil {
		t.Errorf("a removed address still answers: %v", err)
	}
}
