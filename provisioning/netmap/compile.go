package netmap

import (
	"cmp"
	"errors"
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
	n, ok := x.nodes.get(id)
	if !ok {
		return wire.NetMap{}, x.absent(id)
	}
	node := *n
	home, _ := x.sites.get(node.Site)
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
			Site:      home.Name,
			SiteKind:  home.Kind,
			Address:   node.Address,
			Former:    node.Former,
			SpoolKey:  spoolKeyOf(node, home.Site),
			Member:    node.Member,
		},
		Overlay: slices.Clone(x.overlay),
		Hub:     x.s.Hub,
		Peers:   x.peers(node, home),
		Offers:  x.offers(node, home),
		Uses:    x.uses(node, home),
		Shared:  x.shared(node, home),
	}
	if node.Kind == wire.Gateway {
		m.LANTLS = home.LANTLS
	}
	if node.Kind == wire.Gateway || node.Kind == wire.Workstation {
		m.Self.PairKeys = x.s.PairKeys
	}
	x.addRelaying(&m)
	m.Hub.Endpoints, m.Hub.URLs, m.Hub.Seal = slices.Clone(m.Hub.Endpoints), slices.Clone(m.Hub.URLs), slices.Clone(m.Hub.Seal)
	if err := errors.Join(checkDisjoint(m), checkShared(m)); err != nil {
		return wire.NetMap{}, fmt.Errorf("node %s: %w", id, err)
	}
	if node.Kind == wire.Gateway {
		m.Devices = slices.Clone(home.Devices)
	}
	return m, nil
}

// spoolKeyOf is where a Node keeps the key of its queues. What has no queues has none.
func spoolKeyOf(n provisioning.Node, s provisioning.Site) wire.SpoolKey {
	if n.Kind == wire.Relay || n.Kind == wire.Unmanaged {
		return ""
	}
	return s.SpoolKey
}

// absent says why a Node has no map.
func (x *Index) absent(id provisioning.NodeID) error {
	if reason, broken := x.broken[id]; broken {
		return fmt.Errorf("node %s: %s", id, reason)
	}
	if n, inactive := x.inactive.get(id); inactive {
		return fmt.Errorf("%w: %s is %v", ErrInactive, id, n.State)
	}
	return fmt.Errorf("%w: %s", ErrUnknownNode, id)
}

// peers are the gateways of the sites of which the node uses something, and those who use something of its own site if it is a gateway.
func (x *Index) peers(node provisioning.Node, home *site) []wire.Peer {
	linked, used, serves := map[provisioning.SiteID]bool{}, map[provisioning.SiteID]bool{}, map[provisioning.SiteID]bool{}
	for _, u := range home.uses {
		if v, _ := x.services.get(u.service); mayUse(node.Kind, v.Site == home.ID) {
			linked[v.Site], used[v.Site] = true, true
		}
	}
	if node.Kind == wire.Gateway {
		for v := range x.offered(home) {
			for user := range v.users.all() {
				linked[user], serves[user] = true, true
			}
		}
	}
	called := home.endpoint(&node) != ""
	var peers []wire.Peer
	for id := range linked {
		far, _ := x.sites.get(id)
		front, _ := far.front()
		for _, n := range far.nodes {
			if !(used[id] && n.Kind == wire.Gateway) && !(serves[id] && mayUse(n.Kind, id == home.ID)) {
				continue
			}
			p := wire.Peer{
				Node:       string(n.ID),
				Kind:       told(n.Kind),
				Site:       far.Name,
				PublicKey:  n.PublicKey,
				NextKey:    n.NextKey,
				Member:     n.Member,
				AllowedIPs: addresses(*n),
			}
			// Who only offers something to that site has no business with what it has at other addresses.
			if used[id] && n.ID == front.ID {
				p.AllowedIPs = append(p.AllowedIPs, far.extras...)
			}
			if endpoint := far.endpoint(n); endpoint != "" {
				p.Endpoints = []string{endpoint}
				if !called {
					p.Keepalive = int(wire.NodeKeepalive / time.Second)
				}
			} else if !called && len(x.ways) > 0 {
				p.Relays = slices.Clone(x.ways)
				if opens(node, home.Site, *n, far.Site) {
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

func (x *Index) offers(node provisioning.Node, home *site) []wire.Offer {
	if node.Kind != wire.Gateway {
		return nil
	}
	front, _ := home.front()
	var offers []wire.Offer
	for v := range x.offered(home) {
		var from []wire.Source
		for id := range v.users.all() {
			user, _ := x.sites.get(id)
			for _, n := range user.nodes {
				if !mayUse(n.Kind, id == home.ID) {
					continue
				}
				for _, p := range addresses(*n) {
					from = append(from, wire.Source{Site: user.Name, Prefix: p})
				}
			}
		}
		if len(from) == 0 {
			continue
		}
		o := wire.Offer{Service: v.Name, Protocol: v.Protocol, AETitle: v.AETitle, Port: v.Port, Target: v.Target, From: from}
		if v.Protocol == wire.HL7 {
			o.Receiver, o.Mode, o.HL7 = v.Receiver, v.Mode, v.HL7
		}
		o.DICOM = v.DICOM
		if node.ID == front.ID || home.shares() {
			o.Also = slices.Clone(v.places)
		}
		offers = append(offers, o)
	}
	for i := range offers {
		slices.SortFunc(offers[i].From, func(a, b wire.Source) int {
			return cmp.Or(cmp.Compare(a.Site, b.Site), a.Prefix.Compare(b.Prefix))
		})
	}
	slices.SortFunc(offers, func(a, b wire.Offer) int { return cmp.Compare(a.Service, b.Service) })
	return offers
}

func (x *Index) uses(node provisioning.Node, home *site) []wire.Use {
	var uses []wire.Use
	for _, u := range home.uses {
		v, _ := x.services.get(u.service)
		if !mayUse(node.Kind, v.Site == home.ID) {
			continue
		}
		owner, _ := x.sites.get(v.Site)
		front, ok := owner.front()
		if !ok {
			continue
		}
		uses = append(uses, wire.Use{
			Service:  v.Name,
			Site:     owner.Name,
			Protocol: v.Protocol,
			Mode:     v.Mode,
			LANPort:  u.lanPort,
			AETitle:  v.AETitle,
			Receiver: v.Receiver,
			HL7:      v.HL7,
			Address:  v.at(front, node.Address),
			Poll:     home.polls(node, u),
			DICOM:    v.DICOM,
			Queue:    v.Queue,
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
