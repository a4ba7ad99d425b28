package netmap

import (
	"reflect"
	"slices"
	"time"

	"github.com/towpath/towpath/provisioning"
)

// Touched names the Nodes whose maps may differ between two pictures, without compiling any; all means that it may be every one. It is in
// proportion to the network's size, and to the links of what changed.
func (x *Index) Touched(old *Index) (nodes map[provisioning.NodeID]bool, all bool) {
	a, b := old.s, x.s
	if a.Network != b.Network || !reflect.DeepEqual(a.Hub, b.Hub) || !slices.Equal(old.overlay, x.overlay) || !slices.Equal(old.omissions, x.omissions) {
		// What one broken object does to others is nobody's business here.
		return nil, true
	}
	t := touched{old: old, x: x, sites: map[provisioning.SiteID]bool{}, around: map[provisioning.SiteID]bool{}}
	t.grants()
	different(a.Sites, b.Sites, func(s provisioning.Site) provisioning.SiteID { return s.ID }, func(s provisioning.Site) { t.around[s.ID] = true })
	different(a.Services, b.Services, func(v provisioning.Service) provisioning.ServiceID { return v.ID }, func(v provisioning.Service) {
		t.around[v.Site] = true
	})
	different(a.Ranges, b.Ranges, func(r provisioning.Range) int64 { return r.ID }, func(r provisioning.Range) {
		t.around[provisioning.SiteID(r.Owner)] = true
	})
	different(planned(a.Nodes), planned(b.Nodes), func(n provisioning.Node) provisioning.NodeID { return n.ID }, func(n provisioning.Node) {
		t.around[n.Site] = true
	})
	return t.nodes(), false
}

// touched collects sites.
type touched struct {
	old, x *Index
	// sites are those whose own maps may differ, around those that are seen by all that are linked with them.
	sites, around map[provisioning.SiteID]bool
}

// grants touches the two sites of each that is not in both pictures: it is not seen from a third.
func (t *touched) grants() {
	owners := map[provisioning.ServiceID][]provisioning.SiteID{}
	for _, x := range []*Index{t.old, t.x} {
		for _, v := range x.s.Services {
			owners[v.ID] = append(owners[v.ID], v.Site)
		}
	}
	type pair struct {
		service provisioning.ServiceID
		site    provisioning.SiteID
	}
	different(t.old.s.Grants, t.x.s.Grants, func(g provisioning.Grant) pair { return pair{g.Service, g.Site} }, func(g provisioning.Grant) {
		t.sites[g.Site] = true
		for _, owner := range owners[g.Service] {
			t.sites[owner] = true
		}
	})
}

func (t *touched) nodes() map[provisioning.NodeID]bool {
	nodes := map[provisioning.NodeID]bool{}
	for _, x := range []*Index{t.old, t.x} {
		for id := range t.around {
			t.sites[id] = true
			for _, l := range x.links[id] {
				t.sites[l.other(id)] = true
			}
		}
	}
	for _, x := range []*Index{t.old, t.x} {
		for id := range t.sites {
			for _, n := range x.nodesOf[id] {
				nodes[n.ID] = true
			}
		}
	}
	return nodes
}

// planned is nodes without what they report of themselves, which is in no map.
func planned(nodes []provisioning.Node) []provisioning.Node {
	nodes = slices.Clone(nodes)
	for i := range nodes {
		n := &nodes[i]
		n.Facts.LANs, n.LastSeen, n.Applied, n.ApplyError, n.Conditions, n.Queues = nil, time.Time{}, 0, "", nil, nil
	}
	return nodes
}

// different calls touch with both forms of everything that is not the same in a and b.
func different[T any, K comparable](a, b []T, key func(T) K, touch func(T)) {
	before := make(map[K]T, len(a))
	for _, v := range a {
		before[key(v)] = v
	}
	for _, v := range b {
		k := key(v)
		if was, known := before[k]; known {
			delete(before, k)
			if reflect.DeepEqual(was, v) {
				continue
			}
			touch(was)
		}
		touch(v)
	}
	for _, v := range before {
		touch(v)
	}
}
