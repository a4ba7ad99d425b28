package netmap

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// builder sorts the sound objects of a Snapshot from the broken ones.
type builder struct {
	s       Snapshot
	overlay []netip.Prefix
	// allocations in use, by prefix, and by owner.
	allocations []*provisioning.Range
	own         map[string][]*provisioning.Range
	sites       map[provisioning.SiteID]provisioning.Site
	nodes       map[provisioning.NodeID]*provisioning.Node
	nodesOf     map[provisioning.SiteID][]*provisioning.Node // by address
	services    map[provisioning.ServiceID]*service
	byAge       []*service // the sound ones, oldest first
	uses        map[provisioning.SiteID][]use
	mappings    map[provisioning.SiteID][]ipam.Mapping
	extras      map[provisioning.SiteID][]netip.Prefix
	broken      map[provisioning.NodeID]string
	inactive    map[provisioning.NodeID]*provisioning.Node
	omissions   []Omission
	// odd is set for what no database holds and Change cannot follow: allocations that overlap, things without a site, or twice.
	odd bool
}

// NewIndex sorts the sound objects of s from the broken ones.
func NewIndex(s Snapshot) *Index {
	x := &builder{
		s:        s,
		own:      make(map[string][]*provisioning.Range, len(s.Sites)),
		sites:    make(map[provisioning.SiteID]provisioning.Site, len(s.Sites)),
		nodes:    make(map[provisioning.NodeID]*provisioning.Node, len(s.Nodes)),
		nodesOf:  make(map[provisioning.SiteID][]*provisioning.Node, len(s.Sites)),
		services: make(map[provisioning.ServiceID]*service, len(s.Services)),
		uses:     make(map[provisioning.SiteID][]use, len(s.Sites)),
		mappings: map[provisioning.SiteID][]ipam.Mapping{},
		extras:   map[provisioning.SiteID][]netip.Prefix{},
		broken:   map[provisioning.NodeID]string{},
		inactive: map[provisioning.NodeID]*provisioning.Node{},
	}
	x.addRanges()
	x.addSites()
	x.addNodes()
	x.addServices()
	x.addPlaces()
	x.addGrants()
	return x.index()
}

// index is what was built.
func (x *builder) index() *Index {
	out := &Index{s: x.s, overlay: x.overlay, allocations: x.allocations, broken: x.broken, omissions: x.omissions}
	for owner, list := range x.own {
		out.own.load(owner, list)
	}
	for id, v := range x.sites {
		out.sites.load(id, &site{Site: v, nodes: x.nodesOf[id], uses: x.uses[id], mappings: x.mappings[id], extras: x.extras[id]})
	}
	for id, n := range x.nodes {
		out.nodes.load(id, n)
	}
	for id, n := range x.inactive {
		out.inactive.load(id, n)
	}
	for _, v := range x.byAge {
		out.services.load(v.ID, v)
		if home, ok := out.sites.get(v.Site); ok {
			home.services = append(home.services, v.ID)
		} else {
			x.odd = true
		}
	}
	for _, r := range x.s.Ranges {
		out.ranges.load(r.ID, &r)
	}
	var relays []wire.RelayServer
	for _, home := range out.sites.all() {
		relays = append(relays, home.relays()...)
	}
	out.takeRelays(relays)
	for i := 1; i < len(x.allocations); i++ {
		x.odd = x.odd || x.allocations[i-1].Prefix.Overlaps(x.allocations[i].Prefix)
	}
	x.odd = x.odd || out.sites.len() != len(x.s.Sites) || out.nodes.len()+out.inactive.len() != len(x.s.Nodes) ||
		out.services.len() != len(x.s.Services) || out.ranges.len() != len(x.s.Ranges)
	if len(x.omissions) == 0 && !x.odd {
		out.s.Sites, out.s.Nodes, out.s.Services, out.s.Grants, out.s.Ranges = nil, nil, nil, nil, nil
		out.claimAll()
	}
	return out
}

func (x *builder) omit(object, format string, a ...any) {
	x.omissions = append(x.omissions, Omission{Object: object, Reason: fmt.Sprintf(format, a...)})
}

func byPrefix(a, b *provisioning.Range) int {
	return cmp.Or(a.Prefix.Compare(b.Prefix), cmp.Compare(a.ID, b.ID))
}

func byAddress(a, b *provisioning.Node) int { return a.Address.Compare(b.Address) }

// owns reports whether a is in one of some allocations, and that in a pool.
func owns(own []*provisioning.Range, pools []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(own, func(r *provisioning.Range) bool { return r.Prefix.Contains(a) }) && inPool(pools, hostPrefix(a))
}

func inPool(pools []netip.Prefix, q netip.Prefix) bool {
	return slices.ContainsFunc(pools, func(p netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) })
}

func (x *builder) addRanges() {
	for _, r := range x.s.Ranges {
		if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() {
			x.omit(fmt.Sprintf("range %d", r.ID), "%s is not a prefix", r.Prefix)
			continue
		}
		switch {
		case r.Kind == provisioning.RangePool:
			x.overlay = append(x.overlay, r.Prefix)
		case r.Kind == provisioning.RangeAllocation && r.Owner != "": // an end with an owner is yet to come
			x.allocations = append(x.allocations, &r)
		}
	}
	slices.SortFunc(x.overlay, netip.Prefix.Compare)
	x.overlay = slices.Compact(x.overlay)
	slices.SortFunc(x.allocations, byPrefix)
	for _, r := range x.allocations {
		x.own[r.Owner] = append(x.own[r.Owner], r)
	}
}

