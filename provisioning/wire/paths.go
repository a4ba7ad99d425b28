package wire

import (
	"net/netip"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// PathPaths is where a Node asks, by POST of a PathsQuestion, where its relayed Peers may be reached directly. It is part of the control API
// inside WireGuard. The answer is not signed and need not be: an address is only tried, with probes that nobody but the Peer can answer.
const PathPaths = "/v1/paths"

// Limits of a PathsQuestion and its answer.
const (
	MaxLocalPaths = 6
	MaxPathPeers  = 4096
)

// PathsQuestion says where the asking Node may be reached from inside its own network.
type PathsQuestion struct {
	// Local are addresses of its interfaces with its WireGuard port, at most MaxLocalPaths.
	Local []netip.AddrPort `json:"local,omitempty"`
	// Mapped is where its router takes packets for its WireGuard port, by its own word; zero if it does not.
	Mapped netip.AddrPort `json:"mapped,omitzero"`
}

// PathsAnswer is what the coordinator knows.
type PathsAnswer struct {
	// Seen is where the hub sees the asking Node; zero if it is carried over TCP.
	Seen netip.AddrPort `json:"seen,omitzero"`
	// Peers are the relayed Peers of its NetMap of which something is known, at most MaxPathPeers.
	Peers []PeerPaths `json:"peers,omitempty"`
}

// PeerPaths are addresses of one Peer.
type PeerPaths struct {
	PublicKey wgkey.PublicKey `json:"public_key"`
	// Seen is where the hub sees it.
	Seen netip.AddrPort `json:"seen,omitzero"`
	// Mapped is where its router takes packets for it; zero unless that is at the address of Seen.
	Mapped netip.AddrPort `json:"mapped,omitzero"`
	// Local are those that it told. They are left out for a Peer that is not behind the same public address.
	Local []netip.AddrPort `json:"local,omitempty"`
}
