package prove

import (
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// mapState is a map, arranged for questions from others.
type mapState struct {
	m    wire.NetMap
	leaf hash
	// at has the peers by each prefix they are allowed; lengths has the lengths of those of IPv4 and of IPv6.
	at      map[netip.Prefix][]int
	lengths [2][]int
	peerOf  map[wgkey.PublicKey][]int
	useOf   map[string][]int
	offerAt map[netip.AddrPort][]int
	// admits has the sources of each port.
	admits map[source]string
}

type source struct {
	port   uint16
	prefix netip.Prefix
}

func newMapState(m wire.NetMap) (*mapState, error) {
	l, err := mapLeaf(m)
	s := &mapState{
		m: m, leaf: l, at: make(map[netip.Prefix][]int, len(m.Peers)), peerOf: make(map[wgkey.PublicKey][]int, len(m.Peers)),
		useOf: make(map[string][]int, len(m.Uses)), offerAt: make(map[netip.AddrPort][]int, len(m.Offers)), admits: map[source]string{},
	}
	for i, peer := range m.Peers {
		s.peerOf[peer.PublicKey] = append(s.peerOf[peer.PublicKey], i)
		for _, a := range peer.AllowedIPs {
			s.at[a] = append(s.at[a], i)
			if l := &s.lengths[family(a.Addr())]; !slices.Contains(*l, a.Bits()) {
				*l = append(*l, a.Bits())
			}
		}
	}
	for i, o := range m.Offers {
		for _, place := range s.placesOf(o) {
			s.offerAt[place] = append(s.offerAt[place], i)
		}
		for _, f := range o.From {
			s.admits[source{o.Port, f.Prefix}] = f.Site
		}
	}
	for i, u := range m.Uses {
		s.useOf[u.Service] = append(s.useOf[u.Service], i)
	}
	return s, err
}

// family is 0 for IPv4, 1 for IPv6.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// placesOf are all places at which the node has an offer.
func (s *mapState) placesOf(o wire.Offer) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range s.own() {
		out = append(out, netip.AddrPortFrom(a, o.Port))
	}
	return append(out, o.Also...)
}

// own are the node's addresses.
func (s *mapState) own() []netip.Addr {
	if s.m.Self.Former.IsValid() {
		return []netip.Addr{s.m.Self.Address, s.m.Self.Former}
	}
	return []netip.Addr{s.m.Self.Address}
}

// claimants are the peers of m that an address is allowed to, one for each claim.
func (s *mapState) claimants(a netip.Addr) []int {
	var out []int
	for _, l := range s.lengths[family(a)] {
		if q, err := a.Prefix(l); err == nil {
			out = append(out, s.at[q]...)
		}
	}
	return out
}

// changes is what differs between two maps of one node, in the words in which a sound grant reads them: a peer by its key, a use by its
// service, a source by both sides of the grant. All stands for what any grant reads.
type changes struct {
	all      bool
	keys     map[wgkey.PublicKey]bool
	services map[string]bool
	grants   map[grantKey]bool
}

func changesOf(a, b *mapState) changes {
	c := changes{keys: map[wgkey.PublicKey]bool{}, services: map[string]bool{}, grants: map[grantKey]bool{}}
	before, after := a.m.Self, b.m.Self
	before.Member, after.Member = nil, nil
	if before != after || a.m.Hub.Address != b.m.Hub.Address || !sameDoors(a.m.Offers, b.m.Offers) || !slices.EqualFunc(a.m.Shared, b.m.Shared, sameShared) {
		c.all = true
		return c
	}
	c.moved(slices.Concat(c.peers(a, b), c.peers(b, a)), b)
	for _, pair := range [][2]*mapState{{a, b}, {b, a}} {
		c.sources(pair[0], pair[1])
		for _, u := range pair[0].m.Uses {
			if of := pair[1].useOf[u.Service]; len(of) != 1 || pair[1].m.Uses[of[0]] != u {
				c.services[u.Service] = true
			}
		}
	}
	return c
}

// peers notes the peers of a that b has not, or not alone, and returns what they are allowed.
func (c changes) peers(a, b *mapState) []netip.Prefix {
	var out []netip.Prefix
	for _, x := range a.m.Peers {
		at := b.peerOf[x.PublicKey]
		if len(at) == 1 && len(a.peerOf[x.PublicKey]) == 1 && samePeer(x, b.m.Peers[at[0]]) {
			continue
		}
		c.keys[x.PublicKey] = true
		out = append(out, x.AllowedIPs...)
	}
	return out
}

// moved notes what of s, that stayed as it was, is at or comes from prefixes that are allowed to others than before.
func (c changes) moved(prefixes []netip.Prefix, s *mapState) {
	if len(prefixes) == 0 {
		return
	}
	set := ipam.NewSet(prefixes...)
	for _, u := range s.m.Uses {
		if set.Overlaps(host(u.Address.Addr())) {
			c.services[u.Service] = true
		}
	}
	for _, o := range s.m.Offers {
		for _, f := range o.From {
			if set.Overlaps(f.Prefix) {
				c.grants[grantKey{o.Service, f.Site}] = true
			}
		}
	}
}

func samePeer(x, y wire.Peer) bool {
	return x.Node == y.Node && x.Site == y.Site && slices.Equal(x.AllowedIPs, y.AllowedIPs) && (len(x.Endpoints) > 0) == (len(y.Endpoints) > 0)
}

// sources notes the grants of the sources of a that b has not. Both have the same offers.
func (c changes) sources(a, b *mapState) {
	for _, o := range a.m.Offers {
		for _, f := range o.From {
			if site, ok := b.admits[source{o.Port, f.Prefix}]; !ok || site != f.Site {
				c.grants[grantKey{o.Service, f.Site}] = true
			}
		}
	}
}

// sameDoors reports whether two lists of offers are at the same places for the same services, in order.
func sameDoors(a, b []wire.Offer) bool {
	return slices.EqualFunc(a, b, func(x, y wire.Offer) bool {
		return x.Port == y.Port && x.Service == y.Service && slices.Equal(x.Also, y.Also)
	})
}

func sameShared(a, b wire.Shared) bool {
	return a.Site == b.Site && slices.Equal(a.Gateways, b.Gateways) && slices.Equal(a.Prefixes, b.Prefixes)
}
