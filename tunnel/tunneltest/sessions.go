package tunneltest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

func testIdempotent(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	c := l.dial(0, l.echo(1, addr4(1)))
	ping(t, c, "before")
	before, port := l.handshake(0, 1), l.status(0).ListenPort
	for range 5 {
		l.apply(0)
		l.apply(1)
		ping(t, c, "after")
	}
	if after := l.handshake(0, 1); !after.Equal(before) {
		t.Errorf("handshake at %v, before at %v", after, before)
	}
	if got := l.status(0).ListenPort; got != port {
		t.Errorf("listen port %d, before %d", got, port)
	}
}

func testKeepsSessions(t *testing.T, f Factory) {
	l := newLab(t, f, 3)
	l.drop(0, 2)
	l.apply(0)
	c := l.dial(0, l.echo(1, addr4(1)))
	ping(t, c, "two peers")
	before := l.handshake(0, 1)

	l.conf[0].Peers = append(l.conf[0].Peers, l.peer(2))
	l.peerOf(0, 1).PersistentKeepalive = 21 * time.Second
	l.peerOf(0, 1).AllowedIPs = append(l.peerOf(0, 1).AllowedIPs, netip.MustParsePrefix("10.77.0.0/16"))
	l.apply(0)
	ping(t, c, "three peers")
	ping(t, l.dial(0, l.echo(2, addr4(2))), "the new one")

	l.drop(0, 2)
	l.peerOf(0, 1).PersistentKeepalive = 0
	l.peerOf(0, 1).AllowedIPs = []netip.Prefix{host(addr4(1)), host(addr6(1))}
	l.apply(0)
	ping(t, c, "two peers again")
	if after := l.handshake(0, 1); !after.Equal(before) {
		t.Errorf("a new handshake at %v, before at %v", after, before)
	}
}

func testRoaming(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	c := l.dial(1, l.echo(0, addr4(0)))
	ping(t, c, "at home")
	first := l.status(1).ListenPort
	roamed := first + 1
	if roamed < first {
		roamed = first - 1
	}
	l.conf[1].ListenPort = roamed
	l.apply(1)
	ping(t, c, "elsewhere")
	want := netip.AddrPortFrom(l.nodes[1].Underlay, roamed)
	if s, _ := l.seen(0, 1); s.Endpoint != want {
		t.Fatalf("endpoint %v after roaming, want %v", s.Endpoint, want)
	}
	before := l.handshake(0, 1)
	l.peerOf(0, 1).PersistentKeepalive = 30 * time.Second
	l.apply(0)
	l.apply(0)
	if s, _ := l.seen(0, 1); s.Endpoint != want {
		t.Errorf("configuring the same again put the endpoint back to %v", s.Endpoint)
	}
	ping(t, c, "still elsewhere")
	if after := l.handshake(0, 1); !after.Equal(before) {
		t.Error("roaming made a new handshake")
	}
	moved := netip.AddrPortFrom(l.nodes[1].Underlay, 9)
	l.peerOf(0, 1).Endpoint = moved
	l.apply(0)
	if s, _ := l.seen(0, 1); s.Endpoint != moved && s.Endpoint != want { // it may have roamed back already
		t.Errorf("a newly configured endpoint was not taken: %v", s.Endpoint)
	}
}

func testNewKey(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	at := l.echo(1, addr4(1))
	ping(t, l.dial(0, at), "old key")
	key, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	l.drop(1, 0)
	l.conf[0].PrivateKey = key
	l.conf[1].Peers = append(l.conf[1].Peers, l.peer(0))
	l.apply(1)
	l.apply(0)
	if want, _ := key.Public(); l.status(0).PublicKey != want {
		t.Error("the status shows another key")
	}
	ping(t, l.dial(0, at), "new key")
}

func testPresharedKey(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	at := l.echo(1, addr4(1))
	psk, err := wgkey.NewPresharedKey()
	if err != nil {
		t.Fatal(err)
	}
	l.peerOf(0, 1).PresharedKey = psk
	l.apply(0)
	if err := l.tryDial(0, at); err == nil {
		t.Fatal("a preshared key on one side only makes no difference")
	}
	// The other side starts: this one may not send another initiation for five seconds.
	l.peerOf(1, 0).PresharedKey = psk
	l.apply(1)
	ping(t, l.dial(1, l.echo(0, addr4(0))), "same key on both sides")
}

// testPresharedKeyOfARunningSession changes the key at one end, and then at the other: the session and a connection in it go on.
func testPresharedKeyOfARunningSession(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	at := l.echo(1, addr4(1))
	c := l.dial(0, at)
	ping(t, c, "without a key")
	before := l.handshake(0, 1)
	for round := range 2 {
		psk, err := wgkey.NewPresharedKey()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			l.peerOf(i, 1-i).PresharedKey = psk
			l.apply(i)
			ping(t, c, "another key at one end")
		}
		if after := l.handshake(0, 1); !after.Equal(before) {
			t.Errorf("round %d: the key made another handshake, at %v after %v", round, after, before)
		}
	}
}

// handshake is when node i and its peer j had their last one, which must exist.
func (l *lab) handshake(i, j int) time.Time {
	l.t.Helper()
	s, _ := l.seen(i, j)
	if s.LastHandshake.IsZero() {
		l.t.Fatalf("nodes %d and %d have had no handshake", i, j)
	}
	return s.LastHandshake
}
