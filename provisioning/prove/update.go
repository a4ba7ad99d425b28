package prove

import (
	"fmt"
	"maps"
	"slices"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func (p *Prover) mark(kind, a, b string) { p.dirty[unit{kind, a, b}] = true }

// site returns the state of a site that anything may name.
func (p *Prover) site(name string) *siteState {
	s := p.sites[name]
	if s == nil {
		s = &siteState{nodes: map[string]bool{}, offers: map[string]bool{}, uses: map[string]bool{}}
		p.sites[name] = s
	}
	return s
}

func (p *Prover) serviceState(name string) *serviceState {
	v := p.services[name]
	if v == nil {
		v = &serviceState{users: map[string]bool{}}
		p.services[name] = v
	}
	return v
}

func (p *Prover) nodeState(id string) *nodeState {
	n := p.nodes[id]
	if n == nil {
		n = &nodeState{}
		p.nodes[id] = n
	}
	return n
}

// markSite has all looked at again that reads of a site who and where it is.
func (p *Prover) markSite(name string) {
	p.mark("site", name, "")
	p.markNodes(name)
	for other := range p.neighbors(name) {
		p.markNodes(other)
	}
	p.markGrants(name)
}

func (p *Prover) markNodes(site string) {
	for id := range p.site(site).nodes {
		p.mark("node", id, "")
	}
}

func (p *Prover) markGrants(site string) {
	s := p.site(site)
	for name := range s.uses {
		p.mark("grant", name, site)
	}
	for name := range s.offers {
		for user := range p.services[name].users {
			p.mark("grant", name, user)
		}
	}
}

func (p *Prover) markAll() {
	p.mark("hub", "", "")
	for id := range p.nodes {
		p.mark("node", id, "")
	}
}

// fact keeps the digest.
func (p *Prover) fact(kind string, v any, change func(*bag, hash)) error {
	h, err := leaf(kind, v)
	if err == nil {
		change(p.facts, h)
	}
	return err
}

func (p *Prover) setHub(h Hub) error {
	l, err := leaf("hub", h)
	if err != nil {
		return err
	}
	if p.hubLeaf != (hash{}) {
		p.facts.remove(p.hubLeaf)
	}
	p.facts.add(l)
	p.markKey(p.hub.PublicKey)
	p.hub, p.hubLeaf = h, l
	p.markKey(h.PublicKey)
	p.markAll()
	for k := range p.grants {
		p.mark("grant", k.service, k.site)
	}
	return nil
}

func (p *Prover) addRange(e plandoc.Entry) error {
	k, err := p.plan.add(e)
	if err == nil {
		p.changedRange(k, func(s *siteState) { s.own = append(s.own, k.Prefix) })
	}
	return err
}

func (p *Prover) removeRange(e plandoc.Entry) error {
	k, err := p.plan.remove(e)
	if err == nil {
		p.changedRange(k, func(s *siteState) {
			if i := slices.Index(s.own, k.Prefix); i >= 0 {
				s.own = slices.Delete(s.own, i, i+1)
			}
		})
	}
	return err
}

func (p *Prover) changedRange(e plandoc.Entry, change func(*siteState)) {
	switch {
	case e.Kind == plandoc.Pool:
		p.markAll()
	case e.Kind == plandoc.Allocation && e.Owner != "" && e.Until.IsZero() && e.Prefix.IsValid():
		change(p.site(e.Owner))
		p.markNodes(e.Owner)
		p.mark("site", e.Owner, "")
		if e.Owner == HubOwner {
			p.mark("hub", "", "")
		}
	}
}

func (p *Prover) addSite(v Site) error {
	s := p.site(v.Name)
	s.decls = append(s.decls, v)
	p.countSite(v, 1)
	p.markSite(v.Name)
	return p.fact("site", v, (*bag).add)
}

func (p *Prover) removeSite(v Site) error {
	s := p.site(v.Name)
	if !cut(&s.decls, func(o Site) bool { return o == v }) {
		return fmt.Errorf("%w: the site %s", ErrUnknown, v.Name)
	}
	p.countSite(v, -1)
	p.markSite(v.Name)
	return p.fact("site", v, (*bag).remove)
}

func (p *Prover) countSite(v Site, n int) {
	p.counts.Sites += n
	if v.Kind == wire.Clinic {
		p.counts.Clinics += n
	}
}

func (p *Prover) addNode(v Node) error {
	n := p.nodeState(v.ID)
	n.decls = append(n.decls, v)
	p.site(v.Site).nodes[v.ID] = true
	if p.keys[v.PublicKey] == nil {
		p.keys[v.PublicKey] = map[string]bool{}
	}
	p.keys[v.PublicKey][v.ID] = true
	if p.addresses[v.Address] == nil {
		p.addresses[v.Address] = map[string]bool{}
	}
	p.addresses[v.Address][v.ID] = true
	p.counts.Nodes++
	p.markNode(v)
	return p.fact("node", v, (*bag).add)
}

func (p *Prover) removeNode(v Node) error {
	n := p.nodeState(v.ID)
	if !cut(&n.decls, v.equal) {
		return fmt.Errorf("%w: the node %s", ErrUnknown, v.ID)
	}
	p.markNode(v)
	if !slices.ContainsFunc(n.decls, func(o Node) bool { return o.Site == v.Site }) {
		delete(p.site(v.Site).nodes, v.ID)
	}
	if !slices.ContainsFunc(n.decls, func(o Node) bool { return o.PublicKey == v.PublicKey }) {
		delete(p.keys[v.PublicKey], v.ID)
	}
	if !slices.ContainsFunc(n.decls, func(o Node) bool { return o.Address == v.Address }) {
		delete(p.addresses[v.Address], v.ID)
	}
	p.counts.Nodes--
	return p.fact("node", v, (*bag).remove)
}

// markNode has all looked at again that reads of a Node who and where it is. A Node that is there twice is none for all others, so
// what its other declarations touch changes, too.
func (p *Prover) markNode(v Node) {
	for _, n := range append(slices.Clone(p.nodeState(v.ID).decls), v) {
		p.mark("node", n.ID, "")
		p.site(n.Site).sound = nil
		p.markSite(n.Site)
		p.markKey(n.PublicKey)
	}
}

func (p *Prover) markKey(k wgkey.PublicKey) {
	p.mark("key", string(k[:]), "")
	for id := range p.keys[k] {
		p.mark("node", id, "")
	}
}

func (p *Prover) addHubPeer(v HubPeer) error {
	p.hubPeers[v.PublicKey] = append(p.hubPeers[v.PublicKey], v)
	p.markKey(v.PublicKey)
	return p.fact("hub peer", v, (*bag).add)
}

func (p *Prover) removeHubPeer(v HubPeer) error {
	peers := p.hubPeers[v.PublicKey]
	if !cut(&peers, v.equal) {
		return fmt.Errorf("%w: the hub's peer %v", ErrUnknown, v.PublicKey)
	}
	p.hubPeers[v.PublicKey] = peers
	p.markKey(v.PublicKey)
	return p.fact("hub peer", v, (*bag).remove)
}

func (p *Prover) addService(v Service) error {
	s := p.serviceState(v.Name)
	s.decls = append(s.decls, v)
	p.site(v.Site).offers[v.Name] = true
	p.counts.Services++
	p.markService(v)
	return p.fact("service", v, (*bag).add)
}

func (p *Prover) removeService(v Service) error {
	s := p.serviceState(v.Name)
	if !cut(&s.decls, func(o Service) bool { return o == v }) {
		return fmt.Errorf("%w: the service %s", ErrUnknown, v.Name)
	}
	p.markService(v)
	if !slices.ContainsFunc(s.decls, func(o Service) bool { return o.Site == v.Site }) {
		delete(p.site(v.Site).offers, v.Name)
	}
	p.counts.Services--
	return p.fact("service", v, (*bag).remove)
}

func (p *Prover) markService(v Service) {
	p.mark("service", v.Name, "")
	p.markNodes(v.Site)
	s := p.serviceState(v.Name)
	for _, o := range s.decls {
		p.markNodes(o.Site)
	}
	for user := range s.users {
		p.markNodes(user)
		p.mark("grant", v.Name, user)
	}
}

func (p *Prover) addGrant(v Grant) error {
	k := grantKey{v.Service, v.Site}
	p.grants[k] = append(p.grants[k], v)
	p.serviceState(v.Service).users[v.Site] = true
	p.site(v.Site).uses[v.Service] = true
	p.counts.Grants++
	p.markGrant(v)
	return p.fact("grant", v, (*bag).add)
}

func (p *Prover) removeGrant(v Grant) error {
	k := grantKey{v.Service, v.Site}
	list := p.grants[k]
	if !cut(&list, func(o Grant) bool { return o == v }) {
		return fmt.Errorf("%w: the grant of %s to %s", ErrUnknown, v.Service, v.Site)
	}
	p.grants[k] = list
	p.markGrant(v)
	if len(list) == 0 {
		delete(p.grants, k)
		delete(p.serviceState(v.Service).users, v.Site)
		delete(p.site(v.Site).uses, v.Service)
	}
	p.counts.Grants--
	return p.fact("grant", v, (*bag).remove)
}

func (p *Prover) markGrant(v Grant) {
	p.mark("grant", v.Service, v.Site)
	p.markNodes(v.Site)
	for _, o := range p.serviceState(v.Service).decls {
		p.markNodes(o.Site)
	}
}

func (p *Prover) addMap(m wire.NetMap) error {
	s, err := newMapState(m)
	if err != nil {
		return err
	}
	n := p.nodeState(m.Self.Node)
	n.maps = append(n.maps, s)
	p.maps.add(s.leaf)
	p.countMap(s, 1)
	return nil
}

// dropMaps forgets the maps of a node and returns them.
func (p *Prover) dropMaps(id string) []*mapState {
	n := p.nodeState(id)
	old := n.maps
	for _, s := range old {
		p.maps.remove(s.leaf)
		p.countMap(s, -1)
	}
	n.maps = nil
	return old
}

// markMap has the node looked at again, and the grants of its site that read of the map what changed. The map of a center changes with each
// of its clinics; the grants of the others stay proven.
func (p *Prover) markMap(id string, old []*mapState) {
	p.mark("node", id, "")
	n := p.nodeState(id)
	for _, d := range n.decls {
		if len(old) != 1 || len(n.maps) != 1 {
			p.markGrants(d.Site)
			continue
		}
		c := changesOf(old[0], n.maps[0])
		if c.all {
			p.markGrants(d.Site)
			continue
		}
		for name := range c.services {
			p.mark("grant", name, d.Site)
		}
		far := map[string]bool{}
		for k := range c.keys {
			maps.Copy(far, p.keys[k])
		}
		for a := range c.addresses {
			maps.Copy(far, p.addresses[a])
		}
		for other := range far {
			for _, o := range p.nodeState(other).decls {
				p.markBetween(d.Site, o.Site)
			}
		}
	}
}

// markBetween has the grants that link two sites looked at again.
func (p *Prover) markBetween(a, b string) {
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		user, owner := pair[0], pair[1]
		fewer, more := p.site(user).uses, p.site(owner).offers
		if len(more) < len(fewer) {
			fewer, more = more, fewer
		}
		for name := range fewer {
			if more[name] {
				p.mark("grant", name, user)
			}
		}
	}
}

func (p *Prover) countMap(s *mapState, n int) {
	c := &p.counts
	c.Maps += n
	c.Peers += n * len(s.m.Peers)
	c.Offers += n * len(s.m.Offers)
	c.Uses += n * len(s.m.Uses)
	for _, peer := range s.m.Peers {
		c.AllowedIPs += n * len(peer.AllowedIPs)
	}
}

// cut removes one element that matches, and reports whether there was one.
func cut[T any](list *[]T, is func(T) bool) bool {
	i := slices.IndexFunc(*list, is)
	if i < 0 {
		return false
	}
	*list = slices.Delete(slices.Clone(*list), i, i+1)
	return true
}
