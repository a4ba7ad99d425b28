package userspace_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/link"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/uapi"
	"github.com/towpath/towpath/tunnel/userspace"
	"github.com/towpath/towpath/tunnel/wgkey"
)

const ifName = "towsys0"

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func config(t testing.TB) tunnel.Config {
	t.Helper()
	var keys [2]wgkey.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = wgkey.NewPrivateKey(); err != nil {
			t.Fatal(err)
		}
	}
	peer, err := keys[1].Public()
	if err != nil {
		t.Fatal(err)
	}
	return tunnel.Config{
		PrivateKey: keys[0], Addresses: prefixes("100.64.0.1/32", "fd7a:10::1/128"), Blackhole: prefixes("100.64.0.0/10", "fd7a:10::/48"),
		Peers: []tunnel.Peer{{
			PublicKey: peer, Endpoint: netip.MustParseAddrPort("198.51.100.2:51820"),
			AllowedIPs: prefixes("100.64.1.0/24", "fd7a:10::2/128"),
		}},
	}
}

// single makes a device in a namespace of its own.
func single(t *testing.T, o userspace.Options) (*tunneltest.Namespace, tunneltest.Endpointed) {
	t.Helper()
	ns := tunneltest.NewNamespace(t)
	if o.Interface == "" {
		o.Interface = ifName
	}
	d, err := userspace.New(o)
	if err != nil {
		t.Fatal(err)
	}
	inside := ns.Inside(d)
	t.Cleanup(func() { _ = inside.Close() })
	return ns, inside
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

func TestSystemState(t *testing.T) {
	for _, keep := range []bool{false, true} {
		ns, d := single(t, userspace.Options{KeepBlackhole: keep})
		c := config(t)
		for range 2 {
			if err := d.Configure(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			want := link.Config{
				Interface: ifName, MTU: tunnel.DefaultMTU, Addresses: c.Addresses, Routes: c.Peers[0].AllowedIPs, Blackhole: c.Blackhole,
				Sources: []netip.Addr{c.Addresses[0].Addr(), c.Addresses[1].Addr()},
			}
			if d := cmp.Diff(want, observe(t, ns), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); d != "" {
				t.Fatalf("-want +got:\n%s", d)
			}
		}
		// Other programs on the machine send from the first address, too, although a lower one is there.
		first := netip.MustParsePrefix("100.64.0.77/32")
		c.Addresses = append([]netip.Prefix{first}, c.Addresses...)
		if err := d.Configure(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := observe(t, ns); len(got.Sources) != 2 || got.Sources[0] != first.Addr() {
			t.Errorf("with another first address: sources %v", got.Sources)
		}
		c.MTU, c.Peers = 1420, nil
		if err := d.Configure(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := observe(t, ns); got.MTU != 1420 || len(got.Routes) != 0 || len(got.Blackhole) != 2 {
			t.Errorf("without peers: %+v", got)
		}
		if s, err := d.Status(t.Context()); err != nil || s.Backend != "userspace "+ifName {
			t.Errorf("status %+v (%v)", s, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		got := observe(t, ns)
		if got.MTU != 0 || len(got.Routes) != 0 || len(got.Addresses) != 0 || (len(got.Blackhole) == 2) != keep {
			t.Errorf("after close, keeping the unreachable routes: %v: %+v", keep, got)
		}
	}
}

// Also when WireGuard cannot start, the overlay's traffic must not leave.
func TestPortInUseStillFailsClosed(t *testing.T) {
	ns, d := single(t, userspace.Options{})
	c := config(t)
	var taken net.PacketConn
	if err := ns.Do(func() (err error) {
		taken, err = net.ListenPacket("udp", ":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c.ListenPort = netip.MustParseAddrPort(taken.LocalAddr().String()).Port()
	if err := d.Configure(t.Context(), c); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("configure: %v", err)
	}
	if got := observe(t, ns); len(got.Blackhole) != 2 {
		t.Errorf("the overlay is not unreachable: %+v", got)
	}
	c.ListenPort = 0
	if err := d.Configure(t.Context(), c); err != nil {
		t.Errorf("configure with a free port: %v", err)
	}
}

func TestRefusesDefaultRoute(t *testing.T) {
	_, d := single(t, userspace.Options{})
	c := config(t)
	c.Peers[0].AllowedIPs = prefixes("0.0.0.0/0")
	if err := d.Configure(t.Context(), c); !errors.Is(err, tunnel.ErrInvalid) {
		t.Errorf("a default route: %v", err)
	}
}

func TestConfigurationSocket(t *testing.T) {
	_, d := single(t, userspace.Options{FwMark: 77})
	c := config(t)
	if err := d.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	const path = "/var/run/wireguard/" + ifName + ".sock"
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(tunneltest.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("get=1\n\n")); err != nil {
		t.Fatal(err)
	}
	s, err := uapi.Parse(conn)
	if err != nil {
		t.Fatal(err)
	}
	if !s.PrivateKey.Equal(c.PrivateKey) || s.Fwmark != 77 || len(s.Peers) != 1 || s.Peers[0].PublicKey != c.Peers[0].PublicKey {
		t.Errorf("wg(8) would see %+v", s)
	}
	// What another hand changes, the next Configure puts right.
	if _, err := conn.Write([]byte("set=1\npublic_key=" + c.Peers[0].PublicKey.Hex() + "\nremove=true\n\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := uapi.Parse(conn); err != nil {
		t.Fatal(err)
	}
	if err := d.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if st, err := d.Status(t.Context()); err != nil || len(st.Peers) != 1 || !slices.Equal(st.Peers[0].AllowedIPs, c.Peers[0].AllowedIPs) {
		t.Errorf("status %+v (%v)", st, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// pair makes two devices on one cable, the second of which listens.
func pair(t *testing.T) (nodes [2]tunneltest.Endpointed, spaces [2]*tunneltest.Namespace, ln net.Listener) {
	t.Helper()
	s := tunneltest.NewSwitch(t)
	var confs [2]tunnel.Config
	for i := range nodes {
		spaces[i], nodes[i] = single(t, userspace.Options{Interface: []string{"towmark0", "towmark1"}[i]})
		s.Plug(spaces[i], netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}), 24))
		confs[i] = config(t)
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
	c := config(t)
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

// A rule on the mark decides about the encrypted packets, and about nothing else.
func TestEncryptedPacketsAreMarked(t *testing.T) {
	nodes, spaces, ln := pair(t)
	dial := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := nodes[0].DialContext(ctx, "tcp", ln.Addr().String())
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	if err := dial(tunneltest.Patience); err != nil {
		t.Fatal(err)
	}
	rule := netlink.NewRule()
	rule.Mark, rule.Type, rule.Family = userspace.DefaultFwMark, unix.RTN_UNREACHABLE, netlink.FAMILY_V4
	if err := spaces[0].Do(func() error { return netlink.RuleAdd(rule) }); err != nil {
		t.Fatal(err)
	}
	if err := dial(tunneltest.Silence); err == nil {
		t.Error("the encrypted packets do not carry the mark")
	}
	if err := spaces[0].Do(func() error { return netlink.RuleDel(rule) }); err != nil {
		t.Fatal(err)
	}
	if err := dial(tunneltest.Patience); err != nil {
		t.Errorf("without the rule: %v", err)
	}
}

// A service of the tunnel cannot be reached from the LAN, even if the LAN routes the overlay address to this machine.
func TestListenersAreBoundToTheInterface(t *testing.T) {
	s := tunneltest.NewSwitch(t)
	ns, d := single(t, userspace.Options{})
	s.Plug(ns, netip.MustParsePrefix("198.51.100.1/24"))
	lan := tunneltest.NewNamespace(t)
	s.Plug(lan, netip.MustParsePrefix("198.51.100.9/24"))
	c := config(t)
	if err := d.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	ln, err := d.Listen(t.Context(), "tcp", "100.64.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err = lan.Do(func() error {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		to := &net.IPNet{IP: net.IPv4(100, 64, 0, 0).To4(), Mask: net.CIDRMask(10, 32)}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: to, Gw: net.IPv4(198, 51, 100, 1)}); err != nil {
			return err
		}
		conn, err := net.DialTimeout("tcp", ln.Addr().String(), tunneltest.Silence)
		if err == nil {
			_ = conn.Close()
			t.Error("a machine on the LAN reached a listener of the tunnel")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestExplainsWhyThereIsNoInterface(t *testing.T) {
	ns, d := single(t, userspace.Options{})
	if err := d.Configure(t.Context(), config(t)); err != nil {
		t.Fatal(err)
	}
	second, err := userspace.New(userspace.Options{Interface: ifName})
	if err != nil {
		t.Fatal(err)
	}
	inside := ns.Inside(second)
	defer inside.Close()
	if err := inside.Configure(t.Context(), config(t)); err == nil || !strings.Contains(err.Error(), "another program holds it") {
		t.Errorf("an interface that is in use: %v", err)
	}
	if err := ns.Do(func() error {
		return netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "towdummy"}})
	}); err != nil {
		t.Skipf("no dummy interfaces here: %v", err)
	}
	third, err := userspace.New(userspace.Options{Interface: "towdummy"})
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Inside(third).Configure(t.Context(), config(t)); err == nil || !strings.Contains(err.Error(), "another kind") {
		t.Errorf("an interface of another kind: %v", err)
	}
	if _, err := userspace.New(userspace.Options{Interface: "a-name-that-is-too-long"}); err == nil {
		t.Error("a long name is accepted")
	}
}
