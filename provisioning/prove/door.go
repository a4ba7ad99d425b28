package prove

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/provisioning/wire"
)

func (p *Prover) proveService(r *report, name string) {
	v := p.services[name]
	r.at.Service = name
	if len(v.decls) > 1 {
		r.bad(Identity, "the service %s is there %d times", name, len(v.decls))
	}
}

// proveOffers holds that the offers are exactly the services of the site that a grant makes known, each for exactly the users' addresses.
func (p *Prover) proveOffers(r *report, d Node, s *mapState) {
	at := map[netip.AddrPort]string{}
	seen := map[string]bool{}
	for _, o := range s.m.Offers {
		r.at.Service = o.Service
		if seen[o.Service] {
			r.bad(Deny, "the map of node %s of %s offers %s twice", d.ID, d.Site, o.Service)
		}
		seen[o.Service] = true
		if !d.gateway() {
			r.bad(Deny, "the map of node %s of %s, a %s, offers %s", d.ID, d.Site, d.named(), o.Service)
		}
		for _, place := range s.placesOf(o) {
			if other, taken := at[place]; taken {
				r.bad(Deny, "the map of node %s of %s offers %s at %v, where it has %s already", d.ID, d.Site, o.Service, place, other)
			}
			at[place] = o.Service
		}
		v, ok := p.service(o.Service)
		if !ok || v.Site != d.Site {
			r.bad(Deny, "the map of node %s of %s offers %s, which is no service of the site", d.ID, d.Site, o.Service)
			continue
		}
		if o.Protocol != v.Protocol || o.AETitle != v.AETitle || o.Port != v.Port || o.Target != v.Target || o.Port == 0 || !sameHL7(o, v) || o.DICOM != v.DICOM {
			r.bad(Deny, "the map of node %s of %s offers %s otherwise than it is: at port %d to %s", d.ID, d.Site, o.Service, o.Port, o.Target)
		}
		p.proveAlso(r, d, o, v)
		p.proveTarget(r, d, s, o)
		p.proveSources(r, d, o)
	}
	if state := p.sites[d.Site]; state != nil {
		for name := range state.offers {
			r.at.Service = name
			if v, ok := p.service(name); ok && v.Site == d.Site && !seen[name] && d.gateway() && len(p.users(v)) > 0 {
				r.bad(Reachable, "the map of node %s of %s does not offer %s, which is granted", d.ID, d.Site, name)
			}
		}
	}
	r.at.Service = ""
}

// proveAlso holds that the further places of an offer are where the service's own address or a mapping of its site puts it, at the nodes
// to which these may lead.
func (p *Prover) proveAlso(r *report, d Node, o wire.Offer, v Service) {
	if len(o.Also) == 0 && !v.Address.IsValid() {
		return
	}
	places := p.places(v)
	ok := p.holds(d)
	for _, a := range o.Also {
		if !ok || !slices.Contains(places, a) {
			r.at.Prefix = a.String()
			r.bad(Belonging, "node %s of %s offers %s at %v, where neither an address of its own nor a mapping puts it", d.ID, d.Site, o.Service, a)
		}
	}
	if own := netip.AddrPortFrom(v.Address, v.Port); ok && v.Address.IsValid() && !slices.Contains(o.Also, own) {
		r.at.Prefix = own.String()
		r.bad(Reachable, "node %s of %s does not offer %s at its own address %v", d.ID, d.Site, o.Service, own)
	}
	r.at.Prefix = ""
}

// users are the addresses that may use v, with their sites.
func (p *Prover) users(v Service) map[netip.Prefix]string {
	out := map[netip.Prefix]string{}
	for user := range p.services[v.Name].users {
		if !p.may(v.Site, user) {
			continue
		}
		for _, n := range p.nodesOf(user) {
			if !n.uses(user == v.Site) {
				continue
			}
			for _, q := range n.own() {
				// Where two sites claim an address, it is always the same one's, whatever the order.
				if other, taken := out[q]; !taken || user < other {
					out[q] = user
				}
			}
		}
	}
	return out
}

func (p *Prover) proveSources(r *report, d Node, o wire.Offer) {
	v, _ := p.service(o.Service)
	want := p.users(v)
	seen := make(map[netip.Prefix]bool, len(o.From))
	for _, f := range o.From {
		r.at.Prefix = f.Prefix.String()
		site, ok := want[f.Prefix]
		switch {
		case !ok && d.Site != f.Site && p.kindOf(d.Site) == wire.Clinic && p.kindOf(f.Site) == wire.Clinic:
			r.bad(Isolated, "the clinic %s offers %s to %v of the clinic %s", d.Site, o.Service, f.Prefix, f.Site)
		case !ok || site != f.Site:
			r.bad(Deny, "node %s of %s offers %s to %v as %s, which no grant does", d.ID, d.Site, o.Service, f.Prefix, f.Site)
		case seen[f.Prefix]:
			r.bad(Deny, "node %s of %s offers %s to %v twice", d.ID, d.Site, o.Service, f.Prefix)
		}
		seen[f.Prefix] = true
	}
	for q, site := range want {
		if !seen[q] {
			r.at.Prefix = q.String()
			r.bad(Reachable, "node %s of %s does not offer %s to %v of %s, which is granted", d.ID, d.Site, o.Service, q, site)
		}
	}
	r.at.Prefix = ""
}