func (x *builder) owns(site provisioning.SiteID, a netip.Addr) bool {
	return owns(x.own[string(site)], x.overlay, a)
}

func (x *builder) addSites() {
	named := map[string]int{}
	for _, s := range x.s.Sites {
		named[s.Name]++
	}
	for _, s := range x.s.Sites {
		switch {
		case s.ID == "" || s.Name == "":
			x.omit("site "+string(s.ID), "it has no id or no name")
		case named[s.Name] > 1:
			x.omit("site "+string(s.ID), "another site has the name %s, too", s.Name)
		case s.Kind != wire.Clinic && s.Kind != wire.Center:
			x.omit("site "+s.Name, "its kind is %q", s.Kind)
		default:
			x.sites[s.ID] = s
		}
	}
}

func (x *builder) addNodes() {
	keys, next := map[wgkey.PublicKey]int{x.s.Hub.PublicKey: 1}, map[wgkey.PublicKey]int{}
	addrs, formers := map[netip.Addr]int{x.s.Hub.Address: 1}, map[netip.Addr]int{}
	active := make([]provisioning.Node, 0, len(x.s.Nodes))
	for _, n := range x.s.Nodes {
		if n.State != provisioning.NodeActive {
			x.inactive[n.ID] = &n
			continue
		}
		active = append(active, n)
		keys[n.PublicKey]++
		next[n.NextKey]++
		addrs[n.Address]++
		formers[n.Former]++
	}
	for _, n := range active {
		reason := ""
		switch _, there := x.sites[n.Site]; {
		case !there:
			reason = fmt.Sprintf("its site %s is missing or broken", n.Site)
		case !known(n.Kind):
			reason = fmt.Sprintf("its kind is %q", n.Kind)
		case n.PublicKey.IsZero():
			reason = "it has no key"
		case keys[n.PublicKey] > 1:
			reason = "its key is not its own alone"
		case !usable(n.Address):
			reason = "it has no usable address"
		case addrs[n.Address] > 1:
			reason = fmt.Sprintf("its address %s is not its own alone", n.Address)
		case !x.owns(n.Site, n.Address):
			reason = fmt.Sprintf("its address %s is in no allocation of its site", n.Address)
		}
		if reason != "" {
			x.broken[n.ID] = reason
			x.omit("node "+string(n.ID), "%s", reason)
			continue
		}
		if n.Former.IsValid() && (!usable(n.Former) || addrs[n.Former] > 0 || formers[n.Former] > 1 || !x.owns(n.Site, n.Former)) {
			x.omit("former address of node "+string(n.ID), "%s is in no allocation of its site, or not its own alone", n.Former)
			n.Former = netip.Addr{}
		}
		// Who names a key of another as its next one harms only itself.
		if fault := rotationFault(n, keys[n.NextKey] > 0 || next[n.NextKey] > 1); fault != "" {
			x.omit("key change of node "+string(n.ID), "%s", fault)
			n.Rotate, n.NextKey = "", wgkey.PublicKey{}
		}
		x.nodes[n.ID] = &n
		x.nodesOf[n.Site] = append(x.nodesOf[n.Site], &n)
	}
	for _, nodes := range x.nodesOf {
		slices.SortFunc(nodes, byAddress)
	}
}

// usable reports whether a is one that a device takes as its own.
func usable(a netip.Addr) bool { return a.IsValid() && !a.Is4In6() && a.Zone() == "" }

func (x *builder) addGrants() {
	grants := slices.Clone(x.s.Grants)
	slices.SortFunc(grants, func(a, b provisioning.Grant) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Site, b.Site))
	})
	taken := map[provisioning.SiteID]doors{}
	granted := map[provisioning.Grant]bool{}
	for _, g := range grants {
		var v provisioning.Service
		o, known := x.services[g.Service]
		if known {
			v = o.Service
		}
		user, userKnown := x.sites[g.Site]
		owner, ownerKnown := x.sites[v.Site]
		object := fmt.Sprintf("grant of %s to %s", cmp.Or(v.Name, string(g.Service)), cmp.Or(user.Name, string(g.Site)))
		if taken[user.ID] == nil {
			taken[user.ID] = doors{}
		}
		pair := provisioning.Grant{Service: g.Service, Site: g.Site}
		switch {
		case !known || !ownerKnown:
			x.omit(object, "its service is missing or broken")
		case !userKnown:
			x.omit(object, "its site is missing or broken")
		case granted[pair]:
			x.omit(object, "it is there twice")
		case owner.ID != user.ID && owner.Kind == wire.Clinic && user.Kind == wire.Clinic:
			x.omit(object, "two clinics never meet")
		case g.LANPort == 0:
			x.omit(object, "it has no port")
		case !taken[user.ID].enter(NewDoor(v, g.LANPort)):
			x.omit(object, "an older grant has the same way in at port %d", g.LANPort)
		default:
			x.uses[user.ID] = append(x.uses[user.ID], use{service: v.ID, lanPort: g.LANPort, poll: g.Poll, created: g.Created})
			o.users.load(user.ID, g)
			granted[pair] = true
		}
	}
}
