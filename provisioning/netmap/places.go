package netmap

import (
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
)

// At is where the users of a service find it: its own address, or what a mapping makes of its target, or its port at the address of its
// site's first gateway. It is the zero value for a service that is not sound, or whose site has no sound gateway.
func (x *Index) At(id provisioning.ServiceID) netip.AddrPort {
	v, ok := x.services.get(id)
	if !ok {
		return netip.AddrPort{}
	}
	home, _ := x.sites.get(v.Site)
	front, boxed := home.front()
	if !boxed {
		return netip.AddrPort{}
	}
	return v.at(front, front.Address)
}

// at is At for a user with the address from, whose family the place must have.
func (v *service) at(front provisioning.Node, from netip.Addr) netip.AddrPort {
	for _, p := range v.places {
		if p.Addr().Is4() == from.Is4() {
			return p
		}
	}
	return netip.AddrPortFrom(front.Address, v.Port)
}

// addPlaces works out where services are besides the addresses of the boxes. Fixed addresses come first: nothing may take one away.
func (x *builder) addPlaces() {
	taken := map[netip.Addr]string{x.s.Hub.Address: "the hub"}
	for _, n := range x.nodes {
		taken[n.Address] = "node " + string(n.ID)
		if n.Former.IsValid() {
			taken[n.Former] = "node " + string(n.ID)
		}
	}
	x.addMappings(taken)
	x.addFixed(taken)
	x.addMapped(taken)
	for site, extras := range x.extras {
		x.extras[site] = outermost(extras)
	}
}

// addMappings takes the mapped allocations that hold no address of a node and are disjoint from all others: a prefix cannot lead to two.
func (x *builder) addMappings(taken map[netip.Addr]string) {
	var all, hosts []netip.Prefix
	for _, r := range x.allocations {
		all = append(all, r.Prefix)
	}
	for a := range taken {
		if a.IsValid() {
			hosts = append(hosts, hostPrefix(a))
		}
	}
	colliding := map[netip.Prefix]bool{}
	for a, b := range ipam.NewSet(all...).Collisions() {
		colliding[a], colliding[b] = true, true
	}
	nodes := ipam.NewSet(hosts...)
	for _, ending := range []bool{false, true} {
		for _, r := range x.allocations {
			if r.Purpose != provisioning.PurposeMapped || r.Ending() != ending {
				continue
			}
			site := provisioning.SiteID(r.Owner)
			m, err := ipam.NewMapping(r.Maps, r.Prefix)
			reason := ""
			switch _, known := x.sites[site]; {
			case !known:
				reason = "its site is missing or broken"
			case err != nil:
				reason = err.Error()
			case !inPool(x.overlay, r.Prefix):
				reason = "it is in no pool"
			case colliding[r.Prefix]:
				reason = "it overlaps another allocation"
			case nodes.Overlaps(r.Prefix):
				reason = "the address of a node is in it"
			}
			if reason != "" {
				x.omit("mapping of "+r.Maps.String(), "%s: %s", r.Prefix, reason)
				continue
			}
			x.mappings[site] = append(x.mappings[site], m)
			x.extras[site] = append(x.extras[site], r.Prefix)
		}
	}
}

// addFixed gives services their own addresses.
func (x *builder) addFixed(taken map[netip.Addr]string) {
	for _, v := range x.byAge {
		if !v.Address.IsValid() {
			continue
		}
		reason := ""
		switch other, there := taken[v.Address]; {
		case !usable(v.Address):
			reason = "no box can have it"
		case there:
			reason = "it is that of " + other
		case !x.owns(v.Site, v.Address):
			reason = "it is in no allocation of its site"
		}
		if reason != "" {
			x.omit("address of service "+v.Name, "%s: %s", v.Address, reason)
			continue
		}
		taken[v.Address] = "service " + v.Name
		v.places = append(v.places, netip.AddrPortFrom(v.Address, v.Port))
		x.extras[v.Site] = append(x.extras[v.Site], hostPrefix(v.Address))
	}
}

// addMapped puts services where the mappings of their sites put the machines that they are. Of several services at one machine and port
// the oldest is there; the others stay at the box's address, which is no fault.
func (x *builder) addMapped(taken map[netip.Addr]string) {
	placed := map[netip.AddrPort]bool{}
	for _, v := range x.byAge {
		target, err := netip.ParseAddrPort(v.Target)
		if err != nil || target.Port() == 0 {
			continue // a name is nowhere in a plan
		}
		for _, m := range x.mappings[v.Site] {
			a, ok := m.Forward(target.Addr())
			if !ok {
				continue
			}
			if other, there := taken[a]; there {
				x.omit("mapped place of service "+v.Name, "%s is that of %s", a, other)
				continue
			}
			if p := netip.AddrPortFrom(a, target.Port()); !placed[p] {
				placed[p] = true
				v.places = append(v.places, p)
			}
		}
	}
}

// outermost sorts prefixes and leaves out those that lie in others.
func outermost(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range prefixes {
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}
