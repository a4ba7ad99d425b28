package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/kernel"
	"github.com/towpath/towpath/tunnel/link"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

const name = "towtest0"

// need skips the test, saying so, where the kernel has no WireGuard for us.
func need(t testing.TB) {
	t.Helper()
	tunneltest.NeedRoot(t)
	if err := kernel.Available(); err != nil {
		t.Skip(err)
	}
}

func newDevice(t testing.TB, o kernel.Options) *kernel.Device {
	t.Helper()
	need(t)
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	d, err := kernel.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestContract(t *testing.T) {
	need(t)
	tunneltest.Device(t, inNamespaces)
}

func inNamespaces(t testing.TB, n int) []tunneltest.Node {
	s := tunneltest.NewSwitch(t)
	nodes := make([]tunneltest.Node, n)
	for i := range nodes {
		a := netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})
		ns := tunneltest.NewNamespace(t)
		s.Plug(ns, netip.PrefixFrom(a, 24))
		inside := ns.Inside(newDevice(t, kernel.Options{}))
		t.Cleanup(func() {
			if err := inside.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		nodes[i] = tunneltest.Node{Device: inside, Underlay: a}
	}
	return nodes
}

func TestInterface(t *testing.T) {
	need(t)
	tunneltest.Interface(t, "kernel", kernel.DefaultFwMark, func(t testing.TB, o tunneltest.InterfaceOptions) tunneltest.Endpointed {
		return newDevice(t, kernel.Options{Interface: o.Interface, KeepBlackhole: o.KeepBlackhole})
	})
}

// look reads the interface as another program does.
func look(t *testing.T, ns *tunneltest.Namespace) (dev *wgtypes.Device, err error) {
	t.Helper()
	err = ns.Do(func() error {
		c, err := wgctrl.New()
		if err != nil {
			return err
		}
		defer c.Close()
		dev, err = c.Device(name)
		return err
	})
	return dev, err
}

// killed makes what a process leaves that was killed early: an interface with a key and peers, one of which is not wanted any more.
func killed(t *testing.T, ns *tunneltest.Namespace, c tunnel.Config) {
	t.Helper()
	if err := ns.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Group = name, link.Protocol
		if err := netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs}); err != nil {
			return err
		}
		w, err := wgctrl.New()
		if err != nil {
			return err
		}
		defer w.Close()
		key := wgtypes.Key(c.PrivateKey.RevealBytes())
		peers := []wgtypes.PeerConfig{{PublicKey: wgtypes.Key{1}}}
		for _, p := range c.Peers {
			peers = append(peers, wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.PublicKey)})
		}
		return w.ConfigureDevice(name, wgtypes.Config{PrivateKey: &key, Peers: peers})
	}); err != nil {
		t.Fatal(err)
	}
}

func TestTakesOverAfterACrash(t *testing.T) {
	need(t)
	ns := tunneltest.NewNamespace(t)
	c := tunneltest.OneNode(t)
	killed(t, ns, c)
	first, err := look(t, ns)
	if err != nil {
		t.Fatal(err)
	}
	index := interfaceIndex(t, ns)
	d := ns.Inside(newDevice(t, kernel.Options{Interface: name, FwMark: 77}))
	if err := d.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	dev, err := look(t, ns)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Peers) != 2 || len(dev.Peers) != 1 || len(dev.Peers[0].AllowedIPs) != 2 || dev.FirewallMark != 77 || dev.ListenPort == 0 {
		t.Errorf("after the take-over: %d peers, mark %d, port %d", len(dev.Peers), dev.FirewallMark, dev.ListenPort)
	}
	if now := interfaceIndex(t, ns); now != index {
		t.Error("the interface was made anew, and with it all sessions")
	}
	// Only one process at a time.
	second := ns.Inside(newDevice(t, kernel.Options{Interface: name}))
	if err := second.Configure(t.Context(), c); err == nil || !strings.Contains(err.Error(), "another program holds it") {
		t.Errorf("a second device on the same interface: %v", err)
	}
	if err := ns.Do(func() error { return kernel.CleanUp(name) }); err != nil {
		t.Fatal(err)
	}
	if _, err := look(t, ns); err != nil {
		t.Errorf("cleaning up removed an interface in use: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := look(t, ns); err == nil {
		t.Error("the interface is still there")
	}
	if err := second.Configure(t.Context(), c); err != nil {
		t.Errorf("when the first has ended: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

func interfaceIndex(t *testing.T, ns *tunneltest.Namespace) (index int) {
	t.Helper()
	if err := ns.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err == nil {
			index = l.Attrs().Index
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return index
}

func TestCleansUpAfterACrash(t *testing.T) {
	need(t)
	ns := tunneltest.NewNamespace(t)
	for range 2 { // also when there is nothing
		if err := ns.Do(func() error { return kernel.CleanUp(name) }); err != nil {
			t.Fatal(err)
		}
		if _, err := look(t, ns); err == nil {
			t.Error("the interface is still there")
		}
		killed(t, ns, tunneltest.OneNode(t))
	}
}

func TestLeavesForeignInterfacesAlone(t *testing.T) {
	need(t)
	for what, foreign := range map[string]netlink.Link{
		"another program made one": &netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: name}},
		"another kind (dummy)":     &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name, Group: link.Protocol}},
	} {
		ns := tunneltest.NewNamespace(t)
		if err := ns.Do(func() error { return netlink.LinkAdd(foreign) }); err != nil {
			t.Fatal(err)
		}
		before := interfaceIndex(t, ns)
		d := ns.Inside(newDevice(t, kernel.Options{Interface: name}))
		if err := d.Configure(t.Context(), tunneltest.OneNode(t)); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := ns.Do(func() error { return kernel.CleanUp(name) }); err != nil {
			t.Error(err)
		}
		if interfaceIndex(t, ns) != before {
			t.Errorf("%s, and it was touched", what)
		}
	}
	if _, err := kernel.New(kernel.Options{Interface: "a-name-that-is-too-long"}); err == nil {
		t.Error("a long name is accepted")
	}
}

// What another hand changes, the next Configure puts right.
func TestPutsRightWhatOthersChange(t *testing.T) {
	need(t)
	ns := tunneltest.NewNamespace(t)
	d := ns.Inside(newDevice(t, kernel.Options{Interface: name}))
	defer d.Close()
	c := tunneltest.OneNode(t)
	c.Peers[0].PersistentKeepalive = 1400 * time.Millisecond
	check := func(what string) {
		t.Helper()
		if err := d.Configure(t.Context(), c); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		dev, err := look(t, ns)
		if err != nil || len(dev.Peers) != 1 || dev.FirewallMark != kernel.DefaultFwMark {
			t.Fatalf("%s: %+v (%v)", what, dev, err)
		}
		p := dev.Peers[0]
		if p.PublicKey != wgtypes.Key(c.Peers[0].PublicKey) || len(p.AllowedIPs) != 2 || p.PersistentKeepaliveInterval != time.Second ||
			p.Endpoint.String() != c.Peers[0].Endpoint.String() {
			t.Errorf("%s: peer %+v", what, p)
		}
	}
	check("at first")
	zero := 0
	for what, change := range map[string]wgtypes.Config{
		"no peers": {ReplacePeers: true}, "no mark": {FirewallMark: &zero},
		"another peer": {Peers: []wgtypes.PeerConfig{{PublicKey: wgtypes.Key{9}, AllowedIPs: []net.IPNet{{IP: net.IPv4(100, 64, 1, 0), Mask: net.CIDRMask(24, 32)}}}}},
	} {
		if err := ns.Do(func() error {
			w, err := wgctrl.New()
			if err != nil {
				return err
			}
			defer w.Close()
			return w.ConfigureDevice(name, change)
		}); err != nil {
			t.Fatal(err)
		}
		check(what)
	}
	if err := ns.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "another program removed it") {
		t.Errorf("status without an interface: %v", err)
	}
	check("no interface")
}

// The port of a running device stays when the new one cannot be had.
func TestKeepsThePortIfTheNewOneIsTaken(t *testing.T) {
	need(t)
	ns := tunneltest.NewNamespace(t)
	d := ns.Inside(newDevice(t, kernel.Options{Interface: name}))
	defer d.Close()
	other := ns.Inside(newDevice(t, kernel.Options{Interface: "towtest1"}))
	defer other.Close()
	c, o := tunneltest.OneNode(t), tunneltest.OneNode(t)
	c.ListenPort, o.ListenPort = 40001, 40002
	o.Addresses, o.Peers = tunneltest.Prefixes("100.64.0.9/32"), nil
	for d, c := range map[tunnel.Device]tunnel.Config{d: c, other: o} {
		if err := d.Configure(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	c.ListenPort = 40002
	if err := d.Configure(t.Context(), c); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port that is taken: %v", err)
	}
	if s, err := d.Status(t.Context()); err != nil || s.ListenPort != 40001 {
		t.Errorf("port %d (%v)", s.ListenPort, err)
	}
}

// Many peers with many prefixes: more than wgctrl puts into one message.
func TestManyPeers(t *testing.T) {
	need(t)
	ns := tunneltest.NewNamespace(t)
	d := ns.Inside(newDevice(t, kernel.Options{Interface: name, Linker: quiet{}}))
	defer d.Close()
	c := tunneltest.OneNode(t)
	c.Peers = nil
	for i := range 40 {
		p := tunneltest.OneNode(t).Peers[0]
		p.AllowedIPs = nil
		for j := range 300 / (1 + i) {
			p.AllowedIPs = append(p.AllowedIPs, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(j >> 8), byte(j)}), 32))
		}
		p.PersistentKeepalive = time.Duration(i) * time.Second
		c.Peers = append(c.Peers, p)
	}
	same := func() {
		t.Helper()
		if err := d.Configure(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		s, err := d.Status(t.Context())
		if err != nil || len(s.Peers) != len(c.Peers) {
			t.Fatalf("%d peers (%v), want %d", len(s.Peers), err, len(c.Peers))
		}
		for _, want := range c.Peers {
			i := slices.IndexFunc(s.Peers, func(p tunnel.PeerStatus) bool { return p.PublicKey == want.PublicKey })
			if i < 0 {
				t.Fatalf("peer %v is missing", want.PublicKey)
			}
			got := slices.SortedFunc(slices.Values(s.Peers[i].AllowedIPs), netip.Prefix.Compare)
			if !slices.Equal(got, slices.SortedFunc(slices.Values(want.AllowedIPs), netip.Prefix.Compare)) {
				t.Fatalf("%d prefixes, want %d", len(got), len(want.AllowedIPs))
			}
		}
	}
	same()
	for i := range c.Peers { // each gives half of its prefixes to the next one
		half := len(c.Peers[i].AllowedIPs) / 2
		next := &c.Peers[(i+1)%len(c.Peers)].AllowedIPs
		*next = append(slices.Clone(*next), c.Peers[i].AllowedIPs[:half]...)
		c.Peers[i].AllowedIPs = c.Peers[i].AllowedIPs[half:]
	}
	same()
	c.Peers = c.Peers[20:]
	same()
}

// quiet is a Linker that does nothing: thousands of routes are for link's own tests.
type quiet struct{}

func (quiet) Apply(context.Context, link.Config) error { return nil }
func (quiet) Observe(context.Context, string) (link.Config, error) {
	return link.Config{}, nil
}
func (quiet) Remove(context.Context, string, bool) error { return nil }

// wg(8) itself shows the device.
func TestForeignToolShowsTheDevice(t *testing.T) {
	need(t)
	wg, err := exec.LookPath("wg")
	if err != nil {
		t.Skip("no wg here")
	}
	ns := tunneltest.NewNamespace(t)
	d := ns.Inside(newDevice(t, kernel.Options{Interface: name}))
	defer d.Close()
	c := tunneltest.OneNode(t)
	if err := d.Configure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	var out []byte
	if err := ns.Do(func() (err error) {
		out, err = exec.CommandContext(t.Context(), wg, "show", name).CombinedOutput()
		return err
	}); err != nil {
		t.Fatalf("wg: %v: %s", err, out)
	}
	for _, want := range []string{"interface: " + name, "fwmark: " + fmt.Sprintf("%#x", kernel.DefaultFwMark), "peer: " + c.Peers[0].PublicKey.String(), "100.64.1.0/24"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("wg does not show %q:\n%s", want, out)
		}
	}
}
