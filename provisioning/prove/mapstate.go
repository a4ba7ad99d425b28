package prove

import (
	"net/netip"
	"slices"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// mapState is a map, arranged for questions from others.
type mapState struct {
	m    wire.NetMap
	leaf hash
	// at has the peers by each single address they are allowed; wide has the peers with a wider allowed IP.
	at      map[netip.Addr][]int
	wide    []int
	peerOf  map[wgkey.PublicKey][]int
	useOf   map[string][]int
	offerAt map[uint16][]int
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
		m: m, leaf: l, at: make(map[netip.Addr][]int, len(m.Peers)), peerOf: make(map[wgkey.PublicKey][]int, len(m.Peers)),
		useOf: make(map[string][]int, len(m.Uses)), offerAt: make(map[uint16][]int, len(m.Offers)), admits: map[source]string{},
	}
	for i, peer := range m.Peers {
		s.peerOf[peer.PublicKey] = append(s.peerOf[peer.PublicKey], i)
		for _, a := range peer.AllowedIPs {
			if a.IsSingleIP() {
				s.at[a.Addr()] = append(s.at[a.Addr()], i)
			} else {
				s.wide = append(s.wide, i)
			}
		}
	}
	for i, o := range m.Offers {
		s.offerAt[o.Port] = append(s.offerAt[o.Port], i)
		for _, f := range o.From {
			s.admits[source{o.Port, f.Prefix}] = f.Site
		}
	}
	for i, u := range m.Uses {
		s.useOf[u.Service] = append(s.useOf[u.Service], i)
	}
	return s, err
}

// claimants are the peers of m that an address is allowed to, one for each claim.
func (s *mapState) claimants(a netip.Addr) []int {
	out := slices.Clone(s.at[a])
	for _, i := range s.wide {
		for _, w := range s.m.Peers[i].AllowedIPs {
			if !w.IsSingleIP() && w.Contains(a) && !slices.Contains(out, i) {
				out = append(out, i)
			}
		}
	}
	return out
}

// changes is what differs between two maps of one node, in the words in which a sound grant reads them: a peer by its key and addresses,
// a source by its address, a use by its service. All stands for what any grant reads.
type changes struct {
	all       bool
	keys      map[wgkey.PublicKey]bool
	addresses map[netip.Addr]bool
	services  map[string]bool
}

func changesOf(a, b *mapState) changes {
	c := changes{keys: map[wgkey.PublicKey]bool{}, addresses: map[netip.Addr]bool{}, services: map[string]bool{}}
	if a.m.Self != b.m.Self || a.m.Hub.Address != b.m.Hub.Address || len(a.wide)+len(b.wide) > 0 || !sameDoors(a.m.Offers, b.m.Offers) {
		c.all = true
		return c
	}
	c.peers(a, b)
	c.peers(b, a)
	c.sources(a, b)
	c.sources(b, a)
	for _, pair := range [][2]*mapState{{a, b}, {b, a}} {
		for _, u := range pair[0].m.Uses {
			if of := pair[1].useOf[u.Service]; len(of) != 1 || pair[1].m.Uses[of[0]] != u {
				c.services[u.Service] = true
			}
		}
	}
	return c
}

// peers notes the peers of a that b has not, or not alone.
func (c changes) peers(a, b *mapState) {
	for _, x := range a.m.Peers {
		at := b.peerOf[x.PublicKey]
		if len(at) == 1 && len(a.peerOf[x.PublicKey]) == 1 && samePeer(x, b.m.Peers[at[0]]) {
			continue
		}
		c.keys[x.PublicKey] = true
		for _, q := range x.AllowedIPs {
			c.addresses[q.Addr()] = true
		}
	}
}

func samePeer(x, y wire.Peer) bool {
	return x.Node == y.Node && x.Site == y.Site && slices.Equal(x.AllowedIPs, y.AllowedIPs) && (len(x.Endpoints) > 0) == (len(y.Endpoints) > 0)
}

func (c changes) sources(a, b *mapState) {
	for s, site := range a.admits {
		if other, ok := b.admits[s]; !ok || other != site {
			c.addresses[s.prefix.Addr()] = true
		}
	}
}

// sameDoors reports whether two lists of offers are at the same ports for the same services, in order.
func sameDoors(a, b []wire.Offer) bool {
	return slices.EqualFunc(a, b, func(x, y wire.Offer) bool { return x.Port == y.Port && x.Service == y.Service })
}
