package netmap

import (
	"cmp"
	"slices"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// addRelays finds the relays in service: Nodes of that kind at a Site that has an endpoint, which then is the relay's, and no gateway.
func (x *Index) addRelays() {
	for _, n := range x.nodes {
		site := x.sites[n.Site]
		if _, front := x.front(n.Site); n.Kind != wire.Relay || site.Endpoint == "" || front {
			continue
		}
		x.relays = append(x.relays, wire.RelayServer{Node: string(n.ID), PublicKey: n.PublicKey, NextKey: n.NextKey, Endpoints: []string{site.Endpoint}})
	}
	slices.SortFunc(x.relays, func(a, b wire.RelayServer) int { return cmp.Compare(a.Node, b.Node) })
	for _, r := range x.relays {
		x.ways = append(x.ways, r.Endpoints...)
	}
	if x.s.HubRelay {
		x.ways = append(x.ways, x.s.Hub.Endpoints...)
	}
}

// Relays are those in service, by id. The caller must not change them.
func (x *Index) Relays() []wire.RelayServer { return x.relays }

// SameRelays reports whether relays are reached as in another Index.
func (x *Index) SameRelays(o *Index) bool {
	return slices.Equal(x.ways, o.ways) && slices.EqualFunc(x.relays, o.relays, func(a, b wire.RelayServer) bool {
		return a.Node == b.Node && a.PublicKey == b.PublicKey && a.NextKey == b.NextKey && slices.Equal(a.Endpoints, b.Endpoints)
	})
}

func (x *Index) inService(id provisioning.NodeID) bool {
	return slices.ContainsFunc(x.relays, func(r wire.RelayServer) bool { return r.Node == string(id) })
}

// opens reports whether a, and not b, keeps the way through a relay open: exactly one of the two does, because two that call each other at one
// time do not understand each other and wait 5 s. Who dials in calls a gateway, a clinic calls a center, and else the first by id.
func opens(a provisioning.Node, at provisioning.Site, b provisioning.Node, with provisioning.Site) bool {
	if (a.Kind == wire.Gateway) != (b.Kind == wire.Gateway) {
		return b.Kind == wire.Gateway
	}
	if at.Kind != with.Kind {
		return at.Kind == wire.Clinic
	}
	return a.ID < b.ID
}

// callable reports whether a node has an endpoint of its own.
func (x *Index) callable(n provisioning.Node) bool {
	return n.Kind == wire.Gateway && x.sites[n.Site].Endpoint != ""
}

// addRelaying adds to a map what its Node has to do with relays.
func (x *Index) addRelaying(m *wire.NetMap) {
	if m.Self.Kind == wire.Relay && x.inService(provisioning.NodeID(m.Self.Node)) {
		t := x.Relaying()
		m.Relay = &t
	}
	if m.Self.Kind != wire.Unmanaged && slices.ContainsFunc(m.Peers, func(p wire.Peer) bool { return len(p.Relays) > 0 }) {
		for _, r := range x.relays {
			r.Endpoints = slices.Clone(r.Endpoints)
			m.Relays = append(m.Relays, r)
		}
	}
}

// Relaying is what relays forward: the pairs of Nodes that a Grant links and of which neither can be called.
func (x *Index) Relaying() wire.RelayTable {
	type pair [2]provisioning.NodeID
	pairs := map[pair]bool{}
	members := map[provisioning.NodeID]bool{}
	for owner, links := range x.links {
		for _, l := range links {
			if l.service.Site != owner {
				continue
			}
			for _, g := range x.nodesOf[owner] {
				if g.Kind != wire.Gateway || x.callable(g) {
					continue
				}
				for _, n := range x.nodesOf[l.user] {
					if n.ID == g.ID || !mayUse(n.Kind, l.user == owner) || x.callable(n) {
						continue
					}
					pairs[pair{min(g.ID, n.ID), max(g.ID, n.ID)}] = true
					members[g.ID], members[n.ID] = true, true
				}
			}
		}
	}
	var t wire.RelayTable
	ids := make([]provisioning.NodeID, 0, len(members))
	for id := range members {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	at := make(map[provisioning.NodeID]int, len(ids))
	for i, id := range ids {
		n := x.nodes[id]
		at[id] = i
		t.Members = append(t.Members, wire.RelayMember{PublicKey: n.PublicKey, NextKey: n.NextKey, Unmanaged: n.Kind == wire.Unmanaged})
	}
	for p := range pairs {
		t.Pairs = append(t.Pairs, [2]int{at[p[0]], at[p[1]]})
	}
	slices.SortFunc(t.Pairs, func(a, b [2]int) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	return t
}
