package adminapi

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
)

// Node is an enrolled identity at a Site, and how it is.
type Node struct {
	ID        string     `json:"id"`
	Site      string     `json:"site"`
	Kind      string     `json:"kind"`
	Name      string     `json:"name,omitempty" doc:"of an unmanaged device"`
	PublicKey string     `json:"public_key"`
	KeyPrint  string     `json:"key_print" doc:"short form of the key, which the box shows while it waits"`
	State     string     `json:"state" enum:"active,waiting,quarantined"`
	Reason    string     `json:"reason,omitempty" doc:"why it is not active"`
	Since     time.Time  `json:"since,omitzero" doc:"since when it is in this state"`
	Rotate    string     `json:"rotate,omitempty" doc:"how far a change of its key is: make, wait or turn"`
	Address   netip.Addr `json:"address"`
	Former    netip.Addr `json:"former,omitzero" doc:"address before its site was renumbered, at which it still answers"`
	Rank      int        `json:"rank,omitempty" doc:"place of a gateway among those of its site, 1 for the preferred one; 0 stands behind all ranks"`
	Endpoint  string     `json:"endpoint,omitempty" doc:"where a gateway is reached that is not at its site's endpoint"`
	Enrolled  time.Time  `json:"enrolled"`
	Online    bool       `json:"online"`
	LastSeen  time.Time  `json:"last_seen,omitzero" doc:"when the last report came"`
	Desired   uint64     `json:"desired" doc:"generation at which its map last changed"`
	Applied   uint64     `json:"applied" doc:"generation that it has made true"`
	// BehindSince is zero for a node that has made its newest map true.
	BehindSince time.Time      `json:"behind_since,omitzero" doc:"when the first change came that it has not made true"`
	ApplyError  string         `json:"apply_error,omitempty" doc:"why a newer one is not"`
	Hostname    string         `json:"hostname,omitempty"`
	Serial      string         `json:"serial,omitempty"`
	Model       string         `json:"model,omitempty"`
	Version     string         `json:"version,omitempty"`
	LANs        []netip.Prefix `json:"lans" nullable:"false"`
	Conditions  []Condition    `json:"conditions" nullable:"false"`
	Queues      []Queue        `json:"queues" nullable:"false"`
}

// NodeDetail is a Node with what was planned for it beside what it reports.
type NodeDetail struct {
	Node
	SiteKind    string         `json:"site_kind" enum:"clinic,center"`
	SiteTitle   string         `json:"site_title,omitempty"`
	WANs        []netip.Prefix `json:"wans" nullable:"false" doc:"reported"`
	Containers  []netip.Prefix `json:"containers" nullable:"false" doc:"reported"`
	Prefixes    []netip.Prefix `json:"prefixes" nullable:"false" doc:"planned: ranges that nodes of the kind have their addresses from"`
	PlannedLANs []netip.Prefix `json:"planned_lans" nullable:"false" doc:"the site's local networks as an operator has entered them"`
	Unplanned   []netip.Prefix `json:"unplanned" nullable:"false" doc:"reported LANs beside the planned ones"`
	Missing     []netip.Prefix `json:"missing" nullable:"false" doc:"planned LANs that the box does not report"`
	Origin      netip.Addr     `json:"origin,omitzero" doc:"where it enrolled from, as the coordinator saw it"`
	Translation string         `json:"translation" enum:"unknown,none,router,carrier,private" doc:"what the origin tells of address translation"`
	Token       string         `json:"token,omitempty" doc:"id of the token it enrolled with"`
}

// Rejection says why.
type Rejection struct {
	Reason string `json:"reason,omitempty" doc:"for the audit trail"`
}

// Replacement says how long another box may take the place of a Node.
type Replacement struct {
	TTLSeconds int64 `json:"ttl_seconds,omitempty" doc:"how long the token can be used; 72 hours if absent"`
}

type (
	nodePath struct {
		ID string `path:"id" maxLength:"64"`
	}
	nodeInput[T any] struct {
		ID   string `path:"id" maxLength:"64"`
		Body T
	}
)

