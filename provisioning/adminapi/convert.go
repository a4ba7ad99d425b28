package adminapi

import (
	"encoding/hex"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
)

// each converts a list and never returns nil, which would be null in JSON.
func each[From, To any](from []From, convert func(From) To) []To {
	to := make([]To, 0, len(from))
	for _, f := range from {
		to = append(to, convert(f))
	}
	return to
}

// list makes a list that is never null in JSON.
func list[T any](s []T) []T { return append(make([]T, 0, len(s)), s...) }

func networkView(n coordinator.NetworkInfo, p coordinator.Plan) Network {
	return Network{
		ID:          n.ID,
		Fingerprint: n.Fingerprint.String(),
		Generation:  n.Generation,
		Hub: Hub{
			PublicKey: n.Hub.PublicKey.String(), Endpoints: list(n.Hub.Endpoints), Address: n.Hub.Address, ControlPort: n.Hub.ControlPort,
		},
		URLs:   list(n.URLs),
		Pools:  each(p.Pools, func(p coordinator.PoolInfo) netip.Prefix { return p.Prefix }),
		Sites:  n.Sites,
		Nodes:  n.Nodes,
		Online: n.Online,
	}
}

func siteView(s coordinator.SiteInfo) Site {
	return Site{
		ID: string(s.ID), Name: s.Name, Kind: string(s.Kind), Title: s.Title, Endpoint: s.Endpoint,
		Prefixes: list(s.Prefixes), Nodes: s.Nodes, Created: s.Created,
	}
}

func tokenView(t coordinator.TokenInfo) Token {
	return Token{
		ID: string(t.ID), Site: t.SiteName, Kind: string(t.Kind), State: string(t.State), Address: t.Address, Created: t.Created, Expires: t.Expires,
		Used: t.Used, UsedBy: string(t.UsedBy), Revoked: t.Revoked,
	}
}

func serviceView(v coordinator.ServiceInfo) Service {
	users := list(v.Users)
	slices.Sort(users)
	return Service{
		ID: string(v.ID), Name: v.Name, Site: v.SiteName, Protocol: string(v.Protocol), AETitle: v.AETitle, Receiver: v.Receiver,
		HL7: hl7View(v.HL7), Mode: string(v.Mode), Target: v.Target, Port: v.Port, Address: v.Address, At: v.At, Users: users, Created: v.Created,
	}
}

func grantView(g coordinator.GrantInfo) Grant {
	return Grant{Service: g.ServiceName, Owner: g.OwnerName, Site: g.SiteName, LANPort: g.LANPort, Created: g.Created}
}

func nodeView(n coordinator.NodeInfo) Node {
	v := Node{
		ID: string(n.ID), Site: n.SiteName, Kind: string(n.Kind), PublicKey: n.PublicKey.String(), Address: n.Address, Former: n.Former,
		Enrolled: n.Enrolled, Online: n.Online, LastSeen: n.LastSeen, Desired: n.Desired, Applied: n.Applied, BehindSince: n.BehindSince, ApplyError: n.ApplyError,
		Hostname: n.Facts.Hostname, Serial: n.Facts.Serial, Model: n.Facts.Model, Version: n.Facts.Version, LANs: list(n.Facts.LANs),
		Conditions: make([]Condition, 0, len(n.Conditions)), Queues: make([]Queue, 0, len(n.Queues)),
	}
	for _, c := range n.Conditions {
		v.Conditions = append(v.Conditions, Condition(c))
	}
	for _, q := range n.Queues {
		v.Queues = append(v.Queues, Queue(q))
	}
	return v
}

func eventView(e provisioning.Event) Event {
	return Event{
		Seq: e.Seq, At: e.At, Actor: e.Actor, Action: e.Action, Subject: e.Subject, Detail: e.Detail, Hash: hex.EncodeToString(e.Hash[:]),
	}
}
