package prove

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/towpath/towpath/provisioning/wire"
)

// proveGrant walks from each node of the using site to the service, through the maps of both sides and nothing else.
func (p *Prover) proveGrant(r *report, k grantKey) {
	grants := p.grants[k]
	if len(grants) == 0 {
		return
	}
	r.at.Site, r.at.Service = k.site, k.service
	v, ok := p.service(k.service)
	switch {
	case len(grants) > 1:
		r.bad(Reachable, "the grant of %s to %s is there %d times", k.service, k.site, len(grants))
	case grants[0].LANPort == 0:
		r.bad(Reachable, "the grant of %s to %s has no LAN port", k.service, k.site)
	}
	switch {
	case !ok:
		r.bad(Reachable, "the service %s granted to %s is not there, or more than once", k.service, k.site)
		return
	case v.Site != k.site && p.kindOf(k.site) == wire.Clinic && p.kindOf(v.Site) == wire.Clinic:
		r.bad(Isolated, "the service %s of the clinic %s is granted to the clinic %s", k.service, v.Site, k.site)
		return
	case p.kindOf(k.site) == "" || p.kindOf(v.Site) == "":
		r.bad(Reachable, "the grant of %s to %s links a site that is not there, or more than once", k.service, k.site)
		return
	}
	var users []Node
	for _, n := range p.nodesOf(k.site) {
		if n.uses(k.site == v.Site) {
			users = append(users, n)
		}
	}
	if len(users) == 0 || len(p.gatewaysOf(v.Site)) == 0 {
		r.pending = 1
		return
	}
	for _, n := range users {
		r.at.Node = n.ID
		why, called := p.broken(n, v)
		switch {
		case why != "":
			r.bad(Reachable, "node %s of %s cannot use %s of %s: %s", n.ID, k.site, k.service, v.Site, why)
		case !called:
			r.waiting++
		}
	}
}

// broken says where the way from a node to a service ends, or nothing when it does not, and then whether either side has an endpoint of
// the other.
func (p *Prover) broken(n Node, v Service) (why string, called bool) {
	near := p.soleMap(n.ID)
	if near == nil {
		return "it has no map of its own", false
	}
	if len(near.useOf[v.Name]) != 1 {
		return "its map has not exactly one use of it", false
	}
	to := near.m.Uses[near.useOf[v.Name][0]].Address
	peers := near.claimants(to.Addr())
	if len(peers) != 1 || to.Addr() == near.m.Hub.Address || slices.Contains(near.own(), to.Addr()) {
		return to.Addr().String() + " is not an allowed IP of exactly one peer", false
	}
	first := near.m.Peers[peers[0]]
	if why, called = p.offered(n, near, v, first, to); why != "" {
		return why, false
	}
	for id, place := range p.further(near, v, to, first.Node) {
		i := slices.IndexFunc(near.m.Peers, func(o wire.Peer) bool { return o.Node == id })
		if i < 0 {
			return "its further gateway " + id + " is no peer", false
		}
		if why, _ := p.offered(n, near, v, near.m.Peers[i], place); why != "" {
			return why, false
		}
	}
	return "", called
}

// offered is broken for one peer and the place where it has the service.
func (p *Prover) offered(n Node, near *mapState, v Service, peer wire.Peer, to netip.AddrPort) (why string, called bool) {
	far := p.soleMap(peer.Node)
	switch {
	case far == nil:
		return "its peer " + peer.Node + " has no map of its own", false
	case far.m.Self.PublicKey != peer.PublicKey:
		return "it holds another key of node " + peer.Node + " than that has", false
	case far.m.Self.Site != v.Site:
		return "node " + peer.Node + " is elsewhere", false
	}
	at := far.offerAt[to]
	if len(at) != 1 || far.m.Offers[at[0]].Service != v.Name {
		return "node " + peer.Node + " does not offer it at " + to.String(), false
	}
	back := far.peerOf[near.m.Self.PublicKey]
	for _, own := range near.own() {
		if !own.IsValid() || far.admits[source{far.m.Offers[at[0]].Port, host(own)}] != n.Site {
			return "node " + peer.Node + " does not admit it", false
		}
		if len(back) != 1 || !slices.Contains(far.m.Peers[back[0]].AllowedIPs, host(own)) || !slices.Equal(far.claimants(own), back) {
			return "node " + peer.Node + " does not hold its key with its addresses", false
		}
	}
	return "", len(peer.Endpoints) > 0 || len(far.m.Peers[back[0]].Endpoints) > 0
}

// soleMap returns the map of a node that has exactly one.
func (p *Prover) soleMap(id string) *mapState {
	if n := p.nodes[id]; n != nil && len(n.maps) == 1 {
		return n.maps[0]
	}
	return nil
}

func portText(port uint16) string { return strconv.Itoa(int(port)) }
