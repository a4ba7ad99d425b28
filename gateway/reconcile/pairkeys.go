package reconcile

import (
	"slices"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// WithPairKeys returns a tunnel with these preshared keys, by node, and none for the others. Nothing else of it differs, so a device keeps
// all sessions. The hub and relays never have one: what keys are agreed through must not need them.
func WithPairKeys(t tunnel.Config, m wire.NetMap, keys map[string]wgkey.PresharedKey) tunnel.Config {
	by := make(map[wgkey.PublicKey]wgkey.PresharedKey, len(m.Peers))
	for _, p := range m.Peers {
		if PairsWith(p) {
			by[p.PublicKey] = keys[p.Node]
		}
	}
	delete(by, m.Hub.PublicKey)
	t.Peers = slices.Clone(t.Peers)
	for i := range t.Peers {
		t.Peers[i].PresharedKey = by[t.Peers[i].PublicKey]
	}
	return t
}

// PairsWith reports whether a peer is of a kind that agrees on preshared keys. A plain device does not.
func PairsWith(p wire.Peer) bool {
	return p.Node != "" && (p.Kind == "" || p.Kind == wire.Gateway || p.Kind == wire.Workstation)
}
