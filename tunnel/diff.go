package tunnel

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Change is the difference between two Configs at the level of WireGuard itself: keys, port and peers. Addresses, MTU and routes are
// the backends' own. Every list is sorted, so that equal differences have equal Changes.
//
// Apply it in the order of the fields: what is taken away goes first, so that an error half-way leaves less allowed, never more.
type Change struct {
	// PrivateKey is the new key; nil leaves it. A new key ends all sessions.
	PrivateKey *wgkey.PrivateKey
	// ListenPort is the new UDP port, never 0; nil leaves it.
	ListenPort *uint16
	Removed    []wgkey.PublicKey
	Updated    []PeerChange
	Added      []Peer
}

// PeerChange is what changes for a peer that stays. Nil and empty fields leave things as they are.
type PeerChange struct {
	PublicKey wgkey.PublicKey
	// PresharedKey is the new key; a zero key removes it. The running session is not affected, the next handshake is.
	PresharedKey *wgkey.PresharedKey
	// Endpoint is set only if the configured value became another valid one, so that a roamed endpoint is never overwritten.
	Endpoint *netip.AddrPort
	// PersistentKeepalive is in whole seconds.
	PersistentKeepalive *time.Duration
	// RemovedIPs must leave this peer before any AddedIPs of any peer are applied: a prefix may move from one to the other.
	RemovedIPs, AddedIPs []netip.Prefix
	// KeptIPs are those that stay, for interfaces which can only replace the whole list.
	KeptIPs []netip.Prefix
}

// IsZero reports whether there is nothing to do.
func (c Change) IsZero() bool {
	return c.PrivateKey == nil && c.ListenPort == nil && len(c.Removed) == 0 && len(c.Updated) == 0 && len(c.Added) == 0
}

// Diff works out how to get from old to next, which must be valid. Old is what was last configured or what a device reports, with each
// Endpoint being the last configured one. Neither is modified. Next keys are ignored: to a device they are nothing.
func Diff(old, next Config) Change {
	var c Change
	if !old.PrivateKey.Equal(next.PrivateKey) {
		c.PrivateKey = &next.PrivateKey
	}
	if next.ListenPort != 0 && next.ListenPort != old.ListenPort {
		c.ListenPort = &next.ListenPort
	}
	had := make(map[wgkey.PublicKey]Peer, len(old.Peers))
	for _, p := range old.Peers {
		had[p.PublicKey] = p
	}
	for _, p := range next.Peers {
		o, ok := had[p.PublicKey]
		delete(had, p.PublicKey)
		if !ok {
			p.AllowedIPs = sortedSet(p.AllowedIPs)
			p.PersistentKeepalive = WholeSeconds(p.PersistentKeepalive)
			p.Next = wgkey.PublicKey{}
			c.Added = append(c.Added, p)
		} else if u, changed := diffPeer(o, p); changed {
			c.Updated = append(c.Updated, u)
		}
	}
	for k := range had {
		c.Removed = append(c.Removed, k)
	}
	slices.SortFunc(c.Removed, compareKeys)
	slices.SortFunc(c.Updated, func(a, b PeerChange) int { return compareKeys(a.PublicKey, b.PublicKey) })
	slices.SortFunc(c.Added, func(a, b Peer) int { return compareKeys(a.PublicKey, b.PublicKey) })
	return c
}

func diffPeer(old, next Peer) (u PeerChange, changed bool) {
	u.PublicKey = next.PublicKey
	if !old.PresharedKey.Equal(next.PresharedKey) {
		u.PresharedKey = &next.PresharedKey
	}
	if next.Endpoint.IsValid() && next.Endpoint != old.Endpoint {
		u.Endpoint = &next.Endpoint
	}
	if k := WholeSeconds(next.PersistentKeepalive); k != WholeSeconds(old.PersistentKeepalive) {
		u.PersistentKeepalive = &k
	}
	had, want := sortedSet(old.AllowedIPs), sortedSet(next.AllowedIPs)
	for _, p := range had {
		if _, ok := slices.BinarySearchFunc(want, p, netip.Prefix.Compare); ok {
			u.KeptIPs = append(u.KeptIPs, p)
		} else {
			u.RemovedIPs = append(u.RemovedIPs, p)
		}
	}
	for _, p := range want {
		if _, ok := slices.BinarySearchFunc(had, p, netip.Prefix.Compare); !ok {
			u.AddedIPs = append(u.AddedIPs, p)
		}
	}
	return u, u.PresharedKey != nil || u.Endpoint != nil || u.PersistentKeepalive != nil || len(u.RemovedIPs)+len(u.AddedIPs) > 0
}

// WholeSeconds rounds a keepalive interval the way devices apply it: to the nearest second, but a positive one never to 0, which
// would turn it off.
func WholeSeconds(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return max(d.Round(time.Second), time.Second)
}

func sortedSet(ps []netip.Prefix) []netip.Prefix {
	s := slices.Clone(ps)
	slices.SortFunc(s, netip.Prefix.Compare)
	return slices.Compact(s)
}

func compareKeys(a, b wgkey.PublicKey) int { return bytes.Compare(a[:], b[:]) }
