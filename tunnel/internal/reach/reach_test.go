package reach_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/internal/reach"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

// CheckDial against looking through all lists.
func TestCheckDialAgainstSearch(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("100.64.200.1/32"), netip.MustParsePrefix("fd01::1/128")}
	rapid.Check(t, func(t *rapid.T) {
		c := tunneltest.Configs().Draw(t, "config")
		c.Addresses = own[:rapid.IntRange(0, 2).Draw(t, "own addresses")]
		r := reach.New(c)
		for _, s := range []string{
			"100.64.0.0", "100.64.0.1", "100.64.0.2", "100.64.0.3", "100.64.0.4", "10.0.0.0", "10.1.255.255", "10.255.255.255", "9.255.255.255",
			"11.0.0.0", "fd00::", "fd00::1", "fd00::ffff:ffff:ffff:ffff", "fd00:0:0:1::", "2001:db8:1::1", "2001:db8:2::", "0.0.0.0", "::",
			"100.64.200.1", "fd01::1", "255.255.255.255",
		} {
			a := netip.MustParseAddr(s)
			family := slices.ContainsFunc(c.Addresses, func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() })
			allowed := slices.ContainsFunc(c.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) ||
				slices.ContainsFunc(c.Peers, func(p tunnel.Peer) bool {
					return slices.ContainsFunc(p.AllowedIPs, func(q netip.Prefix) bool { return q.Contains(a) })
				})
			err := r.CheckDial(a)
			switch {
			case !family && !errors.Is(err, syscall.ENETUNREACH):
				t.Fatalf("%v without an own address of its family: %v", a, err)
			case family && !allowed && !errors.Is(err, syscall.EHOSTUNREACH):
				t.Fatalf("%v, which nobody has: %v", a, err)
			case family && allowed && err != nil:
				t.Fatalf("%v: %v", a, err)
			case family && r.Source(a).Is4() != a.Is4():
				t.Fatalf("%v from %v", a, r.Source(a))
			}
		}
	})
}

type fake struct {
	local, remote netip.Addr
	err           error
}

func (f *fake) LocalIP() netip.Addr  { return f.local }
func (f *fake) RemoteIP() netip.Addr { return f.remote }
func (f *fake) Abort(err error)      { f.err = err }

func TestSet(t *testing.T) {
	own, peer := netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("100.64.0.2")
	conf := func(peers ...tunnel.Peer) *reach.Reach {
		return reach.New(tunnel.Config{Addresses: []netip.Prefix{netip.PrefixFrom(own, 32)}, Peers: peers})
	}
	with := conf(tunnel.Peer{AllowedIPs: []netip.Prefix{netip.PrefixFrom(peer, 32)}})
	var s reach.Set
	s.Enforce(with)
	c, ln, closed := &fake{local: own, remote: peer}, &fake{local: own}, &fake{local: own, remote: peer}
	for _, o := range []*fake{c, ln, closed} {
		if err := s.Add(o); err != nil {
			t.Fatal(err)
		}
	}
	s.Remove(closed)
	if err := s.Add(&fake{local: peer}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a listener on another address: %v", err)
	}
	s.Enforce(with)
	if c.err != nil || ln.err != nil {
		t.Errorf("ended without reason: %v, %v", c.err, ln.err)
	}
	s.Enforce(conf())
	if !errors.Is(c.err, syscall.EHOSTUNREACH) || ln.err != nil {
		t.Errorf("after the peer went: connection %v, listener %v", c.err, ln.err)
	}
	if err := s.Add(&fake{local: own, remote: peer}); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("a connection that comes late: %v", err)
	}
	s.EndAll(reach.ErrClosed)
	if !errors.Is(ln.err, net.ErrClosed) || closed.err != nil {
		t.Errorf("at the end: listener %v, closed connection %v", ln.err, closed.err)
	}
	if err := s.Add(&fake{local: own}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[[2]string]string{
		{"tcp", "100.64.0.1:104"}: "100.64.0.1:104", {"tcp4", "[::ffff:100.64.0.1]:1"}: "100.64.0.1:1", {"tcp6", "[fd00::1]:0"}: "[fd00::1]:0",
		{"udp", "100.64.0.1:104"}: "", {"tcp", "pacs:104"}: "", {"tcp", ":104"}: "", {"tcp", "100.64.0.1"}: "", {"tcp6", "100.64.0.1:1"}: "",
		{"tcp4", "[fd00::1]:1"}: "", {"tcp", "100.64.0.1:dicom"}: "", {"", "100.64.0.1:1"}: "",
	} {
		got, err := reach.ParseAddress(in[0], in[1])
		if (err != nil) != (want == "") || (err == nil && got.String() != want) {
			t.Errorf("%v: %v, %v, want %q", in, got, err, want)
		}
	}
}
