package tunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Limits of a Config. MaxPeers is what wireguard-go accepts; MaxAllowedIPs keeps one Config within a few dozen megabytes.
const (
	MaxPeers      = 1 << 16
	MaxAllowedIPs = 1 << 18 // over all peers
	MinMTU        = 576     // what every IPv4 host must take (RFC 791 §3.1)
	MinMTU6       = 1280    // what every IPv6 link must carry (RFC 8200 §5)
	MaxMTU        = 65535
	MaxKeepalive  = 65535 * time.Second // the field has 16 bits
)

// maxProblems bounds the length of a validation error.
const maxProblems = 20

// ErrInvalid is wrapped by every error of Config.Validate.
var ErrInvalid = errors.New("invalid tunnel configuration")

// Validate reports everything that a device could not apply, or would apply to something else than the Config says. Devices call it
// before they touch anything. All problems are joined, at most twenty of them; every one wraps ErrInvalid.
//
// AllowedIPs of two peers may not overlap at all, not even nested: WireGuard would send the inner prefix to its owner only as long
// as that peer exists, and to the owner of the outer one from the moment it is removed. Revoking a peer must never redirect its
// traffic. Within one peer nesting is harmless and allowed.
func (c Config) Validate() error {
	var v problems
	if c.PrivateKey.IsZero() {
		v.add("no private key")
	}
	v.device(c)
	v.peers(c)
	v.overlaps(c.Peers)
	return errors.Join(v...)
}

type problems []error

func (v *problems) add(format string, args ...any) {
	if len(*v) < maxProblems {
		*v = append(*v, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
	}
}

func (v *problems) device(c Config) {
	if c.MTU != 0 && (c.MTU < MinMTU || c.MTU > MaxMTU) {
		v.add("MTU %d is not between %d and %d", c.MTU, MinMTU, MaxMTU)
	}
	seen := make(map[netip.Addr]bool, len(c.Addresses))
	for _, p := range c.Addresses {
		a := p.Addr()
		switch {
		case !p.IsValid() || !p.IsSingleIP():
			v.add("address %v is not a host prefix (/32 or /128)", p)
			continue
		case a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
			v.add("address %v cannot belong to an interface", p)
		case seen[a]:
			v.add("address %v is there twice", p)
		}
		if a.Is6() && c.MTU != 0 && c.MTU < MinMTU6 {
			v.add("address %v needs an MTU of at least %d, not %d", p, MinMTU6, c.MTU)
		}
		seen[a] = true
	}
	for _, p := range c.Blackhole {
		if !masked(p) {
			v.add("blackhole prefix %v is not a masked prefix", p)
		}
	}
}

func (v *problems) peers(c Config) {
	if len(c.Peers) > MaxPeers {
		v.add("%d peers are more than %d", len(c.Peers), MaxPeers)
	}
	own, _ := c.PrivateKey.Public()
	seen := make(map[wgkey.PublicKey]bool, len(c.Peers))
	prefixes := 0
	for _, p := range c.Peers {
		k := p.PublicKey
		switch {
		case k.IsZero():
			v.add("a peer has no public key")
		case k == own:
			v.add("peer %v has the device's own key", k)
		case seen[k]:
			v.add("peer %v is there twice", k)
		}
		seen[k] = true
		if e := p.Endpoint; e != (netip.AddrPort{}) {
			if !e.IsValid() || e.Port() == 0 || e.Addr().IsUnspecified() || e.Addr().IsMulticast() {
				v.add("peer %v: endpoint %v cannot be sent to", k, e)
			}
			for _, b := range c.Blackhole {
				if b.Contains(e.Addr().Unmap()) {
					v.add("peer %v: endpoint %v lies inside the overlay prefix %v, so the tunnel would have to run inside itself", k, e, b)
				}
			}
		}
		if p.PersistentKeepalive < 0 || p.PersistentKeepalive > MaxKeepalive {
			v.add("peer %v: persistent keepalive %v is not between 0 and %v", k, p.PersistentKeepalive, MaxKeepalive)
		}
		for _, a := range p.AllowedIPs {
			if !masked(a) {
				v.add("peer %v: allowed IP %v is not a masked prefix", k, a)
			}
		}
		prefixes += len(p.AllowedIPs)
	}
	if prefixes > MaxAllowedIPs {
		v.add("%d allowed IPs are more than %d", prefixes, MaxAllowedIPs)
	}
	v.nexts(c.Peers, own, seen)
}

// nexts looks at the keys that peers will change to. While both are there, each counts as a peer.
func (v *problems) nexts(peers []Peer, own wgkey.PublicKey, inUse map[wgkey.PublicKey]bool) {
	next := make(map[wgkey.PublicKey]wgkey.PublicKey)
	for _, p := range peers {
		k := p.Next
		if k.IsZero() {
			continue
		}
		other, twice := next[k]
		switch {
		case k == own:
			v.add("peer %v is to change to the device's own key", p.PublicKey)
		case k == p.PublicKey:
			v.add("peer %v is to change to the key that it has", k)
		case inUse[k]:
			v.add("peer %v is to change to %v, which is another peer's key", p.PublicKey, k)
		case twice:
			v.add("peers %v and %v are to change to the same key %v", other, p.PublicKey, k)
		}
		next[k] = p.PublicKey
	}
	if n := len(peers) + len(next); len(peers) <= MaxPeers && n > MaxPeers {
		v.add("%d peers and the %d keys that they will change to are more than %d", len(peers), len(next), MaxPeers)
	}
}

// overlaps reports prefixes that two peers share, in whole or in part. Sorted, a prefix follows all that contain it; as soon as the
// nearest of those has the same owner, the others have been compared with that one.
func (v *problems) overlaps(peers []Peer) {
	type owned struct {
		prefix netip.Prefix
		owner  wgkey.PublicKey
	}
	var all []owned
	for _, p := range peers {
		for _, a := range p.AllowedIPs {
			if masked(a) {
				all = append(all, owned{a, p.PublicKey})
			}
		}
	}
	slices.SortFunc(all, func(a, b owned) int { return a.prefix.Compare(b.prefix) })
	var open []owned
	for _, o := range all {
		for len(open) > 0 && !open[len(open)-1].prefix.Overlaps(o.prefix) {
			open = open[:len(open)-1]
		}
		if n := len(open); n > 0 && open[n-1].owner != o.owner {
			v.add("allowed IP %v of peer %v overlaps %v of peer %v", o.prefix, o.owner, open[n-1].prefix, open[n-1].owner)
		}
		open = append(open, o)
	}
}

func masked(p netip.Prefix) bool {
	return p.IsValid() && p == p.Masked() && !p.Addr().Is4In6()
}
