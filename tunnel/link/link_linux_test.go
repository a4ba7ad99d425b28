package link_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/tunnel/link"
	"github.com/towpath/towpath/tunnel/link/linktest"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func addrs(list ...string) (as []netip.Addr) {
	for _, s := range list {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

var equal = cmp.Options{cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}), cmpopts.EquateEmpty()}

// contract is what every Linker does; tow0 exists.
func contract(t *testing.T, l link.Linker) {
	ctx := context.Background()
	expect := func(want link.Config) {
		t.Helper()
		got, err := l.Observe(ctx, "tow0")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, equal); d != "" {
			t.Fatalf("-want +got:\n%s", d)
		}
	}
	first := link.Config{
		Interface: "tow0", MTU: 1280,
		Addresses: prefixes("100.64.0.1/32", "100.64.0.9/32", "fd7a:10::1/128"),
		Routes:    prefixes("100.64.1.0/24", "100.64.2.2/32", "fd7a:10::2/128"),
		Blackhole: prefixes("100.64.0.0/10", "fd7a:10::/48"),
		Sources:   addrs("100.64.0.9", "fd7a:10::1"),
	}
	second := link.Config{
		Interface: "tow0", MTU: 1420,
		Addresses: prefixes("100.64.0.9/32", "100.64.0.10/32"),
		Routes:    prefixes("100.64.0.0/10", "100.64.2.2/32", "fd7a:10::/64"),
		Blackhole: prefixes("10.99.0.0/16", "100.64.0.0/10"),
		Sources:   addrs("100.64.0.10"),
	}
	nested := second // the same address is the source no more, and goes, and pools nest
	nested.Addresses, nested.Sources = prefixes("100.64.0.9/32"), addrs("100.64.0.9")
	nested.Blackhole = prefixes("10.99.0.0/16", "100.64.0.0/10", "100.64.0.0/20", "100.64.2.0/24")
	unsourced := first
	unsourced.Sources = nil
	for _, c := range []link.Config{first, first, second, first, unsourced, nested, first, second} {
		if err := l.Apply(ctx, c); err != nil {
			t.Fatal(err)
		}
		expect(c)
	}
	noMTU := second
	noMTU.MTU = 0
	if err := l.Apply(ctx, noMTU); err != nil {
		t.Fatal(err)
	}
	expect(second)
	if err := l.Apply(ctx, link.Config{Interface: "none"}); !errors.Is(err, link.ErrNotFound) {
		t.Errorf("an interface that does not exist: %v", err)
	}
	if err := l.Apply(ctx, link.Config{Interface: "tow0", Routes: prefixes("10.0.0.1/8")}); err == nil {
		t.Error("an unmasked prefix is accepted")
	}
	expect(second)
	if err := l.Remove(ctx, "tow0", true); err != nil {
		t.Fatal(err)
	}
	expect(link.Config{Interface: "tow0", MTU: 1420, Blackhole: second.Blackhole})
	for range 2 {
		if err := l.Remove(ctx, "tow0", false); err != nil {
			t.Fatal(err)
		}
	}
	expect(link.Config{Interface: "tow0", MTU: 1420})
	if err := l.Remove(ctx, "none", false); err != nil {
		t.Errorf("remove what does not exist: %v", err)
	}
	if c, err := l.Observe(ctx, "none"); err != nil || c.MTU != 0 {
		t.Errorf("observe what does not exist: %+v, %v", c, err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := l.Apply(canceled, first); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled context: %v", err)
	}
}

func TestFake(t *testing.T) {
	var f linktest.Fake
	f.AddInterface("tow0")
	contract(t, &f)
}

// inNamespace runs f in a namespace of its own that has a TUN interface tow0.
func inNamespace(t *testing.T, f func() error) {
	t.Helper()
	ns := tunneltest.NewNamespace(t)
	if err := ns.Do(func() error {
		if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tow0"}, Mode: netlink.TUNTAP_MODE_TUN}); err != nil {
			return err
		}
		return f()
	}); err != nil {
		t.Fatal(err)
	}
}