func (s *server) nodes() {
	serve(s, s.operation("list-nodes", http.MethodGet, "/v1/nodes", "nodes", "All nodes by site and address", http.StatusOK),
		func(ctx context.Context, _ *none) (nodeList, error) {
			l, err := s.c.Nodes(ctx)
			return nodeList{each(l, nodeView)}, err
		})
	serve(s, s.operation("get-node", http.MethodGet, "/v1/nodes/{id}", "nodes", "All about one, reported next to planned", http.StatusOK),
		func(ctx context.Context, in *nodePath) (NodeDetail, error) {
			d, err := s.c.Node(ctx, provisioning.NodeID(in.ID))
			return nodeDetailView(d), err
		})
	serveEmpty(s, s.operation("approve-node", http.MethodPut, "/v1/nodes/{id}/approval", "nodes", "Let a node take part that waits", http.StatusNoContent),
		func(ctx context.Context, in *nodePath) error {
			return s.c.ApproveNode(ctx, actorOf(ctx), provisioning.NodeID(in.ID))
		})
	serveEmpty(s, s.operation("reject-node", http.MethodPost, "/v1/nodes/{id}/rejection", "nodes", "Remove a node that waits", http.StatusNoContent),
		func(ctx context.Context, in *nodeInput[Rejection]) error {
			return s.c.RejectNode(ctx, actorOf(ctx), provisioning.NodeID(in.ID), in.Body.Reason)
		})
	serve(s, s.operation("replace-node", http.MethodPost, "/v1/nodes/{id}/replacement", "nodes",
		"Make a token for a box that takes the place of a node", http.StatusCreated),
		func(ctx context.Context, in *nodeInput[Replacement]) (CreatedToken, error) {
			return s.token(ctx, in.Body.TTLSeconds, coordinator.NewToken{Replaces: provisioning.NodeID(in.ID)})
		})
	serveEmpty(s, s.operation("remove-node", http.MethodDelete, "/v1/nodes/{id}", "nodes", "Take a node out of the network", http.StatusNoContent),
		func(ctx context.Context, in *nodePath) error {
			return s.c.RemoveNode(ctx, actorOf(ctx), provisioning.NodeID(in.ID))
		})
}

func nodeView(n coordinator.NodeInfo) Node {
	v := Node{
		ID: string(n.ID), Site: n.SiteName, Kind: string(n.Kind), Name: n.Name, PublicKey: n.PublicKey.String(), KeyPrint: wire.KeyPrint(n.PublicKey),
		State: n.State.String(), Reason: n.Reason, Since: n.Since, Rotate: string(n.Rotate), Address: n.Address, Former: n.Former,
		Rank: n.Rank, Endpoint: n.Endpoint, Enrolled: n.Enrolled, Online: n.Online, LastSeen: n.LastSeen, Desired: n.Desired, Applied: n.Applied, BehindSince: n.BehindSince, ApplyError: n.ApplyError,
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

func nodeDetailView(d coordinator.NodeDetail) NodeDetail {
	return NodeDetail{
		Node: nodeView(d.NodeInfo), SiteKind: string(d.Site.Kind), SiteTitle: d.Site.Title, WANs: list(d.Facts.WANs), Containers: list(d.Facts.Containers),
		Prefixes: list(d.Prefixes), PlannedLANs: list(d.LANs), Unplanned: list(d.Unplanned), Missing: list(d.Missing), Origin: d.Origin,
		Translation: string(d.Translation), Token: string(d.Token),
	}
}

// Node returns all about one.
func (c *Client) Node(ctx context.Context, id string) (NodeDetail, error) {
	return call[NodeDetail](ctx, c, http.MethodGet, path("nodes", id), nil)
}

// ApproveNode lets a Node take part that waits.
func (c *Client) ApproveNode(ctx context.Context, id string) error {
	return c.send(ctx, http.MethodPut, path("nodes", id, "approval"), nil)
}

// RejectNode removes a Node that waits. The reason, which may be empty, goes to the audit trail.
func (c *Client) RejectNode(ctx context.Context, id, reason string) error {
	return c.send(ctx, http.MethodPost, path("nodes", id, "rejection"), Rejection{Reason: reason})
}

// ReplaceNode makes a token for a box that takes the place of a Node. A ttl of 0 is 72 hours; it is rounded to whole seconds.
func (c *Client) ReplaceNode(ctx context.Context, id string, ttl time.Duration) (CreatedToken, error) {
	return call[CreatedToken](ctx, c, http.MethodPost, path("nodes", id, "replacement"), Replacement{TTLSeconds: seconds(ttl)})
}
