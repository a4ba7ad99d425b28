package prove

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func (p *Prover) proveHub(r *report) {
	switch {
	case p.hubLeaf == (hash{}):
		r.bad(Identity, "nothing is known of the hub")
		return
	case p.hub.PublicKey.IsZero():
		r.bad(Identity, "the hub has no key")
	case p.hub.ControlPort == 0:
		r.bad(Identity, "the hub has no control port")
	}
	if why := p.misplaced(p.hub.Address, HubOwner); why != "" {
		r.at.Prefix = p.hub.Address.String()
		r.bad(Belonging, "the hub's address %v %s", p.hub.Address, why)
	}
}

// misplaced says why a is no address that a node of the site may have, or nothing.
func (p *Prover) misplaced(a netip.Addr, site string) string {
	switch {
	case !a.IsValid() || a.Is4In6() || a.Zone() != "":
		return "is none that a node can have"
	case !p.owns(site, host(a)):
		return "lies in no allocation of " + site
	case !p.plan.inPool(a):
		return "lies in no pool"
	}
	return ""
}

func (p *Prover) owns(site string, q netip.Prefix) bool {
	s := p.sites[site]
	return s != nil && slices.ContainsFunc(s.own, func(o netip.Prefix) bool { return o.Bits() <= q.Bits() && o.Contains(q.Addr()) })
}

// proveHubPeer holds that the hub has exactly one peer for each key of a node, and that this is allowed exactly the node's
// addresses.
func (p *Prover) proveHubPeer(r *report, text string) {
	k := wgkey.PublicKey([]byte(text))
	peers := p.hubPeers[k]
	if len(p.keys[k]) == 0 {
		if len(peers) > 0 {
			r.bad(Allowed, "the hub holds the key %v, which is no node's", k)
		}
		return
	}
	for id := range p.keys[k] {
		n, ok := p.node(id)
		if !ok {
			continue // proveNode tells
		}
		r.at.Node, r.at.Site = n.ID, n.Site
		if n.Kind == wire.Unmanaged {
			if len(peers) > 0 {
				r.bad(Allowed, "the hub holds the key of node %s of %s, which is unmanaged", n.ID, n.Site)
			}
			continue
		}
		if len(peers) != 1 {
			p.hubPeerCount(r, n, len(peers))
			continue
		}
		p.proveNext(r, n, peers[0].NextKey, "the hub")
		own := n.own()
		for i, a := range peers[0].AllowedIPs {
			if !slices.Contains(own, a) || slices.Contains(peers[0].AllowedIPs[:i], a) {
				r.bad(Allowed, "the hub allows node %s of %s the addresses %v, its own are %v", n.ID, n.Site, peers[0].AllowedIPs, own)
				break
			}
		}
		for _, a := range own {
			if !slices.Contains(peers[0].AllowedIPs, a) {
				r.missing(Allowed, "the hub does not allow node %s of %s its address %v", n.ID, n.Site, a.Addr())
			}
		}
	}
}

// proveNext holds that who knows a node's key knows its next one, and no other.
func (p *Prover) proveNext(r *report, n Node, next wgkey.PublicKey, who string) {
	want := p.nextKey(n)
	switch {
	case next == want:
	case next.IsZero():
		r.missing(Allowed, "%s does not hold the next key of node %s of %s", who, n.ID, n.Site)
	default:
		r.bad(Allowed, "%s holds a next key of node %s of %s that is not its own", who, n.ID, n.Site)
	}
}

func (p *Prover) hubPeerCount(r *report, n Node, count int) {
	if count == 0 {
		r.missing(Allowed, "the hub does not hold the key of node %s of %s", n.ID, n.Site)
		return
	}
	r.bad(Allowed, "the hub holds the key of node %s of %s %d times", n.ID, n.Site, count)
}

func (p *Prover) proveSite(r *report, name string) {
	s := p.sites[name]
	r.at.Site = name
	switch {
	case len(s.decls) > 1:
		r.bad(Identity, "the site %s is there %d times", name, len(s.decls))
	case len(s.decls) == 0 && len(s.nodes) > 0:
		r.bad(Identity, "there is no site %s, but it has nodes", name)
	case len(s.decls) == 1 && (name == "" || name == HubOwner):
		r.bad(Identity, "no site can have the name %q", name)
	case len(s.decls) == 1 && s.decls[0].Kind != wire.Clinic && s.decls[0].Kind != wire.Center:
		r.bad(Identity, "the site %s is of no known kind, %q", name, s.decls[0].Kind)
	}
	p.proveAddresses(r, name)
}

