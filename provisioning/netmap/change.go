package netmap

import (
	"cmp"
	"slices"

	"github.com/towpath/towpath/provisioning"
)

// GrantID is what a Grant is known by.
type GrantID struct {
	Service provisioning.ServiceID
	Site    provisioning.SiteID
}

// Change leads from one Snapshot to the next: rows as they are then, nil for one that is gone.
type Change struct {
	Generation uint64
	Sites      map[provisioning.SiteID]*provisioning.Site
	Nodes      map[provisioning.NodeID]*provisioning.Node
	Services   map[provisioning.ServiceID]*provisioning.Service
	Grants     map[GrantID]*provisioning.Grant
	Ranges     map[int64]*provisioning.Range
}

// With is s after a Change.
func (s Snapshot) With(c Change) Snapshot {
	s.Generation = c.Generation
	s.Sites = replaced(s.Sites, c.Sites, func(v provisioning.Site) provisioning.SiteID { return v.ID })
	s.Nodes = replaced(s.Nodes, c.Nodes, func(v provisioning.Node) provisioning.NodeID { return v.ID })
	s.Services = replaced(s.Services, c.Services, func(v provisioning.Service) provisioning.ServiceID { return v.ID })
	s.Grants = replaced(s.Grants, c.Grants, func(v provisioning.Grant) GrantID { return GrantID{v.Service, v.Site} })
	s.Ranges = replaced(s.Ranges, c.Ranges, func(v provisioning.Range) int64 { return v.ID })
	return s
}

// replaced is a list with changed rows where they were, and new ones at its end.
func replaced[K comparable, V any](list []V, rows map[K]*V, key func(V) K) []V {
	if len(rows) == 0 {
		return list
	}
	out := make([]V, 0, len(list)+len(rows))
	found := make(map[K]bool, len(rows))
	for i := range list {
		k := key(list[i])
		v, changed := rows[k]
		switch {
		case !changed:
			out = append(out, list[i])
		case v != nil:
			out = append(out, *v)
		}
		if changed {
			found[k] = true
		}
	}
	for k, v := range rows {
		if v != nil && !found[k] {
			out = append(out, *v)
		}
	}
	return out
}

// Change returns what NewIndex makes of the Snapshot after a Change. Between two Sound networks, and but for changes of pools and of the
// names and kinds of sites, it costs what has changed and the sites where that is, and nothing for all others.
func (x *Index) Change(c Change) *Index {
	if x.Sound() {
		e := newEditor(x, c)
		if e.ranges() && e.renamed() && e.nodes() && e.services() && e.grants() && e.settle() {
			return e.x
		}
	}
	return NewIndex(x.Snapshot().With(c))
}

// Site returns one that is sound.
func (x *Index) Site(id provisioning.SiteID) (v provisioning.Site, ok bool) {
	home, ok := x.sites.get(id)
	if ok {
		v = home.Site
	}
	return v, ok
}

// Node returns one that is sound, or takes no part.
func (x *Index) Node(id provisioning.NodeID) (v provisioning.Node, ok bool) {
	n, ok := x.nodes.get(id)
	if !ok {
		n, ok = x.inactive.get(id)
	}
	if ok {
		v = *n
	}
	return v, ok
}

// Service returns one that is sound.
func (x *Index) Service(id provisioning.ServiceID) (v provisioning.Service, ok bool) {
	s, ok := x.services.get(id)
	if ok {
		v = s.Service
	}
	return v, ok
}

// ServicesOf returns the sound Services of a Site.
func (x *Index) ServicesOf(id provisioning.SiteID) []provisioning.Service {
	home, ok := x.sites.get(id)
	if !ok {
		return nil
	}
	var out []provisioning.Service
	for v := range x.offered(home) {
		out = append(out, v.Service)
	}
	return out
}

// Grant returns one that is sound.
func (x *Index) Grant(id GrantID) (v provisioning.Grant, ok bool) {
	s, ok := x.services.get(id.Service)
	if ok {
		v, ok = s.users.get(id.Site)
	}
	return v, ok
}

// Range returns one of any kind.
func (x *Index) Range(id int64) (v provisioning.Range, ok bool) {
	r, ok := x.ranges.get(id)
	if ok {
		v = *r
	}
	return v, ok
}

// AllocationsOf returns those in use of a Site, or of "hub". The caller must not change them.
func (x *Index) AllocationsOf(owner string) []*provisioning.Range {
	list, _ := x.own.get(owner)
	return list
}

// insert puts v into a copy of a sorted list.
func insert[V any](list []V, v V, compare func(a, b V) int) []V {
	at, _ := slices.BinarySearchFunc(list, v, compare)
	out := make([]V, 0, len(list)+1)
	return append(append(append(out, list[:at]...), v), list[at:]...)
}

// remove is a copy of a sorted list without v, which is in it.
func remove[V any](list []V, v V, compare func(a, b V) int) []V {
	at, _ := slices.BinarySearchFunc(list, v, compare)
	out := make([]V, 0, len(list)-1)
	return append(append(out, list[:at]...), list[at+1:]...)
}

// drop is a copy of a list without what matches, nil if nothing is left.
func drop[V any](list []V, is func(V) bool) []V {
	var out []V
	for _, v := range list {
		if !is(v) {
			out = append(out, v)
		}
	}
	return out
}

func (e *editor) older(a, b provisioning.ServiceID) int {
	x, _ := e.x.services.get(a)
	y, _ := e.x.services.get(b)
	return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(a, b))
}
