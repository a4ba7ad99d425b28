package netmap

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Index is a Snapshot with only its sound objects, arranged so that one map costs no walk through the network. It is immutable.
type Index struct {
	s       Snapshot
	overlay []netip.Prefix
	// allocations in use, disjoint, by address.
	allocations []provisioning.Range
	sites       map[provisioning.SiteID]provisioning.Site
	nodes       map[provisioning.NodeID]provisioning.Node
	nodesOf     map[provisioning.SiteID][]provisioning.Node // by address
	services    map[provisioning.ServiceID]provisioning.Service
	byAge       []provisioning.Service         // the sound ones, oldest first
	links       map[provisioning.SiteID][]link // oldest grant first
	// mappings in use, by site: those that stay before those that end, then by mapped prefix.
	mappings map[provisioning.SiteID][]ipam.Mapping
	// places are where a service is besides its port at the box: the one for users to take is first.
	places map[provisioning.ServiceID][]netip.AddrPort
	// extras are what leads to a site besides its nodes' own addresses: disjoint prefixes, sorted.
	extras   map[provisioning.SiteID][]netip.Prefix
	broken   map[provisioning.NodeID]string
	inactive map[provisioning.NodeID]provisioning.NodeState
	// relays are in service, by id; ways are where all relays are reached, the hub last.
	relays    []wire.RelayServer
	ways      []string
	omissions []Omission
}

// link is a sound grant.
type link struct {
	service provisioning.Service
	user    provisioning.SiteID
	lanPort uint16
	created time.Time
}

// NewIndex sorts the sound objects of s from the broken ones.
func NewIndex(s Snapshot) *Index {
	x := &Index{
		s:        s,
		sites:    make(map[provisioning.SiteID]provisioning.Site, len(s.Sites)),
		nodes:    make(map[provisioning.NodeID]provisioning.Node, len(s.Nodes)),
		nodesOf:  make(map[provisioning.SiteID][]provisioning.Node, len(s.Sites)),
		services: make(map[provisioning.ServiceID]provisioning.Service, len(s.Services)),
		links:    make(map[provisioning.SiteID][]link, len(s.Sites)),
		mappings: map[provisioning.SiteID][]ipam.Mapping{},
		places:   map[provisioning.ServiceID][]netip.AddrPort{},
		extras:   map[provisioning.SiteID][]netip.Prefix{},
		broken:   map[provisioning.NodeID]string{},
		inactive: map[provisioning.NodeID]provisioning.NodeState{},
	}
	x.addRanges()
	x.addSites()
	x.addNodes()
	x.addRelays()
	x.addServices()
	x.addPlaces()
	x.addGrants(s.Grants)
	return x
}

// Generation is the Snapshot's.
func (x *Index) Generation() uint64 { return x.s.Generation }

// Nodes returns the sound Nodes that the hub talks to, by address, each at its Address and, if that is not zero, its Former.
func (x *Index) Nodes() []provisioning.Node {
	nodes := make([]provisioning.Node, 0, len(x.nodes))
	for _, n := range x.nodes {
		if n.Kind != wire.Unmanaged {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b provisioning.Node) int { return a.Address.Compare(b.Address) })
	return nodes
}

// Links is how many grants the Site of a Node has a part in: what the size of its map grows with. It is 0 for a Node that is not sound.
func (x *Index) Links(id provisioning.NodeID) int {
	n, ok := x.nodes[id]
	if !ok {
		return 0
	}
	if x.inService(id) {
		return len(x.s.Grants)
	}
	return len(x.links[n.Site])
}

// NodesOf returns the sound Nodes of a Site by address. The caller must not change them.
func (x *Index) NodesOf(id provisioning.SiteID) []provisioning.Node { return x.nodesOf[id] }

// Linked are the Sites that a sound Grant links with one, itself included if it uses something of its own.
func (x *Index) Linked(id provisioning.SiteID) map[provisioning.SiteID]bool {
	out := map[provisioning.SiteID]bool{}
	for _, l := range x.links[id] {
		if l.user == id {
			out[l.service.Site] = true
		} else {
			out[l.user] = true
		}
	}
	return out
}

// Overlay returns all pools of the plan, sorted. The caller must not change it.
func (x *Index) Overlay() []netip.Prefix { return x.overlay }

