package wire

import (
	"net/netip"
	"slices"
)

// StandbyPort is where the gateways of a center that has several say how its Services are, a TCP port on their own overlay addresses.
const StandbyPort = 7422

// Shared are the gateways of a center that has several. Each listens at all that leads to the Site, and who uses something there chooses to which of
// them it leads: see docs/adr/0017. Who does not know this field uses the first.
type Shared struct {
	// Site is a center of which the Node uses something, or its own.
	Site string `json:"site"`
	// Gateways are nodes, at least two, the preferred one first. Those of another Site are all Peers.
	Gateways []string `json:"gateways"`
	// Prefixes are what AllowedIPs of the first have besides its own addresses, and may lead to any other one instead: Services' own addresses
	// and mapped prefixes. Sorted and disjoint.
	Prefixes []netip.Prefix `json:"prefixes,omitempty"`
}

// shared leaves the gateways that were signed with all that is to lead to them. Where that are less than two, or not the first, the Site is reached as
// if it had one.
func (r *restriction) shared(all []Shared) []Shared {
	var out []Shared
	for _, s := range all {
		if s.Site == r.self.Site && r.self.Kind == Gateway {
			out = append(out, s) // it changes nothing of where anything leads
			continue
		}
		var gateways []string
		for i, node := range s.Gateways {
			if why := r.cannotHold(s, node); why != "" {
				r.note("shared "+s.Site, "node %s cannot stand in: %s", node, why)
				if i == 0 {
					break
				}
				continue
			}
			gateways = append(gateways, node)
		}
		if len(gateways) > 1 {
			s.Gateways = gateways
			out = append(out, s)
		}
	}
	return out
}

// cannotHold says why nothing of s may lead to a node, or nothing.
func (r *restriction) cannotHold(s Shared, node string) string {
	i := slices.IndexFunc(r.members, func(m Member) bool { return m.Node == node })
	if i < 0 {
		return "it is no signed peer"
	}
	m := r.members[i]
	if m.Site != s.Site || m.SiteKind != Center || m.Kind != Gateway {
		return "it was not signed as a gateway of this center"
	}
	for _, p := range s.Prefixes {
		if !r.leads(m, p) {
			return p.String() + " was not signed for it"
		}
	}
	return ""
}
