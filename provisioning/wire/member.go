package wire

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
	// Prefixes are the allocations of its Site that a Node of its Kind may have addresses in, sorted: nothing else may lead to the Node.
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

const (
	// memberContext and delegationContext separate these signatures from any other use of the same key, see netMapContext.
	memberContext     = "member v1\x00"
	delegationContext = "map key v1\x00"
	// maxMember bounds the payload of a SignedMember, in bytes; MaxMemberPrefixes is what fits.
	maxMember = 32 << 10
)

// MaxMemberPrefixes is how many Prefixes a Member may have.
const MaxMemberPrefixes = 256

// Delegate gives key the right to sign maps.
func Delegate(network ed25519.PrivateKey, key ed25519.PublicKey) Delegation {
	return Delegation{Key: key, Signature: ed25519.Sign(network, append([]byte(delegationContext), key...))}
}

// Verify checks that the network's key has signed d. The error is ErrSignature.
func (d Delegation) Verify(network ed25519.PublicKey) error {
	if len(d.Key) != ed25519.PublicKeySize || !verify(network, delegationContext, d.Key, d.Signature) {
		return fmt.Errorf("%w: the key that signs maps has no right to", ErrSignature)
	}
	return nil
}

// Check says what is wrong with m in itself; nil if nothing is.
func (m Member) Check() error {
	switch {
	case !plainName(m.Network) || !plainName(m.Node) || !plainName(m.Site):
		return fmt.Errorf("its network, node and site must be 1 to %d characters of printable ASCII without spaces", maxMemberName)
	case m.Kind != Gateway && m.Kind != Relay && m.Kind != Workstation && m.Kind != Unmanaged:
		return fmt.Errorf("%q is no kind of node", m.Kind)
	case m.SiteKind != Clinic && m.SiteKind != Center:
		return fmt.Errorf("%q is no kind of site", m.SiteKind)
	case m.PublicKey.IsZero() || m.PublicKey == m.NextKey:
		return errors.New("it has no key, or the same twice")
	case len(m.Prefixes) > MaxMemberPrefixes:
		return fmt.Errorf("it has %d prefixes and %d are the limit", len(m.Prefixes), MaxMemberPrefixes)
	}
	for i, p := range m.Prefixes {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || (i > 0 && m.Prefixes[i-1].Compare(p) >= 0) {
			return fmt.Errorf("%v is not a prefix in its order", p)
		}
	}
	return nil
}

// Sign encodes and signs m with the network's key. It refuses what Check does, and another network's Member.
func (m Member) Sign(network ed25519.PrivateKey) (SignedMember, error) {
	if err := m.Check(); err != nil {
		return SignedMember{}, fmt.Errorf("sign the member %s: %w", m.Node, err)
	}
	if own := NetworkID(network.Public().(ed25519.PublicKey)); m.Network != own {
		return SignedMember{}, fmt.Errorf("sign the member %s: it is of network %s, and the key of %s", m.Node, m.Network, own)
	}
	p, err := json.Marshal(m)
	if err != nil {
		return SignedMember{}, fmt.Errorf("encode the member %s: %w", m.Node, err)
	}
	return SignedMember{Payload: p, Signature: ed25519.Sign(network, append([]byte(memberContext), p...))}, nil
}

// Open verifies s with the network's key and decodes it. Every error is ErrSignature.
func (s SignedMember) Open(network ed25519.PublicKey) (Member, error) {
	if len(s.Payload) > maxMember || !verify(network, memberContext, s.Payload, s.Signature) {
		return Member{}, ErrSignature
	}
	var m Member
	if err := json.Unmarshal(s.Payload, &m); err != nil {
		return Member{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if m.Network != NetworkID(network) {
		return Member{}, fmt.Errorf("%w: it is of network %s", ErrSignature, m.Network)
	}
	if err := m.Check(); err != nil {
		return Member{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return m, nil
}

// maxMemberName bounds the names in a Member, which are shown to the person who signs it.
const maxMemberName = 64

func plainName(s string) bool {
	return s != "" && len(s) <= maxMemberName && !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' })
}

// Has reports whether k is one of the keys of m.
func (m Member) Has(k wgkey.PublicKey) bool {
	return !k.IsZero() && (k == m.PublicKey || k == m.NextKey)
}

// Covers reports whether all of p lies in one of the Prefixes.
func (m Member) Covers(p netip.Prefix) bool { return within(m.Prefixes, p) }

// within reports whether one of the prefixes holds all of p.
func within(list []netip.Prefix, p netip.Prefix) bool {
	return p.IsValid() && slices.ContainsFunc(list, func(l netip.Prefix) bool { return l.Bits() <= p.Bits() && l.Contains(p.Addr()) })
}
