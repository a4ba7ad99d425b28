package coordinator

import (
	"maps"
	"slices"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
)

// near is what a step does to the proof, found without a look at the rest of the network. It is not ok where one object may decide what
// becomes of another one far away: when something is broken, when a pool or a site's name or kind changes.
func (p *publisher) near(x *netmap.Index, step *netStep) (d prove.Delta, affected []string, ok bool) {
	if step == nil || p.index == nil || !p.index.Sound() || !x.Sound() || !x.SameRelays(p.index) {
		return d, nil, false
	}
	v := newVicinity(p.index, step)
	if !v.look() {
		return d, nil, false
	}
	// What changed is taken from the step, not from the index: what that has lost is in the proof all the same.
	before := v.part()
	d = prove.Between(prove.Export(before, v.hub(p.index)), prove.Export(before.With(step.change()), v.hub(x)))
	return d, v.affected(p.index, x), true
}

// vicinity is what a step touches.
type vicinity struct {
	before *netmap.Index
	step   *netStep
	// sites have something that changed. Those of around are seen by all that grants link with them; those that are only named, and their
	// services, are there to give changed grants their names.
	sites, around, named map[provisioning.SiteID]bool
	services             map[provisioning.ServiceID]bool
	// nodes changed.
	nodes map[provisioning.NodeID]bool
}

func newVicinity(before *netmap.Index, step *netStep) *vicinity {
	return &vicinity{
		before: before, step: step, named: map[provisioning.SiteID]bool{}, sites: map[provisioning.SiteID]bool{},
		around: map[provisioning.SiteID]bool{}, services: map[provisioning.ServiceID]bool{}, nodes: map[provisioning.NodeID]bool{},
	}
}

// look notes what was and is. It reports false for what is in all maps, and for a site that has another name or kind.
func (v *vicinity) look() bool {
	for id, is := range v.step.ranges {
		if was, ok := v.before.Range(id); ok && !v.lookRange(was) || is != nil && !v.lookRange(*is) {
			return false
		}
	}
	for id, is := range v.step.nodes {
		v.nodes[id] = true
		if was, ok := v.before.Node(id); ok {
			v.lookNode(was)
		}
		if is != nil {
			v.lookNode(*is)
		}
	}
	for id, is := range v.step.services {
		if was, ok := v.before.Service(id); ok {
			v.sites[was.Site], v.around[was.Site] = true, true
		}
		if is != nil {
			v.sites[is.Site], v.around[is.Site] = true, true
		}
	}
	for k := range v.step.grants {
		v.named[k.Site], v.services[k.Service] = true, true
		if was, ok := v.before.Service(k.Service); ok {
			v.named[was.Site] = true
		}
		if is := v.step.services[k.Service]; is != nil {
			v.named[is.Site] = true
		}
	}
	for id, is := range v.step.sites {
		v.sites[id], v.around[id] = true, true
		if was, ok := v.before.Site(id); ok && is != nil && (is.Name != was.Name || is.Kind != was.Kind) {
			return false
		}
	}
	return true
}

func (v *vicinity) lookRange(r provisioning.Range) bool {
	site := provisioning.SiteID(r.Owner)
	v.sites[site] = true
	if r.Kind == provisioning.RangeAllocation {
		v.around[site] = true
	}
	return r.Kind != provisioning.RangePool
}

func (v *vicinity) lookNode(n provisioning.Node) {
	v.sites[n.Site] = true
	if n.Kind != wire.Relay {
		v.around[n.Site] = true
	}
}

// part is the vicinity before the step.
func (v *vicinity) part() netmap.Snapshot {
	s := v.before.Head()
	sites := maps.Clone(v.sites)
	maps.Copy(sites, v.named)
	for id := range sites {
		if site, ok := v.before.Site(id); ok {
			s.Sites = append(s.Sites, site)
		}
	}
	services := maps.Clone(v.services)
	for id := range v.sites {
		for _, n := range v.before.NodesOf(id) {
			s.Nodes = append(s.Nodes, *n)
		}
		for _, o := range v.before.ServicesOf(id) {
			services[o.ID] = true
		}
	}
	for id := range v.step.nodes {
		if n, ok := v.before.Node(id); ok && n.State != provisioning.NodeActive {
			s.Nodes = append(s.Nodes, n)
		}
	}
	for id := range services {
		if o, ok := v.before.Service(id); ok {
			s.Services = append(s.Services, o)
		}
	}
	for k := range v.step.grants {
		if g, ok := v.before.Grant(k); ok {
			s.Grants = append(s.Grants, g)
		}
	}
	s.Ranges = v.ranges()
	return s
}

// ranges are those that changed, and the allocations of all sites that have something that changed.
func (v *vicinity) ranges() []provisioning.Range {
	var out []provisioning.Range
	for id := range v.step.ranges {
		if r, ok := v.before.Range(id); ok {
			out = append(out, r)
		}
	}
	for id := range v.sites {
		for _, r := range v.before.AllocationsOf(string(id)) {
			if _, changed := v.step.ranges[r.ID]; !changed {
				out = append(out, *r)
			}
		}
	}
	return out
}

// hub are the nodes of the vicinity that the hub is told.
func (v *vicinity) hub(x *netmap.Index) []provisioning.Node {
	var out []provisioning.Node
	for id := range v.sites {
		for _, n := range x.NodesOf(id) {
			if n.Kind != wire.Unmanaged {
				out = append(out, *n)
			}
		}
	}
	return out
}

// affected are the nodes whose maps may differ, as prove.Affected has them.
func (v *vicinity) affected(indexes ...*netmap.Index) []string {
	sites := maps.Clone(v.around)
	for _, x := range indexes {
		for id := range v.around {
			for other := range x.Linked(id) {
				sites[other] = true
			}
		}
	}
	for k := range v.step.grants {
		sites[k.Site] = true
	}
	for id := range v.named {
		sites[id] = true // the owner of a service whose grant changed
	}
	out := map[string]bool{}
	for id := range v.nodes {
		out[string(id)] = true
	}
	for _, x := range indexes {
		for _, r := range x.Relays() {
			out[r.Node] = true // who meets through it may be others
		}
		for id := range sites {
			for _, n := range x.NodesOf(id) {
				out[string(n.ID)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(out))
}
