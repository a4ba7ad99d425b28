package wgo

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/path"
	"github.com/towpath/towpath/tunnel/steer"
	"github.com/towpath/towpath/tunnel/uapi"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// steered has the Bind steer all relayed peers of c, and returns c as the device is to see it: their endpoints are aliases.
func (d *Device) steered(c tunnel.Config) (tunnel.Config, error) {
	if d.steer == nil {
		return c, nil
	}
	// No peer is at an address of the plan, and all that is routed is in it.
	s := steer.Config{PrivateKey: c.PrivateKey, Filter: path.Filter{Inside: slices.Clone(c.Blackhole)}}
	c.Peers = slices.Clone(c.Peers)
	for i := range c.Peers {
		p := &c.Peers[i]
		if p.Relayed && p.Endpoint.IsValid() {
			s.Peers = append(s.Peers, steer.Peer{PublicKey: p.PublicKey, Relay: p.Endpoint})
			p.Endpoint = steer.Alias(p.PublicKey)
		}
	}
	if err := d.steer.Configure(s); err != nil {
		return c, fmt.Errorf("steer the relayed peers: %w", err)
	}
	return c, nil
}

// diff is tunnel.Diff, except that a peer which begins or ends to be steered is made anew: whether the device follows it to where its packets
// come from is decided when it is made.
func diff(old, next tunnel.Config) tunnel.Change {
	was := make(map[wgkey.PublicKey]bool, len(old.Peers))
	for _, p := range old.Peers {
		was[p.PublicKey] = steer.IsAlias(p.Endpoint)
	}
	anew := map[wgkey.PublicKey]bool{}
	for _, p := range next.Peers {
		if had, ok := was[p.PublicKey]; ok && had != steer.IsAlias(p.Endpoint) {
			anew[p.PublicKey] = true
		}
	}
	if len(anew) == 0 {
		return tunnel.Diff(old, next)
	}
	stay := old
	stay.Peers = slices.DeleteFunc(slices.Clone(old.Peers), func(p tunnel.Peer) bool { return anew[p.PublicKey] })
	c := tunnel.Diff(stay, next)
	for k := range anew {
		c.Removed = append(c.Removed, k)
	}
	slices.SortFunc(c.Removed, func(a, b wgkey.PublicKey) int { return slices.Compare(a[:], b[:]) })
	return c
}

// render is uapi.Render, except that new peers which are not steered get their endpoint in a second step, and with it the keepalive that calls
// there: the device would never follow those that are made with one to another address.
func (d *Device) render(c tunnel.Change) []byte {
	if d.steer == nil {
		return uapi.Render(c)
	}
	var second tunnel.Change
	c.Added = slices.Clone(c.Added)
	for i := range c.Added {
		p := &c.Added[i]
		if !p.Endpoint.IsValid() || steer.IsAlias(p.Endpoint) {
			continue
		}
		u := tunnel.PeerChange{PublicKey: p.PublicKey, Endpoint: &netip.AddrPort{}}
		*u.Endpoint = p.Endpoint
		if k := p.PersistentKeepalive; k != 0 {
			u.PersistentKeepalive = &k
		}
		p.Endpoint, p.PersistentKeepalive = netip.AddrPort{}, 0
		second.Updated = append(second.Updated, u)
	}
	first := uapi.Render(c)
	rest := uapi.Render(second)
	out := slices.Concat(first, rest)
	clear(first)
	return out
}
