package netmap

import (
	"cmp"
	"slices"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// relays are those of a site that are in service: Nodes of that kind at a Site that has an endpoint, which then is the relay's, and no
// gateway.
func (s *site) relays() []wire.RelayServer {
	if s.Endpoint == "" {
		return nil
	}
	var out []wire.RelayServer
	for _, n := range s.nodes {
		switch n.Kind {
		case wire.Gateway:
			return nil
		case wire.Relay:
			out = append(out, wire.RelayServer{Node: string(n.ID), PublicKey: n.PublicKey, NextKey: n.NextKey, Endpoints: []string{s.Endpoint}})
		case wire.Workstation, wire.Unmanaged:
		}
	}
	return out
}

// takeRelays takes all relays in service, in any order.
func (x *Index) takeRelays(relays []wire.RelayServer) {
	slices.SortFunc(relays, func(a, b wire.RelayServer) int { return cmp.Compare(a.Node, b.Node) })
	x.relays, x.ways = relays, nil
	for _, r := range relays {
		x.ways = append(x.ways, r.Endpoints...)
	}
	if x.s.HubRelay {
		x.ways = append(x.ways, x.s.Hub.Endpoints...)
	}
}

// relays finds those in service again where something has changed at their sites. It costs as much as there are relays.
func (e *editor) relays() {
	var now []wire.RelayServer
	for _, r := range e.x.relays {
		if n, ok := e.x.nodes.get(provisioning.NodeID(r.Node)); ok && e.open[n.Site] == nil {
			now = append(now, r)
		}
	}
	stay := len(now)
	for id, home := range e.open {
		if !e.gone(id) {
			now = append(now, home.relays()...)
		}
	}
	if stay < len(e.x.relays) || stay < len(now) {
		e.x.takeRelays(now)
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

// granted is how many sound grants there are.
func (x *Index) granted() int {
	n := 0
	for _, v := range x.services.all() {
		n += v.users.len()
	}
	return n
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
func (x *Index) Relaying() wire.RelayTable { return x.RelayingWith(nil) }

// RelayingWith is what the hub's relay forwards while the Nodes with some keys are carried to it over TCP: those can call nobody else, so that
// their pairs are relayed whether the other end can be called or not. Without any it costs no more than Relaying.
func (x *Index) RelayingWith(carried map[wgkey.PublicKey]bool) wire.RelayTable {
	isCarried := func(n *provisioning.Node) bool { return carried[n.PublicKey] || carried[n.NextKey] }
	type pair [2]provisioning.NodeID
	pairs := map[pair]bool{}
	members := map[provisioning.NodeID]bool{}
	for _, v := range x.services.all() {
		owner, ok := x.sites.get(v.Site)
		if !ok {
			continue
		}
		gateways := slices.DeleteFunc(owner.gateways(), func(g *provisioning.Node) bool { return owner.endpoint(g) != "" && len(carried) == 0 })
		if len(gateways) == 0 {
			continue
		}
		for id := range v.users.all() {
			user, _ := x.sites.get(id)
			for _, g := range gateways {
				called := owner.endpoint(g) != ""
				for _, n := range user.nodes {
					if n.ID == g.ID || !mayUse(n.Kind, id == owner.ID) {
						continue
					}
					if (called || user.endpoint(n) != "") && !isCarried(g) && !isCarried(n) {
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
		n, _ := x.nodes.get(id)
		at[id] = i
		t.Members = append(t.Members, wire.RelayMember{PublicKey: n.PublicKey, NextKey: n.NextKey, Unmanaged: n.Kind == wire.Unmanaged})
	}
	for p := range pairs {
		t.Pairs = append(t.Pairs, [2]int{at[p[0]], at[p[1]]})
	}
	slices.SortFunc(t.Pairs, func(a, b [2]int) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	return t
}
