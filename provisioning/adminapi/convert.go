package adminapi

import (
	"cmp"
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

// pairKeysPreferred is what wire.PairKeysPreferred, which is empty, is called outside.
const pairKeysPreferred = "preferred"

func networkView(n coordinator.NetworkInfo, p coordinator.Plan) Network {
	return Network{
		ID:          n.ID,
		Fingerprint: n.Fingerprint.String(),
		Generation:  n.Generation,
		Hub: Hub{
			PublicKey: n.Hub.PublicKey.String(), Endpoints: list(n.Hub.Endpoints), Address: n.Hub.Address, ControlPort: n.Hub.ControlPort,
		},
		URLs:     list(n.URLs),
		PairKeys: cmp.Or(string(n.PairKeys), pairKeysPreferred),
		Pools:    each(p.Pools, func(p coordinator.PoolInfo) netip.Prefix { return p.Prefix }),
		Sites:    n.Sites,
		Nodes:    n.Nodes,
		Online:   n.Online,
	}
}

func siteView(s coordinator.SiteInfo) Site {
	kinds := make(map[string]int, len(s.Kinds))
	for k, n := range s.Kinds {
		kinds[string(k)] = n
	}
	return Site{
		ID: string(s.ID), Name: s.Name, Kind: string(s.Kind), Title: s.Title, Endpoint: s.Endpoint, SpoolKey: string(s.SpoolKey),
		Prefixes: list(s.Prefixes), Nodes: s.Nodes, Kinds: kinds, Created: s.Created,
	}
}

func tokenView(t coordinator.TokenInfo) Token {
	v := Token{
		ID: string(t.ID), Site: t.SiteName, Kind: string(t.Kind), State: string(t.State), Address: t.Address, Created: t.Created, Expires: t.Expires,
		Limit: t.Limit, Uses: make([]TokenUse, 0, len(t.Uses)), Approval: t.Approval, Replaces: string(t.Replaces), Revoked: t.Revoked,
	}
	for _, u := range t.Uses {
		v.Uses = append(v.Uses, TokenUse{Node: string(u.Node), At: u.At})
	}
	return v
}

func serviceView(v coordinator.ServiceInfo) Service {
	users := list(v.Users)
	slices.Sort(users)
	return Service{
		ID: string(v.ID), Name: v.Name, Site: v.SiteName, Protocol: string(v.Protocol), AETitle: v.AETitle, Receiver: v.Receiver,
		HL7: hl7View(v.HL7), Queue: queueView(v.Queue), DICOM: dicomView(v.DICOM), Archive: archiveView(v.Archive), Mode: string(v.Mode), Target: v.Target, Port: v.Port, Address: v.Address, At: v.At, Users: users, Created: v.Created,
	}
}

func grantView(g coordinator.GrantInfo) Grant {
	return Grant{Service: g.ServiceName, Owner: g.OwnerName, Site: g.SiteName, LANPort: g.LANPort, Created: g.Created, Poll: pollView(g.Poll)}
}

func eventView(e provisioning.Event) Event {
	return Event{
		Seq: e.Seq, At: e.At, Actor: e.Actor, Action: e.Action, Subject: e.Subject, Detail: e.Detail, Hash: hex.EncodeToString(e.Hash[:]),
	}
}
