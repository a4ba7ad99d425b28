package prove

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/provisioning/wire"
)

// prefer compares two gateways of a site: those with a rank come first, by rank, and equal ones by address.
func prefer(rankA int, a netip.Addr, rankB int, b netip.Addr) int {
	place := func(rank int) int {
		if rank == 0 {
			return math.MaxInt
		}
		return rank
	}
	return cmp.Or(cmp.Compare(place(rankA), place(rankB)), a.Compare(b))
}

// ranked are the gateways of a site that the hub holds, the preferred one first.
func (p *Prover) ranked(site string) []Node {
	out := slices.DeleteFunc(p.gatewaysOf(site), func(n Node) bool { return len(p.hubPeers[n.PublicKey]) == 0 })
	slices.SortStableFunc(out, func(a, b Node) int { return prefer(a.Rank, a.Address, b.Rank, b.Address) })
	return out
}

// holds reports whether a node listens at what leads to its site besides its nodes' own addresses: the front, and at a center all gateways.
func (p *Prover) holds(d Node) bool {
	all := p.ranked(d.Site)
	return len(all) > 0 && all[0].ID == d.ID || p.kindOf(d.Site) == wire.Center && slices.ContainsFunc(all, func(n Node) bool { return n.ID == d.ID })
}

// shared is what maps say of a site that has several gateways; false if they say nothing.
func (p *Prover) shared(site string) (wire.Shared, bool) {
	all := p.ranked(site)
	if p.kindOf(site) != wire.Center || len(all) < 2 {
		return wire.Shared{}, false
	}
	s := wire.Shared{Site: site, Prefixes: p.extras(site)}
	for _, n := range all {
		s.Gateways = append(s.Gateways, n.ID)
	}
	return s, true
}

// proveShared holds that what may lead to several nodes is exactly what the site has for itself, and that they are exactly the gateways of one
// center, in their order: nothing that leads to one site may be led to another.
func (p *Prover) proveShared(r *report, d Node, s *mapState) {
	want := map[string]wire.Shared{}
	expect := func(site string) {
		if v, ok := p.shared(site); ok {
			want[site] = v
		}
	}
	for site := range p.used(d) {
		expect(site)
	}
	if d.gateway() {
		expect(d.Site)
	}
	for _, v := range s.m.Shared {
		w, ok := want[v.Site]
		delete(want, v.Site)
		switch {
		case !ok:
			r.bad(Allowed, "the map of node %s of %s lets what leads to %s lead to %v, which are not its gateways, or twice", d.ID, d.Site, v.Site, v.Gateways)
		case !slices.Equal(v.Gateways, w.Gateways):
			r.bad(Allowed, "the map of node %s of %s lets what leads to %s lead to %v, its gateways are %v", d.ID, d.Site, v.Site, v.Gateways, w.Gateways)
		default:
			p.provePrefixes(r, d, v, w)
		}
	}
	for site := range want {
		r.bad(Reachable, "the map of node %s of %s does not say that %s has several gateways", d.ID, d.Site, site)
	}
}

// provePrefixes holds that what may lead to any gateway of a site is what the site has, each once.
func (p *Prover) provePrefixes(r *report, d Node, v, w wire.Shared) {
	for i, q := range v.Prefixes {
		if !slices.Contains(w.Prefixes, q) || slices.Contains(v.Prefixes[:i], q) {
			r.bad(Allowed, "the map of node %s of %s lets %v lead to any gateway of %s, whose it is not, or twice", d.ID, d.Site, q, v.Site)
		}
	}
	for _, q := range w.Prefixes {
		if !slices.Contains(v.Prefixes, q) {
			r.bad(Reachable, "the map of node %s of %s does not let %v lead to any gateway of %s", d.ID, d.Site, q, v.Site)
		}
	}
}

// further are the places at which a node finds a service at the other gateways of its site: where it is told, and if that is the first one's own
// address, at theirs.
func (p *Prover) further(near *mapState, v Service, to netip.AddrPort, first string) map[string]netip.AddrPort {
	i := slices.IndexFunc(near.m.Shared, func(s wire.Shared) bool { return s.Site == v.Site })
	if i < 0 {
		return nil
	}
	home, _ := p.node(first)
	out := map[string]netip.AddrPort{}
	for _, id := range near.m.Shared[i].Gateways {
		n, ok := p.node(id)
		switch {
		case !ok || id == first:
		case to.Addr() == home.Address:
			out[id] = netip.AddrPortFrom(n.Address, to.Port())
		default:
			out[id] = to
		}
	}
	return out
}
