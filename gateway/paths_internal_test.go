package gateway

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/path"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// An answer is taken for relayed peers of the plan alone, and no more of it than was agreed on.
func TestCandidatesAreThoseOfRelayedPeers(t *testing.T) {
	relayed, called, stranger := wgkey.PublicKey{1}, wgkey.PublicKey{2}, wgkey.PublicKey{3}
	m := wire.NetMap{Peers: []wire.Peer{
		{PublicKey: relayed, Relays: []string{"relay.example.org:51820"}}, {PublicKey: called, Endpoints: []string{"192.0.2.1:1"}, Relays: []string{"relay.example.org:51820"}},
	}}
	seen, local := netip.MustParseAddrPort("203.0.113.1:4711"), netip.MustParseAddrPort("192.168.1.5:51820")
	many := slices.Repeat([]netip.AddrPort{local}, 100)
	got := candidates(m, wire.PathsAnswer{Peers: []wire.PeerPaths{
		{PublicKey: relayed, Seen: seen, Local: many}, {PublicKey: called, Seen: seen}, {PublicKey: stranger, Seen: seen},
	}})
	list := got[relayed]
	if len(got) != 1 || len(list) != 1+wire.MaxLocalPaths || list[0] != (path.Candidate{Address: seen, Source: path.Observed}) || list[1] != (path.Candidate{Address: local, Source: path.Local}) {
		t.Errorf("%+v", got)
	}
	if got := candidates(m, wire.PathsAnswer{Peers: []wire.PeerPaths{{PublicKey: relayed, Mapped: seen}}})[relayed]; len(got) != 1 || got[0] != (path.Candidate{Address: seen, Source: path.Mapped}) {
		t.Errorf("of a peer with a port of its router: %+v", got)
	}
	if got := candidates(m, wire.PathsAnswer{Peers: []wire.PeerPaths{{PublicKey: relayed}}}); len(got[relayed]) != 0 {
		t.Errorf("of a peer that is nowhere: %+v", got)
	}
}