func TestKernel(t *testing.T) {
	inNamespace(t, func() error {
		contract(t, link.Kernel{})
		return nil
	})
}

// Applying the same again sends nothing to the kernel that it would call a change.
func TestKernelApplyTwiceChangesNothing(t *testing.T) {
	inNamespace(t, func() error {
		c := link.Config{
			Interface: "tow0", MTU: 1280, Addresses: prefixes("100.64.0.1/32", "fd7a:10::1/128"),
			Routes: prefixes("100.64.1.0/24", "fd7a:10::2/128"), Blackhole: prefixes("100.64.0.0/10", "fd7a:10::/48"),
			Sources: addrs("100.64.0.1", "fd7a:10::1"),
		}
		if err := (link.Kernel{}).Apply(t.Context(), c); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE)
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
			return err
		}
		buf := make([]byte, 1<<16)
		// The kernel is not done with the first Apply when that returns: what IPv6 finds out by itself is reported later. A change of
		// ours would be reported each time.
		changes := 0
		for range 3 {
			if err := (link.Kernel{}).Apply(t.Context(), c); err != nil {
				return err
			}
			changed := false
			for {
				if _, _, err := unix.Recvfrom(fd, buf, 0); errors.Is(err, unix.EAGAIN) {
					break
				} else if err != nil {
					return err
				}
				changed = true
			}
			if changed {
				changes++
			}
		}
		if changes == 3 {
			t.Error("the kernel reports a change each time")
		}
		c.MTU = 1300
		if err := (link.Kernel{}).Apply(t.Context(), c); err != nil {
			return err
		}
		if _, _, err := unix.Recvfrom(fd, buf, 0); err != nil {
			t.Errorf("and this test would not see one: %v", err)
		}
		return nil
	})
}

func TestKernelSweepsLeftovers(t *testing.T) {
	inNamespace(t, func() error {
		tow, err := netlink.LinkByName("tow0")
		if err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(tow); err != nil {
			return err
		}
		dst := func(s string) *net.IPNet {
			_, n, err := net.ParseCIDR(s)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if err := netlink.AddrAdd(tow, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(100, 64, 0, 7).To4(), Mask: net.CIDRMask(24, 32)}}); err != nil {
			return err
		}
		for _, r := range []netlink.Route{
			// ours, from a run that crashed or another version
			{LinkIndex: tow.Attrs().Index, Dst: dst("100.64.77.0/24"), Protocol: link.Protocol, Scope: netlink.SCOPE_LINK, Priority: 50},
			{LinkIndex: tow.Attrs().Index, Dst: dst("100.64.78.0/24"), Protocol: link.Protocol, Scope: netlink.SCOPE_LINK, Priority: 7},
			{Dst: dst("100.99.0.0/16"), Protocol: link.Protocol, Type: unix.RTN_UNREACHABLE, Priority: 30000},
			{Dst: dst("100.98.0.0/16"), Protocol: link.Protocol, Type: unix.RTN_BLACKHOLE, Priority: 9},
			{Dst: dst("fd99::/16"), Protocol: link.Protocol, Type: unix.RTN_UNREACHABLE, Priority: 30000},
			// not ours
			{LinkIndex: tow.Attrs().Index, Dst: dst("192.0.2.0/24"), Protocol: unix.RTPROT_STATIC, Scope: netlink.SCOPE_LINK},
			{LinkIndex: lo.Attrs().Index, Dst: dst("192.0.3.0/24"), Protocol: link.Protocol, Scope: netlink.SCOPE_LINK, Priority: 50},
			{Dst: dst("192.0.4.0/24"), Protocol: unix.RTPROT_STATIC, Type: unix.RTN_UNREACHABLE, Priority: 30000},
		} {
			if err := netlink.RouteAdd(&r); err != nil {
				return err
			}
		}
		want := link.Config{
			Interface: "tow0", MTU: 1280, Addresses: prefixes("100.64.0.1/32"), Routes: prefixes("100.64.1.0/24"),
			Blackhole: prefixes("100.64.0.0/10"),
		}
		if err := (link.Kernel{}).Apply(t.Context(), want); err != nil {
			return err
		}
		got, err := link.Kernel{}.Observe(t.Context(), "tow0")
		if err != nil {
			return err
		}
		if d := cmp.Diff(want, got, equal); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		left := map[string]bool{}
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			routes, err := netlink.RouteList(nil, family)
			if err != nil {
				return err
			}
			for _, r := range routes {
				left[r.Dst.String()] = true
			}
		}
		for s, want := range map[string]bool{
			"100.64.77.0/24": false, "100.64.78.0/24": false, "100.99.0.0/16": false, "100.98.0.0/16": false, "fd99::/16": false,
			"192.0.2.0/24": true, "192.0.3.0/24": true, "192.0.4.0/24": true, "100.64.1.0/24": true, "100.64.0.0/10": true,
		} {
			if left[s] != want {
				t.Errorf("route %s is there: %v, want %v", s, left[s], want)
			}
		}
		return nil
	})
}

