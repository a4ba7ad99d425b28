package prove

import (
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// gateway reports whether n stands for its Site: what leads there leads to its gateways.
func (n Node) gateway() bool { return n.Kind == "" }

// dials reports whether n only uses what its Site may use, its own included.
func (n Node) dials() bool { return n.Kind == wire.Workstation || n.Kind == wire.Unmanaged }

// uses reports whether n is to be told of what its Site may use; own says that it is at its own Site. A gateway stands in the LAN in which
// those things are.
func (n Node) uses(own bool) bool { return n.dials() || n.gateway() && !own }

// named is n's kind in words.
func (n Node) named() wire.NodeKind {
	if n.gateway() {
		return wire.Gateway
	}
	return n.Kind
}

// rotation is how far a change of n's key is, as n and others are to be told: not at all, if something is wrong with it.
func (p *Prover) rotation(n Node) (step wire.RotateStep, next wgkey.PublicKey, fault string) {
	k := n.NextKey
	switch n.Rotate {
	case "", wire.RotateMake:
		if !k.IsZero() {
			return "", wgkey.PublicKey{}, "has a next key too early"
		}
	case wire.RotateWait, wire.RotateTurn:
		switch {
		case k.IsZero():
			return "", k, "has no next key to change to"
		case len(p.keys[k]) > 0 || k == p.hub.PublicKey || len(p.next[k]) != 1:
			return "", wgkey.PublicKey{}, "is to change to a key that is not its own alone"
		}
	default:
		return "", wgkey.PublicKey{}, "is at an unknown step of its key change"
	}
	return n.Rotate, k, ""
}

// nextKey is what others are told of it.
func (p *Prover) nextKey(n Node) wgkey.PublicKey {
	_, next, _ := p.rotation(n)
	return next
}

// gatewaysOf returns the gateways of a site by id.
func (p *Prover) gatewaysOf(site string) []Node {
	var out []Node
	for _, n := range p.nodesOf(site) {
		if n.gateway() {
			out = append(out, n)
		}
	}
	return out
}

// peers are those that a node must have, by id: the gateways of the sites of which it uses something, and if it is a gateway those who use
// something of its own site.
func (p *Prover) peers(d Node, used map[string]bool) map[string]Node {
	want := map[string]Node{}
	for site := range used {
		for _, n := range p.gatewaysOf(site) {
			want[n.ID] = n
		}
	}
	if !d.gateway() {
		return want
	}
	for site := range p.served(d.Site) {
		for _, n := range p.nodesOf(site) {
			if n.uses(site == d.Site) {
				want[n.ID] = n
			}
		}
	}
	return want
}

// used are the sites of which a node uses something by a sound Grant.
func (p *Prover) used(d Node) map[string]bool {
	out := map[string]bool{}
	s := p.sites[d.Site]
	if s == nil {
		return out
	}
	for name := range s.uses {
		if v, ok := p.service(name); ok && p.may(v.Site, d.Site) && d.uses(v.Site == d.Site) {
			out[v.Site] = true
		}
	}
	return out
}

// served are the sites that a sound Grant lets use something of a site.
func (p *Prover) served(site string) map[string]bool {
	out := map[string]bool{}
	s := p.sites[site]
	if s == nil {
		return out
	}
	for name := range s.offers {
		v, ok := p.service(name)
		if !ok || v.Site != site {
			continue
		}
		for user := range p.services[name].users {
			if p.may(site, user) {
				out[user] = true
			}
		}
	}
	return out
}

// may reports whether a Grant may let a site use a Service of another, or its own.
func (p *Prover) may(owner, user string) bool {
	return owner == user || p.kindOf(owner) == wire.Center || p.kindOf(user) == wire.Center
}
