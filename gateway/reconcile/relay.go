package reconcile

import (
	"net/netip"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// way is where a peer is called: at itself if it has an endpoint, else at a relay. The zero value means that it calls.
func way(p wire.Peer, resolved map[string]netip.AddrPort) netip.AddrPort {
	if len(p.Endpoints) > 0 {
		return first(p.Endpoints, resolved)
	}
	return first(p.Relays, resolved)
}

// relayed reports whether a peer is called at a relay, and could steer packets past it as we do.
func relayed(p wire.Peer) bool {
	return len(p.Endpoints) == 0 && len(p.Relays) > 0 && (p.Kind == "" || p.Kind == wire.Gateway || p.Kind == wire.Workstation)
}

// sessions are peers to and from which nothing is routed: a relay has a session with each of its members, so that it knows where they are.
// One with a key that is another peer's or the box's own is left out: it is worth less than what would be lost.
func sessions(m wire.NetMap, l Local, others []tunnel.Peer) []tunnel.Peer {
	taken := map[wgkey.PublicKey]bool{m.Self.PublicKey: true, m.Self.NextKey: true, {}: true}
	for _, p := range others {
		taken[p.PublicKey], taken[p.Next] = true, true
	}
	var out []tunnel.Peer
	add := func(p tunnel.Peer) {
		if taken[p.PublicKey] {
			return
		}
		if taken[p.Next] {
			p.Next = wgkey.PublicKey{}
		}
		taken[p.PublicKey], taken[p.Next] = true, true
		out = append(out, p)
	}
	for _, r := range m.Relays {
		add(tunnel.Peer{PublicKey: r.PublicKey, Next: r.NextKey, Endpoint: first(r.Endpoints, l.Endpoints), PersistentKeepalive: hubKeepalive})
	}
	if m.Relay != nil {
		for _, r := range m.Relay.Members {
			if !r.Unmanaged {
				add(tunnel.Peer{PublicKey: r.PublicKey, Next: r.NextKey})
			}
		}
	}
	return out
}
