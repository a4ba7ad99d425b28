package prove

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

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
		p.changedRange(k, func(s *siteState) {
			s.own = append(s.own, k.Prefix)
			if k.Purpose == plandoc.Mapped {
				s.mappings = append(s.mappings, mappingOf(k))
			}
		})
	}
	return err
}

func (p *Prover) removeRange(e plandoc.Entry) error {
	k, err := p.plan.remove(e)
	if err == nil {
		p.changedRange(k, func(s *siteState) {
			cut(&s.own, func(q netip.Prefix) bool { return q == k.Prefix })
			if k.Purpose == plandoc.Mapped {
				cut(&s.mappings, func(m ipam.Mapping) bool { return m == mappingOf(k) })
			}
		})
	}
	return err
}

func (p *Prover) changedRange(e plandoc.Entry, change func(*siteState)) {
	switch {
	case e.Kind == plandoc.Pool:
		p.markAll()
	case e.Kind == plandoc.Allocation && e.Owner != "" && e.Prefix.IsValid():
		s := p.site(e.Owner)
		change(s)
		p.markNodes(e.Owner)
		p.mark("site", e.Owner, "")
		if e.Owner == HubOwner {
			p.mark("hub", "", "")
		}
		if e.Purpose == plandoc.Mapped {
			s.extras = nil
			p.markSite(e.Owner)
		}
	}
}

// mappingOf is what a range stands for, whether it is that of anything or not.
func mappingOf(e plandoc.Entry) ipam.Mapping { return ipam.Mapping{LAN: e.Maps, Mapped: e.Prefix} }

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
	claim(p.keys, v.PublicKey, v.ID)
	if !v.NextKey.IsZero() {
		claim(p.next, v.NextKey, v.ID)
	}
	p.counts.Nodes++
	if v.Kind == wire.Unmanaged {
		p.unmanaged++
	}
	p.markNode(v)
	return p.fact("node", v, (*bag).add)
}

func claim(keys map[wgkey.PublicKey]map[string]bool, k wgkey.PublicKey, id string) {
	if keys[k] == nil {
		keys[k] = map[string]bool{}
	}
	keys[k][id] = true
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
	if !slices.ContainsFunc(n.decls, func(o Node) bool { return o.NextKey == v.NextKey }) {
		delete(p.next[v.NextKey], v.ID)
	}
	p.counts.Nodes--
	if v.Kind == wire.Unmanaged {
		p.unmanaged--
	}
	return p.fact("node", v, (*bag).remove)
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

func (p *Prover) addMap(m wire.NetMap) error {
	s, err := newMapState(m)
	if err != nil {
		return err
	}
	p.holdMap(s)
	return nil
}

func (p *Prover) holdMap(s *mapState) {
	n := p.nodeState(s.m.Self.Node)
	n.maps = append(n.maps, s)
	p.maps.add(s.leaf)
	p.countMap(s, 1)
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
