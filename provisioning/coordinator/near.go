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
func (p *publisher) near(x *netmap.Index, s netmap.Snapshot, step *netStep) (d prove.Delta, affected []string, ok bool) {
	if step == nil || p.index == nil || len(p.index.Omissions()) > 0 || len(x.Omissions()) > 0 || !x.SameRelays(p.index) {
		return d, nil, false
	}
	v := vicinity{
		step: step, named: map[provisioning.SiteID]bool{}, sites: map[provisioning.SiteID]bool{}, around: map[provisioning.SiteID]bool{},
		services: map[provisioning.ServiceID]bool{}, nodes: map[provisioning.NodeID]bool{},
	}
	for k := range step.grants {
		v.named[k.site], v.services[k.service] = true, true
	}
	if !v.look(p.snapshot) || !v.look(s) || !v.sameSites(p.snapshot) {
		return d, nil, false
	}
	d = prove.Between(v.part(p.index, p.snapshot), v.part(x, s))
	return d, v.affected(p.index, x), true
}

// vicinity is what a step touches.
type vicinity struct {
	step *netStep
	// sites have something that changed. Those of around are seen by all that grants link with them; those that are only named, and their
	// services, are there to give changed grants their names.
	sites, around, named map[provisioning.SiteID]bool
	services             map[provisioning.ServiceID]bool
	// nodes changed.
	nodes map[provisioning.NodeID]bool
}

// look notes what is in one of the two snapshots. It reports false for what is in all maps.
func (v *vicinity) look(s netmap.Snapshot) bool {
	for _, r := range s.Ranges {
		if _, changed := v.step.ranges[r.ID]; !changed {
			continue
		}
		if r.Kind == provisioning.RangePool {
			return false
		}
		site := provisioning.SiteID(r.Owner)
		v.sites[site] = true
		if r.Kind == provisioning.RangeAllocation {
			v.around[site] = true
		}
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if _, changed := v.step.nodes[n.ID]; !changed {
			continue
		}
		v.sites[n.Site], v.nodes[n.ID] = true, true
		if n.Kind != wire.Relay {
			v.around[n.Site] = true
		}
	}
	for i := range s.Services {
		o := &s.Services[i]
		if _, changed := v.step.services[o.ID]; changed {
			v.sites[o.Site], v.around[o.Site] = true, true
		}
		if v.services[o.ID] {
			v.named[o.Site] = true
		}
	}
	for id := range v.step.sites {
		v.sites[id], v.around[id] = true, true
	}
	return true
}

// sameSites reports whether the sites that were there before have the names and kinds that they had.
func (v *vicinity) sameSites(before netmap.Snapshot) bool {
	if len(v.step.sites) == 0 {
		return true
	}
	return !slices.ContainsFunc(before.Sites, func(was provisioning.Site) bool {
		is := v.step.sites[was.ID]
		return is != nil && (is.Name != was.Name || is.Kind != was.Kind)
	})
}

// part is the vicinity in the words of a proof.
func (v *vicinity) part(x *netmap.Index, s netmap.Snapshot) prove.Input {
	var hub []provisioning.Node
	for id := range v.sites {
		for _, n := range x.NodesOf(id) {
			if n.Kind != wire.Unmanaged {
				hub = append(hub, n)
			}
		}
	}
	s.Sites = only(s.Sites, func(o *provisioning.Site) bool { return v.sites[o.ID] || v.named[o.ID] })
	s.Nodes = only(s.Nodes, func(n *provisioning.Node) bool { return v.sites[n.Site] })
	s.Services = only(s.Services, func(o *provisioning.Service) bool { return v.sites[o.Site] || v.services[o.ID] })
	s.Grants = only(s.Grants, func(g *provisioning.Grant) bool {
		_, changed := v.step.grants[grantID{g.Service, g.Site}]
		return changed
	})
	s.Ranges = only(s.Ranges, func(r *provisioning.Range) bool {
		_, changed := v.step.ranges[r.ID]
		return changed || v.sites[provisioning.SiteID(r.Owner)]
	})
	return prove.Export(s, hub)
}

func only[T any](list []T, is func(*T) bool) []T {
	var out []T
	for i := range list {
		if is(&list[i]) {
			out = append(out, list[i])
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
		sites[k.site] = true
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