// Omissions names the objects left out of all maps, in a fixed order.
func (x *Index) Omissions() []Omission { return x.omissions }

func (x *Index) omit(object, format string, a ...any) {
	x.omissions = append(x.omissions, Omission{Object: object, Reason: fmt.Sprintf(format, a...)})
}

func (x *Index) addRanges() {
	for _, r := range x.s.Ranges {
		if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() {
			x.omit(fmt.Sprintf("range %d", r.ID), "%s is not a prefix", r.Prefix)
			continue
		}
		switch {
		case r.Kind == provisioning.RangePool:
			x.overlay = append(x.overlay, r.Prefix)
		case r.Kind == provisioning.RangeAllocation && r.Owner != "": // an end with an owner is yet to come
			x.allocations = append(x.allocations, r)
		}
	}
	slices.SortFunc(x.overlay, netip.Prefix.Compare)
	x.overlay = slices.Compact(x.overlay)
	slices.SortFunc(x.allocations, func(a, b provisioning.Range) int {
		return cmp.Or(a.Prefix.Compare(b.Prefix), cmp.Compare(a.ID, b.ID))
	})
}

// owns reports whether a is in an allocation of the site, and that in a pool.
func (x *Index) owns(site provisioning.SiteID, a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(x.allocations, a, func(r provisioning.Range, a netip.Addr) int {
		return r.Prefix.Addr().Compare(a)
	})
	if !found {
		i--
	}
	if i < 0 || x.allocations[i].Owner != string(site) || !x.allocations[i].Prefix.Contains(a) {
		return false
	}
	return x.inPool(hostPrefix(a))
}

func (x *Index) inPool(q netip.Prefix) bool {
	return slices.ContainsFunc(x.overlay, func(p netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) })
}

func (x *Index) addSites() {
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

func (x *Index) addNodes() {
	keys, next := map[wgkey.PublicKey]int{x.s.Hub.PublicKey: 1}, map[wgkey.PublicKey]int{}
	addrs, formers := map[netip.Addr]int{x.s.Hub.Address: 1}, map[netip.Addr]int{}
	active := make([]provisioning.Node, 0, len(x.s.Nodes))
	for _, n := range x.s.Nodes {
		if n.State != provisioning.NodeActive {
			x.inactive[n.ID] = n.State
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
		if fault := rotationFault(n, keys, next); fault != "" {
			x.omit("key change of node "+string(n.ID), "%s", fault)
			n.Rotate, n.NextKey = "", wgkey.PublicKey{}
		}
		x.nodes[n.ID] = n
		x.nodesOf[n.Site] = append(x.nodesOf[n.Site], n)
	}
	for _, nodes := range x.nodesOf {
		slices.SortFunc(nodes, func(a, b provisioning.Node) int { return a.Address.Compare(b.Address) })
	}
}

// usable reports whether a is one that a device takes as its own.
func usable(a netip.Addr) bool { return a.IsValid() && !a.Is4In6() && a.Zone() == "" }

// front is the node of a site that stands for all of it: its first gateway by address. The services' own addresses and the mapped prefixes
// lead to it alone, since WireGuard gives a prefix to one peer.
func (x *Index) front(site provisioning.SiteID) (provisioning.Node, bool) {
	for _, n := range x.nodesOf[site] {
		if n.Kind == wire.Gateway {
			return n, true
		}
	}
	return provisioning.Node{}, false
}

// addGrants adds all grants, or all of some users: no grant of one user decides about one of another.
func (x *Index) addGrants(grants []provisioning.Grant) {
	grants = slices.Clone(grants)
	slices.SortFunc(grants, func(a, b provisioning.Grant) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Site, b.Site))
	})
	taken := map[provisioning.SiteID]doors{}
	granted := map[provisioning.Grant]bool{}
	for _, g := range grants {
		v, known := x.services[g.Service]
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
			l := link{service: v, user: user.ID, lanPort: g.LANPort, created: g.Created}
			x.links[user.ID] = append(x.links[user.ID], l)
			if owner.ID != user.ID {
				x.links[owner.ID] = append(x.links[owner.ID], l)
			}
			granted[pair] = true
		}
	}
}
