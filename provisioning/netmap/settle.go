package netmap

import (
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
)

// settle works out again where everything is at the sites that changed.
func (e *editor) settle() bool {
	for owner := range e.shifted {
		if e.site(provisioning.SiteID(owner)) == nil && slices.ContainsFunc(e.x.AllocationsOf(owner), mapped) {
			return false
		}
	}
	for id, home := range e.open {
		if e.gone(id) {
			if len(home.nodes)+len(home.services)+len(home.uses) > 0 || slices.ContainsFunc(e.x.AllocationsOf(string(id)), mapped) {
				return false
			}
			e.x.sites = e.x.sites.without(id)
			continue
		}
		if !e.housed(home) || !e.answers(home) || !e.place(home) {
			return false
		}
	}
	e.relays()
	return true
}

func mapped(r *provisioning.Range) bool { return r.Purpose == provisioning.PurposeMapped }

// housed reports whether all addresses of a site are its own, and all its ports.
func (e *editor) housed(home *site) bool {
	own := e.x.AllocationsOf(string(home.ID))
	at := func(a netip.Addr) bool { return !a.IsValid() || owns(own, e.x.overlay, a) }
	for _, n := range home.nodes {
		if !at(n.Address) || !at(n.Former) {
			return false
		}
	}
	ports := map[uint16]bool{}
	for v := range e.x.offered(home) {
		if ports[v.Port] || !at(v.Address) {
			return false
		}
		ports[v.Port] = true
	}
	return true
}

// answers takes the mappings of a site. No node of another has an address in one, since allocations are disjoint.
func (e *editor) answers(home *site) bool {
	home.mappings, home.extras = nil, nil
	for _, ending := range []bool{false, true} {
		for _, r := range e.x.AllocationsOf(string(home.ID)) {
			if !mapped(r) || r.Ending() != ending {
				continue
			}
			m, err := ipam.NewMapping(r.Maps, r.Prefix)
			if err != nil || !inPool(e.x.overlay, r.Prefix) || r.Prefix.Contains(e.x.s.Hub.Address) {
				return false
			}
			if slices.ContainsFunc(home.nodes, func(n *provisioning.Node) bool {
				return r.Prefix.Contains(n.Address) || r.Prefix.Contains(n.Former)
			}) {
				return false
			}
			home.mappings = append(home.mappings, m)
			home.extras = append(home.extras, r.Prefix)
		}
	}
	return true
}

// place puts the services of a site where they are.
func (e *editor) place(home *site) bool {
	placed := map[netip.AddrPort]bool{}
	for _, id := range home.services {
		v, _ := e.x.services.get(id)
		var places []netip.AddrPort
		if v.Address.IsValid() {
			places = append(places, netip.AddrPortFrom(v.Address, v.Port))
			home.extras = append(home.extras, hostPrefix(v.Address))
		}
		inside, sound := e.placesIn(home, v, placed)
		if places = append(places, inside...); !sound {
			return false
		}
		if !slices.Equal(places, v.places) {
			now := *v
			now.places = places
			e.x.services = e.x.services.with(id, &now)
		}
	}
	home.extras = outermost(home.extras)
	return true
}

// placesIn are where mappings put a service, see builder.addMapped.
func (e *editor) placesIn(home *site, v *service, placed map[netip.AddrPort]bool) (places []netip.AddrPort, sound bool) {
	target, err := netip.ParseAddrPort(v.Target)
	if err != nil || target.Port() == 0 {
		return nil, true
	}
	for _, m := range home.mappings {
		a, ok := m.Forward(target.Addr())
		if !ok {
			continue
		}
		if e.x.claims.hosts.has(a) {
			return nil, false
		}
		if p := netip.AddrPortFrom(a, target.Port()); !placed[p] {
			placed[p] = true
			places = append(places, p)
		}
	}
	return places, true
}
