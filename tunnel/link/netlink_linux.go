package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const addrGenModeNone = 1

// Kernel is the Linker of the network namespace that the calling thread is in. It needs CAP_NET_ADMIN. The zero value is ready.
type Kernel struct {
	// Log gets one line per change, at debug; nil discards them.
	Log *slog.Logger
}

var _ Linker = Kernel{}

// Apply implements Linker.
func (k Kernel) Apply(ctx context.Context, c Config) error {
	want, err := c.normalized()
	if err != nil {
		return err
	}
	return k.with(ctx, func(h *netlink.Handle) error {
		l, err := find(h, want.Interface)
		if err != nil {
			return err
		}
		return k.reconcile(ctx, h, l, want)
	})
}

// Observe implements Linker.
func (k Kernel) Observe(ctx context.Context, name string) (Config, error) {
	c := Config{Interface: name}
	err := k.with(ctx, func(h *netlink.Handle) error {
		l, err := find(h, name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		s, _, err := observe(h, l, name)
		c = s.Config
		return err
	})
	return c, err
}

// Remove implements Linker.
func (k Kernel) Remove(ctx context.Context, name string, keepBlackhole bool) error {
	return k.with(ctx, func(h *netlink.Handle) error {
		l, err := find(h, name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		is, stale, err := observe(h, l, name)
		if err != nil {
			return err
		}
		is.up = true // leave it as it is
		want := Config{Interface: name}
		if keepBlackhole {
			want.Blackhole = is.Blackhole
		}
		if err := k.execute(ctx, h, l, plan(is, want)); err != nil {
			return err
		}
		return k.sweep(ctx, h, stale)
	})
}

func (k Kernel) with(ctx context.Context, do func(*netlink.Handle) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	return do(h)
}

func (k Kernel) reconcile(ctx context.Context, h *netlink.Handle, l netlink.Link, want Config) error {
	is, stale, err := observe(h, l, want.Interface)
	if err != nil {
		return err
	}
	if err := k.execute(ctx, h, l, plan(is, want)); err != nil {
		return err
	}
	return k.sweep(ctx, h, stale)
}

// sweep deletes routes of ours that this version would make differently.
func (k Kernel) sweep(ctx context.Context, h *netlink.Handle, stale []netlink.Route) error {
	for _, r := range stale {
		if err := ignore(h.RouteDel(&r), unix.ESRCH); err != nil {
			return fmt.Errorf("remove the left-over route %v: %w", r.Dst, err)
		}
		if k.Log != nil {
			k.Log.DebugContext(ctx, "network changed", "change", fmt.Sprintf("remove left-over route %v", r.Dst))
		}
	}
	return nil
}

func (k Kernel) execute(ctx context.Context, h *netlink.Handle, l netlink.Link, steps []step) error {
	for _, s := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := do(h, l, s); err != nil {
			return explain(s, err)
		}
		if k.Log != nil {
			k.Log.DebugContext(ctx, "network changed", "change", s.String())
		}
	}
	return nil
}

func explain(s step, err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%v: %w: this needs the capability NET_ADMIN; run as root or use the netstack backend", s, err)
	case s.prefix.IsValid() && s.prefix.Addr().Is6() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP)):
		return fmt.Errorf("%v: %w: IPv6 is turned off on this machine (sysctl net.ipv6.conf.all.disable_ipv6)", s, err)
	}
	return fmt.Errorf("%v: %w", s, err)
}

