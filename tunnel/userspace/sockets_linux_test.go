package userspace_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/link"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/userspace"
)

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// observe reads what is there now.
func observe(t *testing.T, ns *tunneltest.Namespace) (c link.Config) {
	t.Helper()
	if err := ns.Do(func() (err error) {
		c, err = link.Kernel{}.Observe(context.Background(), ifName)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

// pair makes two devices on one cable, the second of which listens.
func pair(t *testing.T) (nodes [2]tunneltest.Endpointed, spaces [2]*tunneltest.Namespace, ln net.Listener) {
	t.Helper()
	s := tunneltest.NewSwitch(t)
	var confs [2]tunnel.Config
	for i := range nodes {
		spaces[i], nodes[i] = single(t, userspace.Options{Interface: []string{"towmark0", "towmark1"}[i]})
		s.Plug(spaces[i], netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}), 24))
		confs[i] = tunneltest.OneNode(t)
		confs[i].Addresses = prefixes([]string{"100.64.0.1/32", "100.64.0.2/32"}[i])
		confs[i].ListenPort = 51820
	}
	for i := range nodes {
		key, err := confs[1-i].PrivateKey.Public()
		if err != nil {
			t.Fatal(err)
		}
		confs[i].Peers = []tunnel.Peer{{
			PublicKey: key, AllowedIPs: confs[1-i].Addresses,
			Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(2 - i)}), 51820),
		}}
		if err := nodes[i].Configure(t.Context(), confs[i]); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := nodes[1].Listen(t.Context(), "tcp", "100.64.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return nodes, spaces, ln
}

// What a program opens here is bound to an own address and the interface, and marked: dialed, listening and accepted.
func TestSocketsAreBoundThreeTimes(t *testing.T) {
	nodes, _, ln := pair(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	ctx, cancel := context.WithTimeout(t.Context(), tunneltest.Patience)
	defer cancel()
	c, err := nodes[0].DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other := <-accepted
	defer other.Close()
	for i, x := range []net.Conn{c, other} {
		raw, err := x.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var mark int
		var device string
		if err := raw.Control(func(fd uintptr) {
			if mark, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK); err == nil {
				device, err = unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
			}
		}); err != nil {
			t.Fatal(err)
		}
		local := netip.MustParseAddrPort(x.LocalAddr().String()).Addr().String()
		if err != nil || mark != tunnel.MarkInner || device != []string{"towmark0", "towmark1"}[i] || local != []string{"100.64.0.1", "100.64.0.2"}[i] {
			t.Errorf("%d: mark %#x, device %q, address %s (%v)", i, mark, device, local, err)
		}
	}
}

// Somebody deletes the interface: what was open ends, and the next Configure makes everything anew.
func TestInterfaceIsDeleted(t *testing.T) {
	ns, d := single(t, userspace.Options{})
	c := tunneltest.OneNode(t)
	if err := d.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	ln, err := d.Listen(t.Context(), "tcp", "100.64.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		ended <- err
	}()
	if err := ns.Do(func() error {
		l, err := netlink.LinkByName(ifName)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(tunneltest.Patience); ; {
		if _, err := d.Status(t.Context()); errors.Is(err, net.ErrClosed) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the device does not notice")
		}
	}
	if got := observe(t, ns); len(got.Blackhole) != 2 || len(got.Routes) != 0 {
		t.Errorf("without the interface: %+v", got)
	}
	for range 2 {
		if err := d.Configure(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener on the old interface: %v", err)
	}
	if got := observe(t, ns); len(got.Blackhole) != 2 || len(got.Routes) != 2 || len(got.Addresses) != 2 {
		t.Errorf("made anew: %+v", got)
	}
	again, err := d.Listen(t.Context(), "tcp", "100.64.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
	if s, err := d.Status(t.Context()); err != nil || len(s.Peers) != 1 {
		t.Errorf("status %+v (%v)", s, err)
	}
}
