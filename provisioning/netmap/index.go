package netmap

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Index is a Snapshot with only its sound objects, arranged so that one map costs no walk through the network, and one change neither. It
// is immutable: Change makes another one, which shares with it all that has not changed.
type Index struct {
	// s is without its lists where Change can follow.
	s       Snapshot
	overlay []netip.Prefix
	// allocations in use, by prefix; own are those of each owner.
	allocations []*provisioning.Range
	own         table[string, []*provisioning.Range]
	ranges      table[int64, *provisioning.Range]
	sites       table[provisioning.SiteID, *site]
	nodes       table[provisioning.NodeID, *provisioning.Node]
	inactive    table[provisioning.NodeID, *provisioning.Node]
	services    table[provisioning.ServiceID, *service]
	claims      claims
	broken      map[provisioning.NodeID]string
	// relays are in service, by id; ways are where all relays are reached, the hub last.
	relays    []wire.RelayServer
	ways      []string
	omissions []Omission
}

// site is a sound Site with all that is sound there.
type site struct {
	provisioning.Site
	nodes    []*provisioning.Node     // by address
	services []provisioning.ServiceID // oldest first
	uses     []use                    // oldest grant first
	// mappings in use: those that stay before those that end, then by mapped prefix.
	mappings []ipam.Mapping
	// extras are what leads to the site besides its nodes' own addresses: disjoint prefixes, sorted.
	extras []netip.Prefix
}

// service is a sound Service.
type service struct {
	provisioning.Service
	// places are where it is besides its port at the box: the one for users to take is first.
	places []netip.AddrPort
	// users have the sound grants of it.
	users table[provisioning.SiteID, provisioning.Grant]
}

// use is a sound grant, as its user sees it.
type use struct {
	service provisioning.ServiceID
	lanPort uint16
	poll    wire.PollOptions
	created time.Time
}

func byAge(a, b use) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.service, b.service))
}

// Generation is the Snapshot's.
func (x *Index) Generation() uint64 { return x.s.Generation }

// Nodes returns the sound Nodes that the hub talks to, by address, each at its Address and, if that is not zero, its Former.
func (x *Index) Nodes() []provisioning.Node {
	nodes := make([]provisioning.Node, 0, x.nodes.len())
	for _, n := range x.nodes.all() {
		if n.Kind != wire.Unmanaged {
			nodes = append(nodes, *n)
		}
	}
	slices.SortFunc(nodes, func(a, b provisioning.Node) int { return a.Address.Compare(b.Address) })
	return nodes
}

// HubNode returns a Node that Nodes has.
func (x *Index) HubNode(id provisioning.NodeID) (provisioning.Node, bool) {
	n, ok := x.nodes.get(id)
	if !ok || n.Kind == wire.Unmanaged {
		return provisioning.Node{}, false
	}
	return *n, true
}

// Links is how many grants the Site of a Node has a part in, and all for a relay in service: what the size of its map grows with. It is 0
// for a Node that is not sound.
func (x *Index) Links(id provisioning.NodeID) int {
	n, ok := x.nodes.get(id)
	if !ok {
		return 0
	}
	if x.inService(id) {
		return x.granted()
	}
	home, _ := x.sites.get(n.Site)
	links := len(home.uses)
	for v := range x.offered(home) {
		links += v.users.len()
		if v.users.has(home.ID) {
			links--
		}
	}
	return links
}

// NodesOf returns the sound Nodes of a Site by address. The caller must not change them.
func (x *Index) NodesOf(id provisioning.SiteID) []*provisioning.Node {
	if home, ok := x.sites.get(id); ok {
		return home.nodes
	}
	return nil
}

// Linked are the Sites that a sound Grant links with one, itself included if it uses something of its own.
func (x *Index) Linked(id provisioning.SiteID) map[provisioning.SiteID]bool {
	out := map[provisioning.SiteID]bool{}
	home, ok := x.sites.get(id)
	if !ok {
		return out
	}
	for _, u := range home.uses {
		v, _ := x.services.get(u.service)
		out[v.Site] = true
	}
	for v := range x.offered(home) {
		for user := range v.users.all() {
			out[user] = true
		}
	}
	return out
}

// offered are the services of a site, oldest first.
func (x *Index) offered(home *site) func(func(*service) bool) {
	return func(yield func(*service) bool) {
		for _, id := range home.services {
			if v, ok := x.services.get(id); ok && !yield(v) {
				return
			}
		}
	}
}

// Overlay returns all pools of the plan, sorted. The caller must not change it.
func (x *Index) Overlay() []netip.Prefix { return x.overlay }

// Omissions names the objects left out of all maps, in a fixed order.
func (x *Index) Omissions() []Omission { return x.omissions }

// Sound reports whether nothing is broken, so that no object decides what becomes of another one far away.
func (x *Index) Sound() bool { return x.claims.complete }

// Head is Snapshot without its lists.
func (x *Index) Head() Snapshot {
	return Snapshot{Network: x.s.Network, Generation: x.s.Generation, Now: x.s.Now, Expires: x.s.Expires, Hub: x.s.Hub, HubRelay: x.s.HubRelay, PairKeys: x.s.PairKeys}
}

// Snapshot is what the Index was made of. Its lists have another order if it is Sound.
func (x *Index) Snapshot() Snapshot {
	if !x.Sound() {
		return x.s
	}
	s := x.s
	for _, v := range x.sites.all() {
		s.Sites = append(s.Sites, v.Site)
		for _, u := range v.uses {
			s.Grants = append(s.Grants, provisioning.Grant{Service: u.service, Site: v.ID, LANPort: u.lanPort, Poll: u.poll, Created: u.created})
		}
	}
	for _, nodes := range []table[provisioning.NodeID, *provisioning.Node]{x.nodes, x.inactive} {
		for _, n := range nodes.all() {
			s.Nodes = append(s.Nodes, *n)
		}
	}
	for _, v := range x.services.all() {
		s.Services = append(s.Services, v.Service)
	}
	for _, r := range x.ranges.all() {
		s.Ranges = append(s.Ranges, *r)
	}
	slices.SortFunc(s.Sites, func(a, b provisioning.Site) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Nodes, func(a, b provisioning.Node) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Services, func(a, b provisioning.Service) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Grants, func(a, b provisioning.Grant) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Site, b.Site))
	})
	slices.SortFunc(s.Ranges, func(a, b provisioning.Range) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

// claims are what only one may have, by who has it: of a Sound Index only.
type claims struct {
	complete bool
	// keys are of nodes, next those they change to, hosts addresses of nodes and services; the hub's are in none.
	keys, next table[wgkey.PublicKey, provisioning.NodeID]
	hosts      table[netip.Addr, bool]
	// names are of sites, titles of services.
	names  table[string, provisioning.SiteID]
	titles table[string, provisioning.ServiceID]
}

// claimAll notes all claims of a sound network.
func (x *Index) claimAll() {
	c := &x.claims
	c.complete = true
	for id, n := range x.nodes.all() {
		c.keys.load(n.PublicKey, id)
		if !n.NextKey.IsZero() {
			c.next.load(n.NextKey, id)
		}
		c.hosts.load(n.Address, true)
		if n.Former.IsValid() {
			c.hosts.load(n.Former, true)
		}
	}
	for id, v := range x.sites.all() {
		c.names.load(v.Name, id)
	}
	for id, v := range x.services.all() {
		c.titles.load(v.Name, id)
		if v.Address.IsValid() {
			c.hosts.load(v.Address, true)
		}
	}
}
