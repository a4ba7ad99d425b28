package prove

import (
	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
)

// Export makes the plan and the facts of a Snapshot, all but the maps. The nodes are those that the hub's device is told.
func Export(s netmap.Snapshot, hub []provisioning.Node) Input {
	sites := make(map[string]string, len(s.Sites))
	in := Input{Hub: &Hub{Network: s.Network, PublicKey: s.Hub.PublicKey, Address: s.Hub.Address, ControlPort: s.Hub.ControlPort}}
	for _, v := range s.Sites {
		sites[string(v.ID)] = v.Name
		in.Sites = append(in.Sites, Site{Name: v.Name, Kind: v.Kind})
	}
	services := make(map[provisioning.ServiceID]string, len(s.Services))
	name := func(id string) string {
		if n, ok := sites[id]; ok {
			return n
		}
		return id
	}
	for _, r := range s.Ranges {
		in.Plan.Entries = append(in.Plan.Entries, plandoc.Entry{
			Kind: plandoc.Kind(r.Kind), Prefix: r.Prefix, Owner: name(r.Owner), Note: r.Note, Until: r.Until,
		})
	}
	for _, n := range s.Nodes {
		in.Nodes = append(in.Nodes, Node{ID: string(n.ID), Site: name(string(n.Site)), PublicKey: n.PublicKey, Address: n.Address})
	}
	for _, v := range s.Services {
		services[v.ID] = v.Name
		in.Services = append(in.Services, Service{
			Name: v.Name, Site: name(string(v.Site)), Protocol: v.Protocol, Mode: v.Mode, AETitle: v.AETitle, Receiver: v.Receiver,
			Target: v.Target, Port: v.Port,
		})
	}
	for _, g := range s.Grants {
		v, ok := services[g.Service]
		if !ok {
			v = string(g.Service)
		}
		in.Grants = append(in.Grants, Grant{Service: v, Site: name(string(g.Site)), LANPort: g.LANPort})
	}
	for _, n := range hub {
		in.HubPeers = append(in.HubPeers, HubPeer{PublicKey: n.PublicKey, AllowedIPs: hosts(n.Address)})
	}
	return in
}
