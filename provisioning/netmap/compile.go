package netmap

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// Compile makes the map of one Node. Who needs many maps of one Snapshot builds an Index first.
func Compile(s Snapshot, id provisioning.NodeID) (wire.NetMap, error) {
	return NewIndex(s).Compile(id, s.Now, s.Expires)
}

// Compile makes the map of one Node, issued now, in a time that depends on its own peers and services only.
func (x *Index) Compile(id provisioning.NodeID, now, expires time.Time) (wire.NetMap, error) {
	node, ok := x.nodes[id]
	if !ok {
		return wire.NetMap{}, x.absent(id)
	}
	site := x.sites[node.Site]
	m := wire.NetMap{
		Format:     wire.Format,
		Network:    x.s.Network,
		Generation: x.s.Generation,
		Issued:     now,
		Expires:    expires,
		Self: wire.Self{
			Node:      string(node.ID),
			Kind:      told(node.Kind),
			PublicKey: node.PublicKey,
			Rotate:    node.Rotate,
			NextKey:   node.NextKey,
			Site:      site.Name,
			SiteKind:  site.Kind,
			Address:   node.Address,
			Former:    node.Former,
			Member:    node.Member,
		},
		Overlay: slices.Clone(x.overlay),
		Hub:     x.s.Hub,
		Peers:   x.peers(node, site),
		Offers:  x.offers(node, site),
		Uses:    x.uses(node, site),
	}
	x.addRelaying(&m)
	m.Hub.Endpoints, m.Hub.URLs, m.Hub.Seal = slices.Clone(m.Hub.Endpoints), slices.Clone(m.Hub.URLs), slices.Clone(m.Hub.Seal)
	if err := checkDisjoint(m); err != nil {
		return wire.NetMap{}, fmt.Errorf("node %s: %w", id, err)
	}
	return m, nil
}

// absent says why a Node has no map.
func (x *Index) absent(id provisioning.NodeID) error {
	if reason, broken := x.broken[id]; broken {
		return fmt.Errorf("node %s: %s", id, reason)
	}
	if state, inactive := x.inactive[id]; inactive {
		return fmt.Errorf("%w: %s is %v", ErrInactive, id, state)
	}
	return fmt.Errorf("%w: %s", ErrUnknownNode, id)
}

// peers are the gateways of the sites of which the node uses something, and those who use something of its own site if it is a gateway.
func (x *Index) peers(node provisioning.Node, site provisioning.Site) []wire.Peer {
	linked, used, serves := map[provisioning.SiteID]bool{}, map[provisioning.SiteID]bool{}, map[provisioning.SiteID]bool{}
	for _, l := range x.links[site.ID] {
		owner := l.service.Site
		if l.user == site.ID && mayUse(node.Kind, owner == site.ID) {
			linked[owner], used[owner] = true, true
		}
		if owner == site.ID && node.Kind == wire.Gateway {
			linked[l.user], serves[l.user] = true, true
		}
	}
	called := node.Kind == wire.Gateway && site.Endpoint != ""
	var peers []wire.Peer
	for id := range linked {
		far := x.sites[id]
		front, _ := x.front(id)
		for _, n := range x.nodesOf[id] {
			if !(used[id] && n.Kind == wire.Gateway) && !(serves[id] && mayUse(n.Kind, id == site.ID)) {
				continue
			}
			p := wire.Peer{
				Node:       string(n.ID),
				Kind:       told(n.Kind),
				Site:       far.Name,
				PublicKey:  n.PublicKey,
				NextKey:    n.NextKey,
				Member:     n.Member,
				AllowedIPs: addresses(n),
			}
			// Who only offers something to that site has no business with what it has at other addresses.
			if used[id] && n.ID == front.ID {
				p.AllowedIPs = append(p.AllowedIPs, x.extras[id]...)
			}
			if far.Endpoint != "" && n.Kind == wire.Gateway {
				p.Endpoints = []string{far.Endpoint}
				if !called {
					p.Keepalive = int(wire.NodeKeepalive / time.Second)
				}
			} else if !called && len(x.ways) > 0 {
				p.Relays = slices.Clone(x.ways)
				if opens(node, site, n, far) {
					p.Keepalive = int(wire.NodeKeepalive / time.Second)
				}
			}
			peers = append(peers, p)
		}
	}
	slices.SortFunc(peers, func(a, b wire.Peer) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Node, b.Node))
	})
	return peers
}