// proveAddresses holds that nothing at a site has the address of something else, and that the services' own addresses are the site's.
func (p *Prover) proveAddresses(r *report, site string) {
	var own []netip.Prefix
	at := map[netip.Prefix]string{}
	for _, n := range p.nodesOf(site) {
		for _, q := range append(n.own(), n.Mapped...) {
			own = append(own, q)
			at[q] = n.ID
		}
	}
	for a, b := range ipam.NewSet(own...).Collisions() {
		r.at.Prefix, r.at.Node = a.String(), at[a]
		r.bad(Identity, "two nodes of %s, or one twice, have %v, which overlaps %v", site, a, b)
	}
	r.at.Prefix, r.at.Node = "", ""
	for _, name := range slices.Sorted(maps.Keys(p.sites[site].offers)) {
		v, ok := p.service(name)
		if !ok || v.Site != site || !v.Address.IsValid() {
			continue
		}
		r.at.Service, r.at.Prefix = name, v.Address.String()
		if why := p.misplaced(v.Address, site); why != "" {
			r.bad(Belonging, "the address %v of service %s %s", v.Address, name, why)
			continue
		}
		if other, taken := at[host(v.Address)]; taken {
			r.bad(Identity, "the address %v of service %s is also that of %s", v.Address, name, other)
		}
		at[host(v.Address)] = name
	}
	r.at.Service, r.at.Prefix = "", ""
}

func (p *Prover) proveNode(r *report, id string) {
	n := p.nodes[id]
	if n == nil {
		return
	}
	r.at.Node = id
	switch {
	case len(n.decls) == 0 && len(n.maps) > 0:
		r.bad(Identity, "there is a map for node %s, which is not enrolled", id)
		return
	case len(n.decls) == 0:
		return
	case len(n.decls) > 1:
		r.bad(Identity, "the node %s is there %d times", id, len(n.decls))
		return
	}
	d := n.decls[0]
	r.at.Site = d.Site
	switch {
	case id == "":
		r.bad(Identity, "a node of %s has no id", d.Site)
	case d.PublicKey.IsZero():
		r.bad(Identity, "the node %s of %s has no key", id, d.Site)
	case !d.gateway() && !d.dials() && d.Kind != wire.Relay:
		r.bad(Identity, "the node %s of %s is of no known kind, %q", id, d.Site, d.Kind)
	case len(p.keys[d.PublicKey]) > 1 || d.PublicKey == p.hub.PublicKey:
		r.bad(Identity, "the key of node %s of %s is another's, too", id, d.Site)
	}
	if why := p.misplaced(d.Address, d.Site); why != "" {
		r.at.Prefix = d.Address.String()
		r.bad(Belonging, "the address %v of node %s %s", d.Address, id, why)
	}
	if d.Former.IsValid() {
		if why := p.misplaced(d.Former, d.Site); why != "" {
			r.at.Prefix = d.Former.String()
			r.bad(Belonging, "the former address %v of node %s %s", d.Former, id, why)
		}
	}
	p.proveMapped(r, d)
	r.at.Prefix = ""
	if _, _, fault := p.rotation(d); fault != "" {
		r.missing(Identity, "the node %s of %s %s", id, d.Site, fault)
	}
	if len(n.maps) == 0 {
		r.missing(Identity, "the node %s of %s has no map", id, d.Site)
		return
	}
	if len(n.maps) > 1 {
		r.bad(Identity, "the node %s of %s has %d maps instead of one", id, d.Site, len(n.maps))
		return
	}
	p.proveMap(r, d, n.maps[0])
}

