package box

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/towpath/towpath/provisioning/wire"
)

// iface is a network interface as far as the plan is concerned.
type iface struct {
	name string
	// prefixes are the networks of its addresses, masked.
	prefixes []netip.Prefix
	// gateway means that a default route leads through it.
	gateway bool
}

// maxPrefixes bounds each list of a box's networks. More are more than a coordinator wants to hear of; the rest is left out.
const maxPrefixes = 32

// containers fits the interfaces that container and virtualization software makes: Docker (docker0, docker_gwbridge, br- and twelve digits),
// Podman, CNI, libvirt, LXC, LXD, Incus, and Kubernetes with Flannel or Calico.
var containers = regexp.MustCompile(`^(docker|podman|cni|virbr|lxcbr|lxdbr|incusbr|flannel|cali|veth|kube)|^br-[0-9a-f]{12}$`)

// classify sorts the networks of interfaces into those of the Site, those towards the internet and those of containers.
//
// An interface with a default route is towards the internet if another one is left for the Site; one alone is a LAN behind a router. An
// address that only a provider gives, a public or a carrier-grade one, is towards the internet whatever interface has it: a LAN often has
// public IPv6 beside private IPv4.
func classify(list []iface) (f wire.Facts) {
	for _, i := range list {
		for _, p := range i.prefixes {
			switch {
			case containers.MatchString(i.name):
				f.Containers = append(f.Containers, p)
			case towardsInternet(i, list), !private(p):
				f.WANs = append(f.WANs, p)
			default:
				f.LANs = append(f.LANs, p)
			}
		}
	}
	for _, l := range []*[]netip.Prefix{&f.LANs, &f.WANs, &f.Containers} {
		slices.SortFunc(*l, netip.Prefix.Compare)
		*l = slices.Compact(*l)
		*l = (*l)[:min(len(*l), maxPrefixes)]
	}
	return f
}

// private reports whether a network is one that a Site makes for itself: RFC 1918, or unique local (RFC 4193), not RFC 6598's 100.64.0.0/10.
func private(p netip.Prefix) bool { return p.Addr().IsPrivate() }

// worthTelling reports whether a network is anybody's concern but this machine's.
func worthTelling(p netip.Prefix) bool {
	a := p.Addr()
	return !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsUnspecified()
}

// Flags of a route (linux/route.h) in the files below.
const (
	routeUp     = 0x0001
	routeReject = 0x0200
)

// defaults4 returns the interfaces with an IPv4 default route from the text of /proc/net/route (proc(5)): interface, destination, gateway,
// flags, reference count, use, metric, mask and more, numbers in hexadecimal.
func defaults4(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 8 && zero(f[1]) && zero(f[7]) && usable(f[3]) {
			names = append(names, f[0])
		}
	}
	return names
}

// defaults6 does so from the text of /proc/net/ipv6_route: destination, its length, source, its length, next hop, metric, reference count,
// use, flags and interface, numbers in hexadecimal.
func defaults6(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 10 && zero(f[0]) && zero(f[1]) && usable(f[8]) && f[9] != "lo" {
			names = append(names, f[9])
		}
	}
	return names
}

func zero(s string) bool { return s != "" && strings.Trim(s, "0") == "" }

// usable reports whether the flags of a route let packets through.
func usable(flags string) bool {
	n, err := strconv.ParseUint(flags, 16, 32)
	return err == nil && n&routeUp != 0 && n&routeReject == 0
}