// proveTarget holds that what comes in by an offer cannot leave by the overlay: the target is no overlay address, and no use of this node.
func (p *Prover) proveTarget(r *report, d Node, s *mapState, o wire.Offer) {
	if folder, is := strings.CutPrefix(o.Target, wire.FolderTarget); is && o.Protocol == wire.HL7 {
		if folder == "" || strings.Trim(folder, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			r.bad(NoForward, "node %s of %s offers %s at %q, which is no folder of its own", d.ID, d.Site, o.Service, o.Target)
		}
		return
	}
	name, port, err := net.SplitHostPort(o.Target)
	if err != nil {
		r.bad(NoForward, "node %s of %s offers %s at %q, which is no host and port", d.ID, d.Site, o.Service, o.Target)
		return
	}
	local := strings.EqualFold(strings.TrimSuffix(name, "."), "localhost")
	if a, err := netip.ParseAddr(name); err == nil {
		a = a.Unmap().WithZone("")
		local = a.IsLoopback()
		if p.plan.inPool(a) || a == p.hub.Address || a.IsUnspecified() || a.IsMulticast() {
			r.bad(NoForward, "node %s of %s offers %s at %s, which is an overlay address or none of one machine: it would forward", d.ID, d.Site, o.Service, o.Target)
		}
	} else {
		if numeric(name) {
			r.bad(NoForward, "node %s of %s offers %s at %s, which could be read as an overlay address", d.ID, d.Site, o.Service, o.Target)
		}
		r.named++
	}
	if local && slices.ContainsFunc(s.m.Uses, func(u wire.Use) bool { return portText(u.LANPort) == port }) {
		r.bad(NoForward, "node %s of %s offers %s at %s, which is a use of its own: it would forward", d.ID, d.Site, o.Service, o.Target)
	}
}

// numeric reports whether some resolvers would take a name for an address: its last label is a number.
func numeric(name string) bool {
	labels := strings.Split(strings.TrimSuffix(strings.ToLower(name), "."), ".")
	last := labels[len(labels)-1]
	return strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x")
}

// proveUses holds that the uses are exactly the services granted to the site, each at a place of its own, and that a sender on the LAN can
// tell them apart.
func (p *Prover) proveUses(r *report, d Node, s *mapState) {
	seen := map[string]bool{}
	doors := newDoors()
	for _, u := range s.m.Uses {
		r.at.Service = u.Service
		v, ok := p.service(u.Service)
		grants := p.grants[grantKey{u.Service, d.Site}]
		switch {
		case !ok || len(grants) == 0 || v.Site != u.Site:
			r.bad(Deny, "the map of node %s of %s uses %s of %s, which is not granted", d.ID, d.Site, u.Service, u.Site)
			continue
		case !p.may(v.Site, d.Site):
			r.bad(Isolated, "the clinic %s uses %s of %s", d.Site, u.Service, v.Site)
			continue
		case !d.uses(v.Site == d.Site):
			r.bad(Deny, "the map of node %s of %s, a %s, uses %s of %s", d.ID, d.Site, d.named(), u.Service, v.Site)
			continue
		case seen[u.Service]:
			r.bad(Deny, "the map of node %s of %s uses %s twice", d.ID, d.Site, u.Service)
		case u.Protocol != v.Protocol || u.Mode != v.Mode || u.AETitle != v.AETitle || u.Receiver != v.Receiver || u.HL7 != v.HL7 || u.DICOM != v.DICOM:
			r.bad(Deny, "the map of node %s of %s uses %s otherwise than it is", d.ID, d.Site, u.Service)
		case u.LANPort == 0 || len(grants) == 1 && u.LANPort != grants[0].LANPort:
			r.bad(Deny, "the map of node %s of %s has %s at LAN port %d, granted is %d", d.ID, d.Site, u.Service, u.LANPort, grants[0].LANPort)
		}
		seen[u.Service] = true
		if other, taken := doors.enter(u); taken {
			r.bad(Deny, "the map of node %s of %s cannot tell %s from %s at LAN port %d", d.ID, d.Site, u.Service, other, u.LANPort)
		}
		if !p.isAt(v, u.Address) {
			r.at.Prefix = u.Address.String()
			r.bad(Deny, "the map of node %s of %s uses %s at %v, where %s does not have it", d.ID, d.Site, u.Service, u.Address, v.Site)
			r.at.Prefix = ""
		}
	}
	if state := p.sites[d.Site]; state != nil {
		for name := range state.uses {
			r.at.Service = name
			v, ok := p.service(name)
			if ok && p.may(v.Site, d.Site) && d.uses(v.Site == d.Site) && !seen[name] && len(p.gatewaysOf(v.Site)) > 0 {
				r.bad(Reachable, "the map of node %s of %s lacks the use of %s of %s, which is granted", d.ID, d.Site, name, v.Site)
			}
		}
	}
	r.at.Service = ""
}

func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }
