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