// proveMapped holds that the mapped prefixes of a site are all at its front and nowhere else, and that no node is in one.
func (p *Prover) proveMapped(r *report, d Node) {
	mappings := p.mappings(d.Site)
	front, ok := p.front(d.Site)
	ok = ok && front.ID == d.ID
	for _, q := range d.Mapped {
		r.at.Prefix = q.String()
		switch {
		case !slices.ContainsFunc(mappings, func(m ipam.Mapping) bool { return m.Mapped == q }):
			r.bad(Belonging, "the mapped %v of node %s is no mapped allocation of %s", q, d.ID, d.Site)
		case !ok:
			r.bad(Belonging, "the mapped %v is at node %s, which is not the first of %s", q, d.ID, d.Site)
		}
	}
	for _, m := range mappings {
		if slices.ContainsFunc(d.own(), m.Mapped.Overlaps) {
			r.at.Prefix = m.Mapped.String()
			r.missing(Belonging, "the address of node %s of %s is in %v, which is mapped to %v", d.ID, d.Site, m.Mapped, m.LAN)
		}
		if ok && !slices.Contains(d.Mapped, m.Mapped) {
			r.at.Prefix = m.Mapped.String()
			r.bad(Reachable, "the node %s of %s does not answer for %v, which is mapped to %v", d.ID, d.Site, m.Mapped, m.LAN)
		}
	}
}

func (p *Prover) proveMap(r *report, d Node, s *mapState) {
	m := s.m
	says := func(ok bool, what string, got, want any) {
		if !ok {
			r.bad(Identity, "the map of node %s of %s says that %s is %v, it is %v", d.ID, d.Site, what, got, want)
		}
	}
	says(m.Format == wire.Format, "its format", m.Format, wire.Format)
	says(m.Network == p.hub.Network, "the network", m.Network, p.hub.Network)
	step, next, _ := p.rotation(d)
	says(m.Self.Kind == d.Kind, "the node's kind", m.Self.Kind, d.Kind)
	says(m.Self.PublicKey == d.PublicKey, "the node's key", m.Self.PublicKey, d.PublicKey)
	says(m.Self.Rotate == step, "the step of its key change", m.Self.Rotate, step)
	says(m.Self.NextKey == next, "the node's next key", m.Self.NextKey, next)
	says(m.Self.Address == d.Address, "the node's address", m.Self.Address, d.Address)
	says(m.Self.Former == d.Former, "the node's former address", m.Self.Former, d.Former)
	says(m.Self.Site == d.Site, "the node's site", m.Self.Site, d.Site)
	says(m.Self.SiteKind == p.kindOf(d.Site), "the kind of the site", m.Self.SiteKind, p.kindOf(d.Site))
	says(m.Self.SpoolKey == p.spoolKeyOf(d), "where the key of its queues is", m.Self.SpoolKey, p.spoolKeyOf(d))
	says(m.Hub.PublicKey == p.hub.PublicKey, "the hub's key", m.Hub.PublicKey, p.hub.PublicKey)
	says(m.Hub.Address == p.hub.Address, "the hub's address", m.Hub.Address, p.hub.Address)
	says(m.Hub.ControlPort == p.hub.ControlPort, "the hub's port", m.Hub.ControlPort, p.hub.ControlPort)
	says(slices.Equal(m.Overlay, slices.Compact(slices.Clone(p.plan.pools))), "the overlay", m.Overlay, p.plan.pools)
	p.provePeers(r, d, s)
	p.proveOffers(r, d, s)
	p.proveUses(r, d, s)
	p.proveShared(r, d, s)
}

// provePeers holds that the peers are exactly those that the grants of the node's site make, each with its own keys and prefixes.
func (p *Prover) provePeers(r *report, d Node, s *mapState) {
	used := p.used(d)
	want := p.peers(d, used)
	p.proveDisjoint(r, d, s)
	seen := make(map[string]bool, len(want))
	for _, peer := range s.m.Peers {
		far, expected := want[peer.Node]
		if !expected {
			p.unexpected(r, d, peer, want)
			continue
		}
		if seen[peer.Node] {
			r.bad(Allowed, "the map of node %s of %s has the peer %s twice", d.ID, d.Site, peer.Node)
		}
		seen[peer.Node] = true
		if peer.PublicKey != far.PublicKey || peer.Site != far.Site {
			p.unexpected(r, d, peer, want)
		}
		if peer.Kind != far.Kind {
			r.bad(Identity, "the map of node %s of %s has node %s of %s as a %q, it is a %s", d.ID, d.Site, far.ID, far.Site, peer.Kind, far.named())
		}
		p.proveNext(r, far, peer.NextKey, "node "+d.ID+" of "+d.Site)
		p.proveAllowed(r, d, peer, far, used[far.Site])
	}
	for id, far := range want {
		if !seen[id] {
			r.bad(Reachable, "the map of node %s of %s lacks the peer %s of %s, which a grant links", d.ID, d.Site, id, far.Site)
		}
	}
}

