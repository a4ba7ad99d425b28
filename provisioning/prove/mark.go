package prove

import (
	"slices"

	"github.com/towpath/towpath/tunnel/wgkey"
)

func (p *Prover) mark(kind, a, b string) { p.dirty[unit{kind, a, b}] = true }

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
	for name := range p.sites {
		p.mark("site", name, "")
	}
	for id := range p.nodes {
		p.mark("node", id, "")
	}
}

// markNode has all looked at again that reads of a Node who and where it is. A Node that is there twice is none for all others, so
// what its other declarations touch changes, too.
func (p *Prover) markNode(v Node) {
	for _, n := range append(slices.Clone(p.nodeState(v.ID).decls), v) {
		p.mark("node", n.ID, "")
		p.site(n.Site).sound = nil
		p.markSite(n.Site)
		p.markKey(n.PublicKey)
		if !n.NextKey.IsZero() {
			p.markKey(n.NextKey)
		}
	}
}

// markKey has all looked at again that reads who has a key or will have it, and which node is the front of its site.
func (p *Prover) markKey(k wgkey.PublicKey) {
	p.mark("key", string(k[:]), "")
	for _, claims := range []map[string]bool{p.keys[k], p.next[k]} {
		for id := range claims {
			p.mark("node", id, "")
			for _, n := range p.nodeState(id).decls {
				p.mark("key", string(n.PublicKey[:]), "")
				p.markSite(n.Site)
			}
		}
	}
}

func (p *Prover) markService(v Service) {
	p.mark("service", v.Name, "")
	s := p.serviceState(v.Name)
	for _, o := range append(slices.Clone(s.decls), v) {
		p.markNodes(o.Site)
		// An address of its own leads to the site on every map that uses anything there.
		if o.Address.IsValid() {
			p.site(o.Site).extras = nil
			p.markSite(o.Site)
		}
	}
	for user := range s.users {
		p.markNodes(user)
		p.mark("grant", v.Name, user)
	}
}

func (p *Prover) markGrant(v Grant) {
	p.mark("grant", v.Service, v.Site)
	p.markNodes(v.Site)
	for _, o := range p.serviceState(v.Service).decls {
		p.markNodes(o.Site)
	}
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
		for k := range c.grants {
			p.mark("grant", k.service, k.site)
		}
		for k := range c.keys {
			for other := range p.keys[k] {
				for _, o := range p.nodeState(other).decls {
					p.markBetween(d.Site, o.Site)
				}
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
