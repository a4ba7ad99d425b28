package tunneltest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/link"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// InterfaceOptions are what a backend with a network interface of the kernel is made with.
type InterfaceOptions struct {
	Interface     string
	KeepBlackhole bool
}

// interfaces makes the devices of one backend.
type interfaces struct {
	backend string
	mark    uint32
	create  func(testing.TB, InterfaceOptions) Endpointed
}

const interfaceName = "towsys0"

// Interface runs the contract of a backend that has a network interface of the kernel: what it leaves on the system, and that nothing of the
// tunnel gets out by another way. Backend is the name in the status, mark the firewall mark of the encrypted packets.
func Interface(t *testing.T, backend string, mark uint32, create func(testing.TB, InterfaceOptions) Endpointed) {
	NeedRoot(t)
	f := interfaces{backend, mark, create}
	for _, c := range []struct {
		name string
		run  func(interfaces, *testing.T)
	}{
		{"sets addresses and routes", interfaces.testSystemState},
		{"fails closed when the port is in use", interfaces.testPortInUse},
		{"refuses a default route", interfaces.testDefaultRoute},
		{"marks the encrypted packets", interfaces.testMark},
		{"binds listeners to the interface", interfaces.testBound},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(f, t) })
	}
}

// Prefixes parses a list of prefixes.
func Prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// OneNode is a configuration with one peer, which does not exist.
func OneNode(t testing.TB) tunnel.Config {
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
		PrivateKey: keys[0], Addresses: Prefixes("100.64.0.1/32", "fd7a:10::1/128"), Blackhole: Prefixes("100.64.0.0/10", "fd7a:10::/48"),
		Peers: []tunnel.Peer{{
			PublicKey: peer, Endpoint: netip.MustParseAddrPort("198.51.100.2:51820"),
			AllowedIPs: Prefixes("100.64.1.0/24", "fd7a:10::2/128"),
		}},
	}
}

// alone makes a device in a namespace of its own.
func (f interfaces) alone(t testing.TB, o InterfaceOptions) (*Namespace, Endpointed) {
	t.Helper()
	ns := NewNamespace(t)
	if o.Interface == "" {
		o.Interface = interfaceName
	}
	inside := ns.Inside(f.create(t, o))
	t.Cleanup(func() { _ = inside.Close() })
	return ns, inside
}

// observeLink reads what is there now.
func observeLink(t *testing.T, ns *Namespace) (c link.Config) {
	t.Helper()
	if err := ns.Do(func() (err error) {
		c, err = link.Kernel{}.Observe(context.Background(), interfaceName)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (f interfaces) testSystemState(t *testing.T) {
	for _, keep := range []bool{false, true} {
		ns, d := f.alone(t, InterfaceOptions{KeepBlackhole: keep})
		c := OneNode(t)
		for range 2 {
			if err := d.Configure(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			want := link.Config{
				Interface: interfaceName, MTU: tunnel.DefaultMTU, Addresses: c.Addresses, Routes: c.Peers[0].AllowedIPs, Blackhole: c.Blackhole,
				Sources: []netip.Addr{c.Addresses[0].Addr(), c.Addresses[1].Addr()},
			}
			if d := cmp.Diff(want, observeLink(t, ns), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); d != "" {
				t.Fatalf("-want +got:\n%s", d)
			}
		}
		// Other programs on the machine send from the first address, too, although a lower one is there.
		first := netip.MustParsePrefix("100.64.0.77/32")
		c.Addresses = append([]netip.Prefix{first}, c.Addresses...)
		if err := d.Configure(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := observeLink(t, ns); len(got.Sources) != 2 || got.Sources[0] != first.Addr() {
			t.Errorf("with another first address: sources %v", got.Sources)
		}
		c.MTU, c.Peers = 1420, nil
		if err := d.Configure(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := observeLink(t, ns); got.MTU != 1420 || len(got.Routes) != 0 || len(got.Blackhole) != 2 {
			t.Errorf("without peers: %+v", got)
		}
		if s, err := d.Status(t.Context()); err != nil || s.Backend != f.backend+" "+interfaceName {
			t.Errorf("status %+v (%v)", s, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		got := observeLink(t, ns)
		if got.MTU != 0 || len(got.Routes) != 0 || len(got.Addresses) != 0 || (len(got.Blackhole) == 2) != keep {
			t.Errorf("after close, keeping the unreachable routes: %v: %+v", keep, got)
		}
	}
}

// Also when WireGuard cannot start, the overlay's traffic must not leave.
func (f interfaces) testPortInUse(t *testing.T) {
	ns, d := f.alone(t, InterfaceOptions{})
	c := OneNode(t)
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
	if got := observeLink(t, ns); len(got.Blackhole) != 2 {
		t.Errorf("the overlay is not unreachable: %+v", got)
	}
	c.ListenPort = 0
	if err := d.Configure(t.Context(), c); err != nil {
		t.Errorf("configure with a free port: %v", err)
	}
}

func (f interfaces) testDefaultRoute(t *testing.T) {
	_, d := f.alone(t, InterfaceOptions{})
	c := OneNode(t)
	c.Peers[0].AllowedIPs = Prefixes("0.0.0.0/0")
	if err := d.Configure(t.Context(), c); !errors.Is(err, tunnel.ErrInvalid) {
		t.Errorf("a default route: %v", err)
	}
}

// A rule on the mark decides about the encrypted packets, and about nothing else.
func (f interfaces) testMark(t *testing.T) {
	s := NewSwitch(t)
	var nodes [2]Endpointed
	var confs [2]tunnel.Config
	var spaces [2]*Namespace
	for i := range nodes {
		spaces[i], nodes[i] = f.alone(t, InterfaceOptions{Interface: []string{"towmark0", "towmark1"}[i]})
		s.Plug(spaces[i], netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}), 24))
		confs[i] = OneNode(t)
		confs[i].Addresses = Prefixes([]string{"100.64.0.1/32", "100.64.0.2/32"}[i])
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
	defer ln.Close()
	dial := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := nodes[0].DialContext(ctx, "tcp", ln.Addr().String())
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	if err := dial(Patience); err != nil {
		t.Fatal(err)
	}
	rule := netlink.NewRule()
	rule.Mark, rule.Type, rule.Family = f.mark, unix.RTN_UNREACHABLE, netlink.FAMILY_V4
	if err := spaces[0].Do(func() error { return netlink.RuleAdd(rule) }); err != nil {
		t.Fatal(err)
	}
	if err := dial(Silence); err == nil {
		t.Error("the encrypted packets do not carry the mark")
	}
	if err := spaces[0].Do(func() error { return netlink.RuleDel(rule) }); err != nil {
		t.Fatal(err)
	}
	if err := dial(Patience); err != nil {
		t.Errorf("without the rule: %v", err)
	}
}

// A service of the tunnel cannot be reached from the LAN, even if the LAN routes the overlay address to this machine.
func (f interfaces) testBound(t *testing.T) {
	s := NewSwitch(t)
	ns, d := f.alone(t, InterfaceOptions{})
	s.Plug(ns, netip.MustParsePrefix("198.51.100.1/24"))
	lan := NewNamespace(t)
	s.Plug(lan, netip.MustParsePrefix("198.51.100.9/24"))
	c := OneNode(t)
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
		conn, err := net.DialTimeout("tcp", ln.Addr().String(), Silence)
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
