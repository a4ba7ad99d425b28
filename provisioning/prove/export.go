package prove

import (
	"net/netip"
	"time"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
)

// Export makes the plan and the facts of a Snapshot, all but the maps. The nodes are those that the hub's device is told.
func Export(s netmap.Snapshot, hub []provisioning.Node) Input {
	sites := make(map[string]string, len(s.Sites))
	in := Input{Hub: &Hub{
		Network: s.Network, PublicKey: s.Hub.PublicKey, Address: s.Hub.Address, ControlPort: s.Hub.ControlPort, Endpoints: s.Hub.Endpoints,
		URLs: s.Hub.URLs, Seal: s.Hub.Seal,
	}}
	for _, v := range s.Sites {
		sites[string(v.ID)] = v.Name
		in.Sites = append(in.Sites, Site{Name: v.Name, Kind: v.Kind, Endpoint: v.Endpoint, SpoolKey: v.SpoolKey})
	}
	services := make(map[provisioning.ServiceID]string, len(s.Services))
	name := func(id string) string {
		if n, ok := sites[id]; ok {
			return n
		}
		return id
	}
	mapped := map[provisioning.SiteID][]netip.Prefix{}
	for _, r := range s.Ranges {
		in.Plan.Entries = append(in.Plan.Entries, entryOf(r, name(r.Owner)))
		if r.Purpose == provisioning.PurposeMapped && r.Owner != "" {
			mapped[provisioning.SiteID(r.Owner)] = append(mapped[provisioning.SiteID(r.Owner)], r.Prefix)
		}
	}
	front := fronts(hub)
	for _, v := range s.Nodes {
		if v.State != provisioning.NodeActive {
			continue
		}
		n := Node{
			ID: string(v.ID), Kind: v.Kind, Site: name(string(v.Site)), PublicKey: v.PublicKey, Rotate: v.Rotate, NextKey: v.NextKey,
			Member: v.Member, Address: v.Address, Former: v.Former, Rank: v.Rank, Endpoint: v.Endpoint,
		}
		if n.Kind == wire.Gateway {
			n.Kind = ""
		}
		if front[v.Site].ID == v.ID {
			n.Mapped = mapped[v.Site]
		}
		in.Nodes = append(in.Nodes, n)
	}
	for _, v := range s.Services {
		services[v.ID] = v.Name
		in.Services = append(in.Services, Service{
			Name: v.Name, Site: name(string(v.Site)), Protocol: v.Protocol, Mode: v.Mode, AETitle: v.AETitle, Receiver: v.Receiver,
			HL7: v.HL7, DICOM: v.DICOM, Target: v.Target, Port: v.Port, Address: v.Address, Created: utc(v.Created),
		})
	}
	for _, g := range s.Grants {
		v, ok := services[g.Service]
		if !ok {
			v = string(g.Service)
		}
		in.Grants = append(in.Grants, Grant{Service: v, Site: name(string(g.Site)), LANPort: g.LANPort, Created: utc(g.Created)})
	}
	for _, n := range hub {
		in.HubPeers = append(in.HubPeers, HubPeer{PublicKey: n.PublicKey, NextKey: n.NextKey, AllowedIPs: hosts(n.Address, n.Former)})
	}
	return in
}

// entryOf is a range with the name of its owner. What the store would not take without a purpose has that of most.
func entryOf(r provisioning.Range, owner string) plandoc.Entry {
	e := plandoc.Entry{
		Kind: plandoc.Kind(r.Kind), Prefix: r.Prefix, Owner: owner, Purpose: string(r.Purpose), Label: r.Label, Maps: r.Maps, Note: r.Note,
		Until: utc(r.Until),
	}
	if r.Kind == provisioning.RangeAllocation && r.Purpose == "" {
		e.Purpose = plandoc.Overlay
	}
	return e
}

// fronts are the preferred gateways.
func fronts(nodes []provisioning.Node) map[provisioning.SiteID]provisioning.Node {
	out := make(map[provisioning.SiteID]provisioning.Node, len(nodes))
	for _, n := range nodes {
		if n.Kind != wire.Gateway {
			continue
		}
		if first, ok := out[n.Site]; !ok || prefer(n.Rank, n.Address, first.Rank, first.Address) < 0 {
			out[n.Site] = n
		}
	}
	return out
}

// utc is t as it is read back from JSON.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.Round(0).UTC()
}
