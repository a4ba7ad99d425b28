package box

import (
	"net/netip"
	"slices"

	"github.com/towpath/towpath/gateway/reconcile"
)

// maxSides bounds how many interfaces count as the Site's. More are left out, and closed to clinical ports.
const maxSides = 128

// siteRanges are the addresses that Sites make for themselves: RFC 1918, link-local (RFC 3927, RFC 4291) and unique local (RFC 4193).
func siteRanges() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Sides tells which of this machine's interfaces are the Site's. Those whose name starts with one of skip are left out (our own tunnel).
// Named are addresses that the devices connect to, as a person says; their interface is the Site's, whatever else it is.
func Sides(named []netip.Addr, skip ...string) reconcile.Sides { return sides(interfaces(skip), named) }

// sides follows classify: an interface belongs to the Site if one of its networks does, and is shared if a default route leads through it.
func sides(list []iface, named []netip.Addr) (s reconcile.Sides) {
	for _, i := range list {
		s.Attached = append(s.Attached, i.prefixes...)
		chosen := slices.ContainsFunc(i.prefixes, func(p netip.Prefix) bool { return slices.ContainsFunc(named, p.Contains) })
		container := containers.MatchString(i.name)
		switch {
		case len(s.LAN)+len(s.Shared) >= maxSides:
		case !chosen && !container && (towardsInternet(i, list) || !slices.ContainsFunc(i.prefixes, private)):
		case container, !i.gateway:
			s.LAN = append(s.LAN, i.name)
		default:
			s.Shared = append(s.Shared, i.name)
			for _, p := range i.prefixes {
				if chosen || p.Addr().Is6() {
					s.Site = append(s.Site, p)
				}
			}
		}
	}
	if len(s.Shared) > 0 {
		s.Site = append(s.Site, siteRanges()...)
	}
	return s
}

// towardsInternet reports whether an interface has a default route and another one is left for the Site.
func towardsInternet(i iface, list []iface) bool {
	return i.gateway && slices.ContainsFunc(list, inside)
}

// inside reports whether an interface is the Site's alone.
func inside(i iface) bool {
	return !i.gateway && !containers.MatchString(i.name) && slices.ContainsFunc(i.prefixes, private)
}
