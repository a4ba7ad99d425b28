package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Protocol marks our routes in the kernel's table (rtm_protocol, a number nobody else is known to use), so that they are recognized
// after a crash and shown by "ip route" as "proto 116".
const Protocol = 116

// Metrics of our routes: those through the interface come first, the unreachable ones catch what they do not take. The unreachable
// ones do not need the interface and so remain when it goes away.
const (
	routeMetric     = 50
	blackholeMetric = 30000
)

// ErrNotFound is wrapped when the interface does not exist.
var ErrNotFound = errors.New("no such network interface")

// Config is the whole desired state of one interface.
type Config struct {
	// Interface is the name; it must exist.
	Interface string
	// MTU in bytes; 0 leaves it.
	MTU int
	// Addresses are host prefixes.
	Addresses []netip.Prefix
	// Routes are masked prefixes that lead through the interface. A default route is refused: it would swallow the outer packets.
	Routes []netip.Prefix
	// Sources are where packets come from that programs send by Routes without choosing an address themselves: at most one of Addresses for
	// each family. Without one the kernel takes the address that the interface got first.
	Sources []netip.Addr
	// Blackhole are masked prefixes for which the kernel answers "no route to host" unless one of Routes takes the packet. There is
	// one such set per network namespace.
	Blackhole []netip.Prefix
}

// Linker applies Configs. Apply and Observe are idempotent; what Observe returns after Apply equals the Config, sorted, but for Sources of a
// family that has no Routes.
type Linker interface {
	// Apply makes the interface match c and sets it up. Blackhole routes come first and routes last.
	Apply(ctx context.Context, c Config) error
	// Observe reads the addresses and routes that are ours now. A missing interface is no error; its MTU is 0.
	Observe(ctx context.Context, name string) (Config, error)
	// Remove takes away the addresses and routes of the interface, if it exists, and all blackhole routes unless they are kept.
	Remove(ctx context.Context, name string, keepBlackhole bool) error
}

// normalized returns c with sorted lists without doubles, or what is wrong with it.
func (c Config) normalized() (Config, error) {
	if c.Interface == "" {
		return c, errors.New("configure a network interface: no name")
	}
	for _, r := range c.Routes {
		if r.Bits() == 0 {
			return c, fmt.Errorf("a default route (%v) cannot lead through the tunnel: list the networks of the peer instead", r)
		}
	}
	for _, l := range []*[]netip.Prefix{&c.Addresses, &c.Routes, &c.Blackhole} {
		for _, p := range *l {
			if !p.IsValid() || p != p.Masked() {
				return c, fmt.Errorf("configure interface %s: %v is not a masked prefix", c.Interface, p)
			}
		}
		*l = slices.Clone(*l)
		slices.SortFunc(*l, netip.Prefix.Compare)
		*l = slices.Compact(*l)
	}
	c.Sources = slices.Clone(c.Sources)
	slices.SortFunc(c.Sources, netip.Addr.Compare)
	for i, a := range c.Sources {
		if !slices.Contains(c.Addresses, netip.PrefixFrom(a, a.BitLen())) || i > 0 && c.Sources[i-1].Is4() == a.Is4() {
			return c, fmt.Errorf("configure interface %s: %v is no address of it, or not the only source of its family", c.Interface, a)
		}
	}
	return c, nil
}

// source is the one of Sources for a route, or the zero value.
func (c Config) source(p netip.Prefix) netip.Addr {
	if i := slices.IndexFunc(c.Sources, func(a netip.Addr) bool { return a.Is4() == p.Addr().Is4() }); i >= 0 {
		return c.Sources[i]
	}
	return netip.Addr{}
}
