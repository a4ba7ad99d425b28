package tunneltest

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

// testSource has a node with several addresses of each family dial, and looks where the far side sees it come from, through a change of
// the order as it happens when a site is renumbered.
func testSource(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	next4, next6 := netip.MustParseAddr("100.64.0.200"), netip.MustParseAddr("fd7a:10::200")
	served := netip.MustParseAddr("100.64.0.0") // lower than all others, so that no sorting makes the first one first
	at4, sources4 := l.observe(1, addr4(1))
	at6, sources6 := l.observe(1, addr6(1))
	l.peerOf(1, 0).AllowedIPs = []netip.Prefix{host(addr4(0)), host(addr6(0)), host(next4), host(next6), host(served)}
	l.apply(1)
	seen := func(to netip.AddrPort, sources <-chan netip.Addr, want netip.Addr) net.Conn {
		t.Helper()
		c := l.dial(0, to)
		ping(t, c, "who am I")
		if got := <-sources; got != want {
			t.Errorf("dialing %v: the far side sees %v, want %v", to, got, want)
		}
		if local, err := netip.ParseAddrPort(c.LocalAddr().String()); err != nil || local.Addr() != want {
			t.Errorf("dialing %v: the connection says it is from %v, want %v", to, c.LocalAddr(), want)
		}
		return c
	}
	l.conf[0].Addresses = []netip.Prefix{host(addr4(0)), host(addr6(0)), host(served)}
	l.apply(0)
	old4, old6 := seen(at4, sources4, addr4(0)), seen(at6, sources6, addr6(0))

	l.conf[0].Addresses = []netip.Prefix{host(next4), host(next6), host(addr4(0)), host(addr6(0)), host(served)}
	l.apply(0)
	new4, new6 := seen(at4, sources4, next4), seen(at6, sources6, next6)
	ping(t, old4, "still there")
	ping(t, old6, "still there")
	ping(t, l.dial(1, l.echo(0, addr4(0))), "the old address answers")
	ping(t, l.dial(1, l.echo(0, served)), "and so does one that is never dialed from")

	l.conf[0].Addresses = slices.Clone(l.conf[0].Addresses[:2])
	l.apply(0)
	for _, c := range []net.Conn{old4, old6} {
		if err := tryPing(c, "gone", Silence); err == nil {
			t.Errorf("a connection from %v works although the address was removed", c.LocalAddr())
		}
	}
	ping(t, new4, "untouched")
	ping(t, new6, "untouched")
	seen(at4, sources4, next4)
}