// The unreachable routes hold when the interface goes away, even against a default route.
func TestKernelFailsClosed(t *testing.T) {
	inNamespace(t, func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wan0"}, PeerName: "wan1"}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(veth); err != nil {
			return err
		}
		if err := netlink.AddrAdd(veth, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 1).To4(), Mask: net.CIDRMask(24, 32)}}); err != nil {
			return err
		}
		everything := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: veth.Attrs().Index, Dst: everything, Gw: net.IPv4(192, 0, 2, 2)}); err != nil {
			return err
		}
		err := link.Kernel{}.Apply(t.Context(), link.Config{
			Interface: "tow0", MTU: 1280, Addresses: prefixes("100.64.0.1/32"), Routes: prefixes("100.64.1.0/24"),
			Blackhole: prefixes("100.64.0.0/10"),
		})
		if err != nil {
			return err
		}
		leads := func(to string) string {
			routes, err := netlink.RouteGet(net.ParseIP(to))
			if err != nil {
				return err.Error()
			}
			l, err := netlink.LinkByIndex(routes[0].LinkIndex)
			if err != nil {
				return err.Error()
			}
			return l.Attrs().Name
		}
		check := func(to, want string) {
			t.Helper()
			if got := leads(to); got != want {
				t.Errorf("%s leads to %q, want %q", to, got, want)
			}
		}
		nowhere := unix.EHOSTUNREACH.Error()
		check("100.64.1.1", "tow0")
		check("100.64.2.1", nowhere)
		check("198.51.100.1", "wan0")
		tow, err := netlink.LinkByName("tow0")
		if err != nil {
			return err
		}
		if err := netlink.LinkDel(tow); err != nil {
			return err
		}
		check("100.64.1.1", nowhere)
		check("198.51.100.1", "wan0")
		return nil
	})
}

// Programs that choose no address themselves send from the source, whichever address is the lowest or came first, and what was routed stays
// routed when the old source goes.
func TestKernelSources(t *testing.T) {
	inNamespace(t, func() error {
		c := link.Config{
			Interface: "tow0", MTU: 1280, Addresses: prefixes("100.64.0.1/32", "100.64.0.9/32"), Sources: addrs("100.64.0.9"),
			Routes: prefixes("100.64.1.0/24", "100.64.2.2/32"), Blackhole: prefixes("100.64.0.0/10"),
		}
		check := func(want string) {
			t.Helper()
			if err := (link.Kernel{}).Apply(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			for _, to := range []string{"100.64.1.1", "100.64.2.2"} {
				routes, err := netlink.RouteGet(net.ParseIP(to))
				if err != nil {
					t.Fatalf("%s: %v", to, err)
				}
				if got := routes[0].Src.String(); got != want {
					t.Errorf("packets to %s come from %s, want %s", to, got, want)
				}
			}
		}
		check("100.64.0.9")
		c.Addresses, c.Sources = prefixes("100.64.0.1/32", "100.64.0.9/32", "100.64.0.5/32"), addrs("100.64.0.5")
		check("100.64.0.5")
		c.Addresses = prefixes("100.64.0.5/32")
		check("100.64.0.5")
		return nil
	})
}
