package wire

import (
	"crypto/ed25519"
	"net/netip"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Member is what an operator's offline key says of a Node: that it belongs to the network, and to what addresses.
type Member struct {
	Network   string          `json:"network"`
	Node      string          `json:"node"`
	Kind      NodeKind        `json:"kind"`
	Site      string          `json:"site"`
	SiteKind  SiteKind        `json:"site_kind"`
	PublicKey wgkey.PublicKey `json:"public_key"`
	// NextKey is the key that the Node may change to; zero for none.
	NextKey wgkey.PublicKey `json:"next_key,omitzero"`
	// Prefixes are the allocations of its Site, sorted: nothing else may lead to the Node.
	Prefixes []netip.Prefix `json:"prefixes"`
}

// SignedMember is a Member as it was signed.
type SignedMember struct {
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
}

// Delegation is the right to sign maps, given by the network's key to one that is on the coordinator.
type Delegation struct {
	Key       ed25519.PublicKey `json:"key"`
	Signature []byte            `json:"signature"`
}
