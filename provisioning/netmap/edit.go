package netmap

import (
	"net/netip"
	"slices"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// editor makes one sound Index of another. Its steps report false as soon as something is not sound, or might not be: then a new Index
// finds out.
type editor struct {
	c Change
	x *Index
	// open are the sites whose records are copies of this editor's own, and to be settled.
	open map[provisioning.SiteID]*site
	// shifted are owners of allocations that changed.
	shifted map[string]bool
	// rivals are the users of services that changed: what they use may have the same way in now.
	rivals map[provisioning.SiteID]bool
}

func newEditor(x *Index, c Change) *editor {
	next := *x
	next.s.Generation = c.Generation
	return &editor{
		c: c, x: &next, open: map[provisioning.SiteID]*site{}, shifted: map[string]bool{}, rivals: map[provisioning.SiteID]bool{},
	}
}

// site returns the record of a site to be changed, nil if there is none.
func (e *editor) site(id provisioning.SiteID) *site {
	if s, ok := e.open[id]; ok {
		return s
	}
	was, ok := e.x.sites.get(id)
	if !ok {
		return nil
	}
	s := *was
	e.put(&s)
	return &s
}

func (e *editor) put(s *site) {
	e.open[s.ID] = s
	e.x.sites = e.x.sites.with(s.ID, s)
}

// used reports whether r is an allocation in use.
func used(r *provisioning.Range) bool { return r.Kind == provisioning.RangeAllocation && r.Owner != "" }

func (e *editor) ranges() bool {
	for id, now := range e.c.Ranges {
		was, there := e.x.ranges.get(id)
		if there && was.Kind == provisioning.RangePool || now != nil && now.Kind == provisioning.RangePool {
			return false
		}
		if there && used(was) {
			e.allocate(was.Owner, remove(e.x.allocations, was, byPrefix), remove(e.x.AllocationsOf(was.Owner), was, byPrefix))
		}
		if now == nil {
			e.x.ranges = e.x.ranges.without(id)
		}
	}
	for id, now := range e.c.Ranges {
		if now == nil {
			continue
		}
		if now.ID != id || !now.Prefix.IsValid() || now.Prefix != now.Prefix.Masked() {
			return false
		}
		e.x.ranges = e.x.ranges.with(id, now)
		if !used(now) {
			continue
		}
		e.allocate(now.Owner, insert(e.x.allocations, now, byPrefix), insert(e.x.AllocationsOf(now.Owner), now, byPrefix))
		at, _ := slices.BinarySearchFunc(e.x.allocations, now, byPrefix)
		if at > 0 && e.x.allocations[at-1].Prefix.Overlaps(now.Prefix) ||
			at+1 < len(e.x.allocations) && e.x.allocations[at+1].Prefix.Overlaps(now.Prefix) {
			return false
		}
	}
	return true
}

// allocate has all allocations, and those of an owner.
func (e *editor) allocate(owner string, all, own []*provisioning.Range) {
	e.x.allocations = all
	if len(own) == 0 {
		e.x.own = e.x.own.without(owner)
	} else {
		e.x.own = e.x.own.with(owner, own)
	}
	e.shifted[owner] = true
}

// renamed takes the sites themselves.
func (e *editor) renamed() bool {
	names := &e.x.claims.names
	for id, now := range e.c.Sites {
		was := e.site(id)
		switch {
		case was == nil:
		case now == nil:
			*names = names.without(was.Name)
		case now.ID != id || now.Name != was.Name || now.Kind != was.Kind:
			return false
		default:
			was.Site = *now
		}
	}
	for id, now := range e.c.Sites {
		if now == nil || e.open[id] != nil {
			continue
		}
		if now.ID != id || id == "" || now.Name == "" || names.has(now.Name) || now.Kind != wire.Clinic && now.Kind != wire.Center {
			return false
		}
		*names = names.with(now.Name, id)
		e.put(&site{Site: *now})
	}
	return true
}

// gone reports whether a site was removed.
func (e *editor) gone(id provisioning.SiteID) bool {
	now, changed := e.c.Sites[id]
	return changed && now == nil
}

func (e *editor) nodes() bool {
	for id := range e.c.Nodes {
		if was, ok := e.x.nodes.get(id); ok {
			e.release(was)
		}
		e.x.inactive = e.x.inactive.without(id)
	}
	for id, now := range e.c.Nodes {
		if now == nil {
			continue
		}
		if now.ID != id {
			return false
		}
		if now.State != provisioning.NodeActive {
			e.x.inactive = e.x.inactive.with(id, now)
			continue
		}
		if !e.claim(now) {
			return false
		}
	}
	for id := range e.c.Nodes {
		if n, ok := e.x.nodes.get(id); ok && rotationFault(*n, e.x.s.Hub.PublicKey == n.NextKey || e.x.claims.keys.has(n.NextKey)) != "" {
			return false
		}
	}
	return true
}

// release takes away a node that was active.
func (e *editor) release(n *provisioning.Node) {
	c := &e.x.claims
	e.x.nodes = e.x.nodes.without(n.ID)
	c.keys, c.next = c.keys.without(n.PublicKey), c.next.without(n.NextKey)
	c.hosts = c.hosts.without(n.Address)
	if n.Former.IsValid() {
		c.hosts = c.hosts.without(n.Former)
	}
	home := e.site(n.Site)
	home.nodes = drop(home.nodes, func(o *provisioning.Node) bool { return o.ID == n.ID })
}

// claim adds an active node.
func (e *editor) claim(n *provisioning.Node) bool {
	c := &e.x.claims
	home := e.site(n.Site)
	if home == nil || e.gone(n.Site) || !known(n.Kind) || n.PublicKey.IsZero() || n.PublicKey == e.x.s.Hub.PublicKey ||
		c.keys.has(n.PublicKey) || c.next.has(n.PublicKey) || !e.host(n.Address) || n.Former.IsValid() && !e.host(n.Former) {
		return false
	}
	c.keys = c.keys.with(n.PublicKey, n.ID)
	if n.NextKey != (wgkey.PublicKey{}) {
		if c.next.has(n.NextKey) {
			return false
		}
		c.next = c.next.with(n.NextKey, n.ID)
	}
	e.x.nodes = e.x.nodes.with(n.ID, n)
	home.nodes = insert(home.nodes, n, byAddress)
	return true
}

// host claims an address. Whether it lies where it must is found by settle.
func (e *editor) host(a netip.Addr) bool {
	if !usable(a) || a == e.x.s.Hub.Address || e.x.claims.hosts.has(a) {
		return false
	}
	e.x.claims.hosts = e.x.claims.hosts.with(a, true)
	return true
}

func (e *editor) services() bool {
	c := &e.x.claims
	before := e.x.services
	for id := range e.c.Services {
		was, ok := before.get(id)
		if !ok {
			continue
		}
		c.titles = c.titles.without(was.Name)
		if was.Address.IsValid() {
			c.hosts = c.hosts.without(was.Address)
		}
		home := e.site(was.Site)
		home.services = drop(home.services, func(o provisioning.ServiceID) bool { return o == id })
		e.x.services = e.x.services.without(id)
	}
	for id, now := range e.c.Services {
		was, there := before.get(id)
		switch {
		case now == nil && there:
			for user := range was.users.all() {
				if gone, ok := e.c.Grants[GrantID{id, user}]; !ok || gone != nil {
					return false
				}
				e.unuse(id, user)
			}
		case now != nil && !e.serve(id, *now, was):
			return false
		}
	}
	return true
}

// serve adds a service, which may have been there before.
func (e *editor) serve(id provisioning.ServiceID, v provisioning.Service, was *service) bool {
	c := &e.x.claims
	home := e.site(v.Site)
	if v.ID != id || home == nil || e.gone(v.Site) || serviceFault(v) != "" || c.titles.has(v.Name) ||
		v.Address.IsValid() && !e.host(v.Address) {
		return false
	}
	c.titles = c.titles.with(v.Name, id)
	now := &service{Service: v}
	if was != nil {
		if now.users = was.users; was.Site != v.Site && now.users.len() > 0 {
			return false
		}
		for user := range now.users.all() {
			e.rivals[user] = true
		}
	}
	e.x.services = e.x.services.with(id, now)
	home.services = insert(home.services, id, e.older)
	return true
}

func (e *editor) grants() bool {
	for id := range e.c.Grants {
		v, ok := e.x.services.get(id.Service)
		if !ok || !v.users.has(id.Site) {
			continue
		}
		now := *v
		now.users = now.users.without(id.Site)
		e.x.services = e.x.services.with(id.Service, &now)
		e.unuse(id.Service, id.Site)
	}
	for user := range e.rivals {
		home := e.site(user)
		if !e.disjoint(home.uses) {
			return false
		}
	}
	for id, g := range e.c.Grants {
		if g != nil && (id != GrantID{g.Service, g.Site} || !e.grant(*g)) {
			return false
		}
	}
	return true
}

func (e *editor) unuse(service provisioning.ServiceID, user provisioning.SiteID) {
	home := e.site(user)
	home.uses = drop(home.uses, func(u use) bool { return u.service == service })
}

// door is the way in of a use.
func (e *editor) door(u use) Door {
	v, _ := e.x.services.get(u.service)
	return NewDoor(v.Service, u.lanPort)
}

// disjoint reports whether no two uses of a site have the same way in.
func (e *editor) disjoint(uses []use) bool {
	taken := doors{}
	for _, u := range uses {
		if !taken.enter(e.door(u)) {
			return false
		}
	}
	return true
}

// grant adds one.
func (e *editor) grant(g provisioning.Grant) bool {
	v, ok := e.x.services.get(g.Service)
	user := e.site(g.Site)
	if !ok || user == nil || e.gone(g.Site) || g.LANPort == 0 {
		return false
	}
	owner, ok := e.x.sites.get(v.Site)
	if !ok || e.gone(v.Site) || owner.ID != user.ID && owner.Kind == wire.Clinic && user.Kind == wire.Clinic {
		return false
	}
	u := use{service: g.Service, lanPort: g.LANPort, poll: g.Poll, created: g.Created}
	door := NewDoor(v.Service, g.LANPort)
	if slices.ContainsFunc(user.uses, func(o use) bool { return o.lanPort == u.lanPort && door.Collides(e.door(o)) }) {
		return false
	}
	user.uses = insert(user.uses, u, byAge)
	now := *v
	now.users = now.users.with(g.Site, g)
	e.x.services = e.x.services.with(g.Service, &now)
	return true
}