func do(h *netlink.Handle, l netlink.Link, s step) error {
	switch s.verb {
	case setMTU:
		return h.LinkSetMTU(l, s.mtu)
	case setUp:
		// No link-local address: there are no neighbors, and its multicast chatter would go through the tunnel. Kernels without IPv6
		// do not know the attribute.
		if err := h.LinkSetIP6AddrGenMode(l, addrGenModeNone); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) &&
			!errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
			return err
		}
		return h.LinkSetUp(l)
	case addAddress:
		a := &netlink.Addr{IPNet: ipNet(s.prefix)}
		if s.prefix.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // nobody else is on the link
		}
		return ignore(h.AddrAdd(l, a), unix.EEXIST)
	case removeAddress:
		return ignore(h.AddrDel(l, &netlink.Addr{IPNet: ipNet(s.prefix)}), unix.EADDRNOTAVAIL)
	case addRoute:
		return ignore(h.RouteAdd(through(l, s.prefix, s.source)), unix.EEXIST)
	case setSource:
		return h.RouteReplace(through(l, s.prefix, s.source))
	case removeRoute:
		return ignore(h.RouteDel(through(l, s.prefix, netip.Addr{})), unix.ESRCH)
	case addBlackhole:
		return ignore(h.RouteAdd(unreachable(s.prefix)), unix.EEXIST)
	case removeBlackhole:
		return ignore(h.RouteDel(unreachable(s.prefix)), unix.ESRCH)
	}
	return fmt.Errorf("unknown change %d", s.verb)
}

func ignore(err error, harmless unix.Errno) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

func through(l netlink.Link, p netip.Prefix, source netip.Addr) *netlink.Route {
	return &netlink.Route{
		LinkIndex: l.Attrs().Index, Dst: ipNet(p), Src: source.AsSlice(), Scope: netlink.SCOPE_LINK, Protocol: Protocol, Priority: routeMetric,
		Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST,
	}
}

func unreachable(p netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(p), Protocol: Protocol, Priority: blackholeMetric, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNREACHABLE,
	}
}

func find(h *netlink.Handle, name string) (netlink.Link, error) {
	l, err := h.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, fmt.Errorf("look for interface %s: %w", name, err)
	}
	return l, nil
}

// observe reads what is ours, and apart from it what is ours but not as it should be; l is nil if there is no interface.
func observe(h *netlink.Handle, l netlink.Link, name string) (s state, stale []netlink.Route, err error) {
	s.Interface, s.from = name, map[netip.Prefix]netip.Addr{}
	if l != nil {
		s.MTU = l.Attrs().MTU
		s.up = l.Attrs().Flags&net.FlagUp != 0
		addrs, err := steady(func() ([]netlink.Addr, error) { return h.AddrList(l, netlink.FAMILY_ALL) })
		if err != nil {
			return s, nil, fmt.Errorf("list the addresses of %s: %w", name, err)
		}
		for _, a := range addrs {
			if p, ok := prefix(a.IPNet); ok && !p.Addr().IsLinkLocalUnicast() {
				s.Addresses = append(s.Addresses, p)
			}
		}
	}
	filter := &netlink.Route{Protocol: Protocol, Table: unix.RT_TABLE_MAIN}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := steady(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return s, nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			p, ok := prefix(r.Dst)
			unicast := r.Type == unix.RTN_UNICAST
			switch {
			case unicast && (l == nil || r.LinkIndex != l.Attrs().Index): // another interface's
			case ok && unicast && r.Priority == routeMetric:
				s.Routes = append(s.Routes, p)
				if a, ok := netip.AddrFromSlice(r.Src); ok {
					s.from[p] = a.Unmap()
				}
			case ok && r.Type == unix.RTN_UNREACHABLE && r.Priority == blackholeMetric:
				s.Blackhole = append(s.Blackhole, p)
			default:
				stale = append(stale, r)
			}
		}
	}
	for _, list := range [][]netip.Prefix{s.Addresses, s.Routes, s.Blackhole} {
		slices.SortFunc(list, netip.Prefix.Compare)
	}
	s.Sources = slices.Compact(slices.SortedFunc(maps.Values(s.from), netip.Addr.Compare))
	return s, stale, nil
}

// steady repeats a dump that the kernel says was disturbed by a change.
func steady[T any](dump func() ([]T, error)) (list []T, err error) {
	for range 10 {
		if list, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return list, err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	a = a.Unmap()
	if !ok || bits != a.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, ones), true
}