func (x *Index) offers(node provisioning.Node, site provisioning.Site) []wire.Offer {
	if node.Kind != wire.Gateway {
		return nil
	}
	front, _ := x.front(site.ID)
	at := map[provisioning.ServiceID]int{}
	var offers []wire.Offer
	for _, l := range x.links[site.ID] {
		if l.service.Site != site.ID {
			continue
		}
		var from []wire.Source
		for _, n := range x.nodesOf[l.user] {
			if !mayUse(n.Kind, l.user == site.ID) {
				continue
			}
			for _, p := range addresses(n) {
				from = append(from, wire.Source{Site: x.sites[l.user].Name, Prefix: p})
			}
		}
		if len(from) == 0 {
			continue
		}
		i, ok := at[l.service.ID]
		if !ok {
			i = len(offers)
			at[l.service.ID] = i
			o := wire.Offer{
				Service:  l.service.Name,
				Protocol: l.service.Protocol,
				AETitle:  l.service.AETitle,
				Port:     l.service.Port,
				Target:   l.service.Target,
			}
			if l.service.Protocol == wire.HL7 {
				o.Receiver, o.Mode, o.HL7 = l.service.Receiver, l.service.Mode, l.service.HL7
			}
			if node.ID == front.ID {
				o.Also = slices.Clone(x.places[l.service.ID])
			}
			offers = append(offers, o)
		}
		offers[i].From = append(offers[i].From, from...)
	}
	for i := range offers {
		slices.SortFunc(offers[i].From, func(a, b wire.Source) int {
			return cmp.Or(cmp.Compare(a.Site, b.Site), a.Prefix.Compare(b.Prefix))
		})
	}
	slices.SortFunc(offers, func(a, b wire.Offer) int { return cmp.Compare(a.Service, b.Service) })
	return offers
}

func (x *Index) uses(node provisioning.Node, site provisioning.Site) []wire.Use {
	var uses []wire.Use
	for _, l := range x.links[site.ID] {
		if l.user != site.ID || !mayUse(node.Kind, l.service.Site == site.ID) {
			continue
		}
		front, ok := x.front(l.service.Site)
		if !ok {
			continue
		}
		uses = append(uses, wire.Use{
			Service:  l.service.Name,
			Site:     x.sites[l.service.Site].Name,
			Protocol: l.service.Protocol,
			Mode:     l.service.Mode,
			LANPort:  l.lanPort,
			AETitle:  l.service.AETitle,
			Receiver: l.service.Receiver,
			HL7:      l.service.HL7,
			Address:  x.at(l.service, front, node.Address),
		})
	}
	slices.SortFunc(uses, func(a, b wire.Use) int { return cmp.Compare(a.Service, b.Service) })
	return uses
}

// checkDisjoint is the last look before a map leaves: WireGuard would silently move a prefix that two peers claim to the last of them.
func checkDisjoint(m wire.NetMap) error {
	owner := map[netip.Prefix]string{}
	var all []netip.Prefix
	var err error
	add := func(p netip.Prefix, who string) {
		if other, taken := owner[p]; taken && err == nil {
			err = fmt.Errorf("%s belongs both to %s and to %s", p, other, who)
		}
		owner[p] = who
		all = append(all, p)
	}
	add(hostPrefix(m.Hub.Address), "the hub")
	add(hostPrefix(m.Self.Address), "this node")
	if m.Self.Former.IsValid() {
		add(hostPrefix(m.Self.Former), "this node")
	}
	for _, p := range m.Peers {
		for _, a := range p.AllowedIPs {
			add(a, p.Node)
		}
	}
	for a, b := range ipam.NewSet(all...).Collisions() {
		if err == nil {
			err = fmt.Errorf("%s of %s lies in %s of %s", a, owner[a], b, owner[b])
		}
	}
	return err
}

// addresses are those that a node has for itself.
func addresses(n provisioning.Node) []netip.Prefix {
	own := []netip.Prefix{hostPrefix(n.Address)}
	if n.Former.IsValid() {
		own = append(own, hostPrefix(n.Former))
	}
	return own
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
