package wire

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Unsigned is something in a map that the network's offline key has not agreed to.
type Unsigned struct {
	// Subject is "self" or "hub", or names what was left out: "peer node_…", "use lab-pacs", "offer lab-pacs".
	Subject string
	Reason  string
}

// String is a sentence.
func (u Unsigned) String() string { return u.Subject + ": " + u.Reason }

// Refuses reports whether nothing of the map is to be taken because of u.
func (u Unsigned) Refuses() bool { return u.Subject == subjectSelf || u.Subject == subjectHub }

const (
	subjectSelf = "self"
	subjectHub  = "hub"
)

// Restrict leaves of a delegated map what the Members in it cover: no peer, key or route that the network's key has not signed, no two
// clinics, and no Use or Offer that then leads nowhere. Where Self or the Hub are not to be believed it returns no map at all, and one of
// the Unsigned Refuses. Another map is returned as it is. m is not changed.
//
// What the coordinator still decides is which of the signed Nodes meet, at what endpoints, and what is offered there.
func Restrict(m NetMap, network ed25519.PublicKey) (NetMap, []Unsigned) {
	if !m.Delegated {
		return m, nil
	}
	r := restriction{network: network, overlay: m.Overlay}
	if !r.takeSelf(m.Self) {
		return NetMap{}, r.unsigned
	}
	peers := make([]Peer, 0, len(m.Peers))
	for _, p := range m.Peers {
		if p, ok := r.peer(p); ok {
			peers = append(peers, p)
		}
	}
	if !r.hub(m.Hub) {
		return NetMap{}, r.unsigned
	}
	m.Peers = some(peers)
	m.Offers = r.offers(m.Offers)
	m.Uses = r.uses(m.Uses)
	m.Shared = r.shared(m.Shared)
	return m, r.unsigned
}

// some is l, or nil if it is empty, as in a map that has none.
func some[T any](l []T) []T {
	if len(l) == 0 {
		return nil
	}
	return l
}

type restriction struct {
	network  ed25519.PublicKey
	overlay  []netip.Prefix
	self     Member
	members  []Member // of the peers that are left
	routes   []route  // to them
	unsigned []Unsigned
}

// route is a prefix that leads to a peer.
type route struct {
	prefix netip.Prefix
	site   string
}

func (r *restriction) note(subject, format string, a ...any) bool {
	r.unsigned = append(r.unsigned, Unsigned{Subject: subject, Reason: fmt.Sprintf(format, a...)})
	return false
}

func (r *restriction) takeSelf(s Self) bool {
	m, err := r.open(s.Member)
	if err != nil {
		return r.note(subjectSelf, "%v", err)
	}
	if why := m.differs(s.Node, s.Kind, s.Site, s.PublicKey); why != "" {
		return r.note(subjectSelf, "%s", why)
	}
	if m.SiteKind != s.SiteKind {
		return r.note(subjectSelf, "it was signed for a %s", m.SiteKind)
	}
	if !r.leads(m, hostPrefix(s.Address)) {
		return r.note(subjectSelf, "its address %v was not signed", s.Address)
	}
	if s.Former.IsValid() && !r.leads(m, hostPrefix(s.Former)) {
		return r.note(subjectSelf, "its former address %v was not signed", s.Former)
	}
	if !s.NextKey.IsZero() && s.Rotate == RotateTurn && !m.Has(s.NextKey) {
		return r.note(subjectSelf, "its next key was not signed")
	}
	r.self = m
	return true
}

// hub refuses one at an address that was signed for a Node: it would be sent what is meant for that.
func (r *restriction) hub(h Hub) bool {
	if !h.Address.IsValid() || h.PublicKey.IsZero() {
		return r.note(subjectHub, "it has no address or no key")
	}
	for _, m := range append([]Member{r.self}, r.members...) {
		if m.Covers(hostPrefix(h.Address)) {
			return r.note(subjectHub, "its address %v was signed for site %s", h.Address, m.Site)
		}
		if m.Has(h.PublicKey) {
			return r.note(subjectHub, "its key was signed for node %s", m.Node)
		}
	}
	return true
}

