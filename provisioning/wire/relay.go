package wire

import "github.com/towpath/towpath/tunnel/wgkey"

// RelayServer is a Node of kind relay with which another keeps a session, so that the relay knows where it is. Nothing is routed to or
// from it, so that no Member needs to cover it.
type RelayServer struct {
	Node      string          `json:"node"`
	PublicKey wgkey.PublicKey `json:"public_key"`
	// NextKey is the key that the relay will change to; the zero value means that it keeps its own.
	NextKey wgkey.PublicKey `json:"next_key,omitzero"`
	// Endpoints are host:port, names or literals, in order of preference.
	Endpoints []string `json:"endpoints"`
}

// RelayTable is what a relay forwards: packets between the two Nodes of a pair, which it cannot open.
type RelayTable struct {
	// Members are sorted by Node.
	Members []RelayMember `json:"members,omitempty"`
	// Pairs are places in Members, sorted, the lower one first.
	Pairs [][2]int `json:"pairs,omitempty"`
}

// RelayMember is a Node that others may be relayed to.
type RelayMember struct {
	PublicKey wgkey.PublicKey `json:"public_key"`
	NextKey   wgkey.PublicKey `json:"next_key,omitzero"`
	// Unmanaged Nodes have no session with a relay.
	Unmanaged bool `json:"unmanaged,omitempty"`
}