// proveAllowed holds that a peer is allowed exactly what leads to it.
func (p *Prover) proveAllowed(r *report, d Node, peer wire.Peer, far Node, uses bool) {
	may := p.allowed(far, uses)
	for _, a := range peer.AllowedIPs {
		if !slices.Contains(may, a) {
			r.at.Prefix = a.String()
			r.bad(Allowed, "the map of node %s of %s allows %v to node %s of %s, whose it is not", d.ID, d.Site, a, far.ID, far.Site)
		}
	}
	for _, a := range may {
		if !slices.Contains(peer.AllowedIPs, a) {
			r.at.Prefix = a.String()
			r.bad(Reachable, "the map of node %s of %s does not allow node %s of %s its %v", d.ID, d.Site, far.ID, far.Site, a)
		}
	}
	r.at.Prefix = ""
}

// proveDisjoint holds that no address is allowed to two.
func (p *Prover) proveDisjoint(r *report, d Node, s *mapState) {
	// besides has what no peer may have.
	besides := map[netip.Prefix]string{}
	for _, q := range hosts(p.hub.Address) {
		besides[q] = "the hub"
	}
	for _, q := range d.own() {
		besides[q] = "the node itself"
	}
	wide := false
	for i, peer := range s.m.Peers {
		for _, a := range peer.AllowedIPs {
			wide = wide || !a.IsSingleIP()
			other, taken := besides[a]
			if first := s.at[a][0]; first != i || slices.Index(s.at[a][1:], i) >= 0 {
				other, taken = "node "+s.m.Peers[first].Node, true
			}
			if taken {
				r.at.Prefix = a.String()
				r.bad(Allowed, "the map of node %s of %s allows %v both to %s and to node %s of %s", d.ID, d.Site, a, other, peer.Node, peer.Site)
			}
		}
	}
	r.at.Prefix = ""
	if !wide {
		return
	}
	all := slices.AppendSeq(slices.Collect(maps.Keys(besides)), maps.Keys(s.at))
	for a, b := range ipam.NewSet(all...).Collisions() {
		if a != b {
			r.bad(Allowed, "the map of node %s of %s allows %v to %s and %v to %s", d.ID, d.Site, a, s.holder(besides, a), b, s.holder(besides, b))
		}
	}
}

// holder names who is first allowed a prefix.
func (s *mapState) holder(besides map[netip.Prefix]string, q netip.Prefix) string {
	if who, ok := besides[q]; ok {
		return who
	}
	return "node " + s.m.Peers[s.at[q][0]].Node
}

// unexpected words a peer that must not be there.
func (p *Prover) unexpected(r *report, d Node, peer wire.Peer, want map[string]Node) {
	for _, id := range slices.Sorted(maps.Keys(p.keys[peer.PublicKey])) {
		n, ok := p.node(id)
		_, linked := want[id]
		switch {
		case !ok:
			continue
		case n.Site != d.Site && p.kindOf(n.Site) == wire.Clinic && p.kindOf(d.Site) == wire.Clinic:
			r.bad(Isolated, "the map of node %s of the clinic %s holds the key of node %s of the clinic %s", d.ID, d.Site, id, n.Site)
		case !linked:
			r.bad(Deny, "the map of node %s of %s holds the key of node %s of %s, and no grant links the two", d.ID, d.Site, id, n.Site)
		default:
			r.bad(Allowed, "the map of node %s of %s has the key of node %s of %s for the peer %s of %s", d.ID, d.Site, id, n.Site, peer.Node, peer.Site)
		}
		return
	}
	r.bad(Deny, "the map of node %s of %s has a peer %s of %s with a key that is no node's", d.ID, d.Site, peer.Node, peer.Site)
}