// peer returns what is left of p.
func (r *restriction) peer(p Peer) (Peer, bool) {
	subject := "peer " + p.Node
	m, err := r.open(p.Member)
	if err != nil {
		return p, r.note(subject, "%v", err)
	}
	if why := m.differs(p.Node, p.Kind, p.Site, p.PublicKey); why != "" {
		return p, r.note(subject, "%s", why)
	}
	if m.Has(r.self.PublicKey) || m.Has(r.self.NextKey) {
		return p, r.note(subject, "it has the key of this box")
	}
	if m.SiteKind == Clinic && r.self.SiteKind == Clinic && m.Site != r.self.Site {
		return p, r.note(subject, "two clinics never meet")
	}
	if !p.NextKey.IsZero() && !m.Has(p.NextKey) {
		r.note(subject, "its next key was not signed")
		p.NextKey = wgkey.PublicKey{}
	}
	var allowed []netip.Prefix
	for _, a := range p.AllowedIPs {
		if r.leads(m, a) {
			allowed = append(allowed, a)
			continue
		}
		r.note(subject, "%v was not signed", a)
	}
	if len(allowed) == 0 {
		return p, r.note(subject, "nothing leads to it")
	}
	p.AllowedIPs = allowed
	r.members = append(r.members, m)
	for _, a := range allowed {
		r.routes = append(r.routes, route{a, p.Site})
	}
	return p, true
}

// offers leaves the sources that are peers, and the places that are this Site's.
func (r *restriction) offers(offers []Offer) []Offer {
	known := make(map[Source]bool, len(r.routes))
	for _, t := range r.routes {
		known[Source{Site: t.site, Prefix: t.prefix}] = true
	}
	var out []Offer
	for _, o := range offers {
		var from []Source
		for _, s := range o.From {
			if known[s] {
				from = append(from, s)
			}
		}
		if len(from) < len(o.From) {
			r.note("offer "+o.Service, "%d of %d who may use it are no signed peers", len(o.From)-len(from), len(o.From))
		}
		if len(from) == 0 {
			continue
		}
		var also []netip.AddrPort
		for _, a := range o.Also {
			if r.leads(r.self, hostPrefix(a.Addr())) {
				also = append(also, a)
				continue
			}
			r.note("offer "+o.Service, "its address %v was not signed", a.Addr())
		}
		o.From, o.Also = from, also
		out = append(out, o)
	}
	return out
}

func (r *restriction) uses(uses []Use) []Use {
	var out []Use
	for _, u := range uses {
		if slices.ContainsFunc(r.routes, func(t route) bool { return t.site == u.Site && t.prefix.Contains(u.Address.Addr()) }) {
			out = append(out, u)
			continue
		}
		r.note("use "+u.Service, "no signed peer of site %s has the address %v", u.Site, u.Address.Addr())
	}
	return out
}

// leads reports whether p may lead to m: it was signed, and is of the plan, so that nothing for it leaves outside of the tunnel.
func (r *restriction) leads(m Member, p netip.Prefix) bool {
	return m.Covers(p) && within(r.overlay, p)
}

var errNoMember = errors.New("it was not signed with the network's offline key")

func (r *restriction) open(s *SignedMember) (Member, error) {
	if s == nil {
		return Member{}, errNoMember
	}
	return s.Open(r.network)
}

// differs says why m is not of a Node; empty if it is.
func (m Member) differs(node string, kind NodeKind, site string, key wgkey.PublicKey) string {
	if kind == "" {
		kind = Gateway
	}
	switch {
	case m.Node != node:
		return "what was signed is node " + m.Node
	case m.Kind != kind:
		return "it was signed as " + string(m.Kind)
	case m.Site != site:
		return "it was signed for site " + m.Site
	case !m.Has(key):
		return "its key was not signed"
	}
	return ""
}

// hostPrefix is the prefix of one address; that of the zero Addr is not valid.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
