package prove

import (
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
)

// front is the gateway to which all leads that leads to a site, but for its other nodes' own addresses.
func (p *Prover) front(site string) (Node, bool) {
	all := p.ranked(site)
	if len(all) == 0 {
		return Node{}, false
	}
	return all[0], true
}

// mappings are those of a site. The caller must not change them.
func (p *Prover) mappings(site string) []ipam.Mapping {
	if s := p.sites[site]; s != nil {
		return s.mappings
	}
	return nil
}

// extras is what leads to a site besides the addresses of its nodes: mapped prefixes, and those of its services' own addresses that do not
// lie in one. The caller must not change it.
func (p *Prover) extras(site string) []netip.Prefix {
	s := p.sites[site]
	switch {
	case s == nil:
		return nil
	case s.extras != nil:
		return s.extras
	}
	all := []netip.Prefix{}
	for _, m := range s.mappings {
		all = append(all, m.Mapped)
	}
	for name := range s.offers {
		if v, ok := p.service(name); ok && v.Site == site && v.Address.IsValid() {
			all = append(all, host(v.Address))
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	s.extras = slices.CompactFunc(all, netip.Prefix.Overlaps)
	return s.extras
}

// places are where a service is besides its port at its site's gateways.
func (p *Prover) places(v Service) []netip.AddrPort {
	var out []netip.AddrPort
	if v.Address.IsValid() {
		out = append(out, netip.AddrPortFrom(v.Address, v.Port))
	}
	mappings := p.mappings(v.Site)
	if len(mappings) == 0 {
		return out
	}
	target, err := netip.ParseAddrPort(v.Target)
	if err != nil || target.Port() == 0 {
		return out // a name is nowhere in a plan
	}
	for _, m := range mappings {
		if a, ok := m.Forward(target.Addr()); ok {
			out = append(out, netip.AddrPortFrom(a, target.Port()))
		}
	}
	return out
}

// isAt reports whether a service may be at a place, according to its site.
func (p *Prover) isAt(v Service, place netip.AddrPort) bool {
	front, ok := p.front(v.Site)
	return ok && place == netip.AddrPortFrom(front.Address, v.Port) || slices.Contains(p.places(v), place)
}

// allowed are the prefixes that a node must be allowed on another: its own, and the extras of its site if it is the front and the other
// uses something there.
func (p *Prover) allowed(far Node, uses bool) []netip.Prefix {
	own := far.own()
	if !uses {
		return own
	}
	extras := p.extras(far.Site)
	if len(extras) == 0 {
		return own
	}
	if front, ok := p.front(far.Site); !ok || front.ID != far.ID {
		return own
	}
	return append(own, extras...)
}
