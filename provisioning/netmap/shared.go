package netmap

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// gateways are those of a site, the preferred one first.
func (s *site) gateways() []*provisioning.Node {
	var out []*provisioning.Node
	for _, n := range s.nodes {
		if n.Kind == wire.Gateway {
			out = append(out, n)
		}
	}
	slices.SortStableFunc(out, byRank)
	return out
}

// byRank puts gateways that are by address in order of preference.
func byRank(a, b *provisioning.Node) int { return cmp.Compare(rankOf(a), rankOf(b)) }

func rankOf(n *provisioning.Node) int {
	if n.Rank == 0 {
		return math.MaxInt
	}
	return n.Rank
}

// front is the node of a site that stands for all of it: its preferred gateway. The services' own addresses and the mapped prefixes
// lead to it alone, since WireGuard gives a prefix to one peer, and at a center to another one while it fails.
func (s *site) front() (provisioning.Node, bool) {
	if s == nil {
		return provisioning.Node{}, false
	}
	all := s.gateways()
	if len(all) == 0 {
		return provisioning.Node{}, false
	}
	return *all[0], true
}

// polls is what a node fetches from its site's archive for a use. Of several gateways only the preferred one does: each would fetch all.
func (s *site) polls(node provisioning.Node, u use) wire.PollOptions {
	if front, _ := s.front(); node.Kind == wire.Gateway && front.ID != node.ID {
		return wire.PollOptions{}
	}
	return u.poll
}

// shares reports whether all gateways of a site are at its services' own addresses, and where its mappings put them.
func (s *site) shares() bool { return s.Kind == wire.Center }

// endpoint is where a node is reached from outside; empty if it only calls. A site's endpoint leads to one machine: the first gateway by address,
// whatever the ranks are.
func (s *site) endpoint(n *provisioning.Node) string {
	if n.Kind != wire.Gateway {
		return ""
	}
	first := slices.IndexFunc(s.nodes, func(o *provisioning.Node) bool { return o.Kind == wire.Gateway })
	if n.Endpoint == "" && first >= 0 && s.nodes[first].ID == n.ID {
		return s.Endpoint
	}
	return n.Endpoint
}

// shared are the centers with several gateways of which a node uses something, and its own if it is one of them.
func (x *Index) shared(node provisioning.Node, home *site) []wire.Shared {
	var out []wire.Shared
	known := map[provisioning.SiteID]bool{}
	add := func(s *site) {
		gateways := s.gateways()
		if known[s.ID] || !s.shares() || len(gateways) < 2 {
			return
		}
		known[s.ID] = true
		v := wire.Shared{Site: s.Name, Prefixes: slices.Clone(s.extras)}
		for _, n := range gateways {
			v.Gateways = append(v.Gateways, string(n.ID))
		}
		out = append(out, v)
	}
	if node.Kind == wire.Gateway {
		add(home)
	}
	for _, u := range home.uses {
		v, _ := x.services.get(u.service)
		if owner, ok := x.sites.get(v.Site); ok && mayUse(node.Kind, v.Site == home.ID) {
			add(owner)
		}
	}
	slices.SortFunc(out, func(a, b wire.Shared) int { return cmp.Compare(a.Site, b.Site) })
	return out
}

// checkShared is checkDisjoint for what may lead to another peer than it does: it stays with peers of one site.
func checkShared(m wire.NetMap) error {
	for _, s := range m.Shared {
		if s.Site == m.Self.Site && m.Self.Kind == "" {
			continue
		}
		for i, node := range s.Gateways {
			at := slices.IndexFunc(m.Peers, func(p wire.Peer) bool { return p.Node == node && p.Site == s.Site && p.Kind == "" })
			if at < 0 {
				return fmt.Errorf("%s of %s is to be led to, and is no peer", node, s.Site)
			}
			if i == 0 && slices.ContainsFunc(s.Prefixes, func(q netip.Prefix) bool { return !slices.Contains(m.Peers[at].AllowedIPs, q) }) {
				return fmt.Errorf("not all of %v leads to %s of %s", s.Prefixes, node, s.Site)
			}
		}
	}
	return nil
}
