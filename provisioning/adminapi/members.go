package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
)

// maxSigned bounds the signatures of one call, in bytes.
const maxSigned = wire.MaxSigning

// UnsignedMember is a Node as it is now, which the network's offline key has not signed.
type UnsignedMember struct {
	Node   string    `json:"node"`
	Site   string    `json:"site"`
	Since  time.Time `json:"since,omitzero" doc:"when the node came, or its newest prefix; absent if not known"`
	Member []byte    `json:"member" doc:"what is to be signed: JSON"`
	// LastPayload and LastSignature are empty for a Node that was never signed.
	LastPayload   []byte `json:"last_payload,omitempty" doc:"what was signed before: JSON"`
	LastSignature []byte `json:"last_signature,omitempty"`
}

// SignedMember is a signature by the network's offline key.
type SignedMember struct {
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
}

// SignedMembers are what "towpath sign" has made.
type SignedMembers struct {
	Members []SignedMember `json:"members" nullable:"false"`
}

// TakenMembers is what became of signatures.
type TakenMembers struct {
	Accepted []string `json:"accepted" nullable:"false" doc:"nodes whose signature is stored"`
	Active   []string `json:"active" nullable:"false" doc:"those of them that take part from now on"`
	Stale    []string `json:"stale" nullable:"false" doc:"nodes that have changed since, or are gone"`
}

// Rotation says how to change a key.
type Rotation struct {
	Force bool `json:"force,omitempty" doc:"also where plain WireGuard devices have the old key in their files"`
}

// NodeQuarantine says why.
type NodeQuarantine struct {
	Reason string `json:"reason" doc:"for the audit trail and the list of nodes"`
}

// Restored is the generation after a restore.
type Restored struct {
	Generation uint64 `json:"generation"`
}

type unsignedList struct {
	Network string           `json:"network"`
	Members []UnsignedMember `json:"members" nullable:"false"`
}

func (s *server) members() {
	serve(s, s.operation("list-unsigned", http.MethodGet, "/v1/members/unsigned", "members", "What waits for the network's offline key", http.StatusOK),
		func(ctx context.Context, _ *none) (unsignedList, error) {
			l, err := s.c.Unsigned(ctx)
			if err != nil {
				return unsignedList{}, err
			}
			return unsignedView(s.c.NetworkID(), l)
		})
	signed := s.operation("take-signed", http.MethodPost, "/v1/members/signed", "members", "Store what the network's offline key has signed", http.StatusOK)
	signed.MaxBodyBytes = maxSigned
	serve(s, signed, func(ctx context.Context, in *body[SignedMembers]) (TakenMembers, error) {
		t, err := s.c.TakeSigned(ctx, actorOf(ctx), each(in.Body.Members, func(m SignedMember) wire.SignedMember { return wire.SignedMember(m) }))
		return takenView(t), err
	})
	serveEmpty(s, s.operation("rotate-node", http.MethodPost, "/v1/nodes/{id}/rotation", "nodes", "Begin to change the key of a node", http.StatusNoContent),
		func(ctx context.Context, in *nodeInput[Rotation]) error {
			return s.c.RotateNode(ctx, actorOf(ctx), provisioning.NodeID(in.ID), in.Body.Force)
		})
	serveEmpty(s, s.operation("cancel-rotation", http.MethodDelete, "/v1/nodes/{id}/rotation", "nodes", "Let a node stay with its key", http.StatusNoContent),
		func(ctx context.Context, in *nodePath) error {
			return s.c.CancelRotation(ctx, actorOf(ctx), provisioning.NodeID(in.ID))
		})
	serveEmpty(s, s.operation("quarantine-node", http.MethodPut, "/v1/nodes/{id}/quarantine", "nodes", "Shut a node out", http.StatusNoContent),
		func(ctx context.Context, in *nodeInput[NodeQuarantine]) error {
			return s.c.QuarantineNode(ctx, actorOf(ctx), provisioning.NodeID(in.ID), in.Body.Reason)
		})
	serveEmpty(s, s.operation("readmit-node", http.MethodDelete, "/v1/nodes/{id}/quarantine", "nodes", "Let a quarantined node back in", http.StatusNoContent),
		func(ctx context.Context, in *nodePath) error {
			return s.c.ReadmitNode(ctx, actorOf(ctx), provisioning.NodeID(in.ID))
		})
	serve(s, s.operation("restored", http.MethodPost, "/v1/network/restored", "network",
		"Raise the generation above what boxes have, after the database was restored", http.StatusOK),
		func(ctx context.Context, _ *none) (Restored, error) {
			gen, err := s.c.Restored(ctx, actorOf(ctx))
			return Restored{Generation: gen}, err
		})
}

func unsignedView(network string, l []coordinator.UnsignedMember) (unsignedList, error) {
	out := unsignedList{Network: network, Members: make([]UnsignedMember, 0, len(l))}
	for _, u := range l {
		p, err := json.Marshal(u.Member)
		if err != nil {
			return out, fmt.Errorf("encode the member %s: %w", u.Member.Node, err)
		}
		v := UnsignedMember{Node: u.Member.Node, Site: u.Member.Site, Since: u.Since, Member: p}
		if u.Last != nil {
			v.LastPayload, v.LastSignature = u.Last.Payload, u.Last.Signature
		}
		out.Members = append(out.Members, v)
	}
	return out, nil
}

func takenView(t coordinator.Taken) TakenMembers {
	name := func(id provisioning.NodeID) string { return string(id) }
	return TakenMembers{Accepted: each(t.Accepted, name), Active: each(t.Active, name), Stale: list(t.Stale)}
}

// Unsigned returns what the network's offline key is to sign, and the network's short name.
func (c *Client) Unsigned(ctx context.Context) (network string, members []UnsignedMember, err error) {
	l, err := call[unsignedList](ctx, c, http.MethodGet, path("members", "unsigned"), nil)
	return l.Network, l.Members, err
}

// TakeSigned stores what the network's offline key has signed.
func (c *Client) TakeSigned(ctx context.Context, members []SignedMember) (TakenMembers, error) {
	return call[TakenMembers](ctx, c, http.MethodPost, path("members", "signed"), SignedMembers{Members: members})
}

// RotateNode begins to change the key of a Node.
func (c *Client) RotateNode(ctx context.Context, id string, force bool) error {
	return c.send(ctx, http.MethodPost, path("nodes", id, "rotation"), Rotation{Force: force})
}

// CancelRotation lets a Node stay with its key.
func (c *Client) CancelRotation(ctx context.Context, id string) error {
	return c.send(ctx, http.MethodDelete, path("nodes", id, "rotation"), nil)
}

// QuarantineNode shuts a Node out.
func (c *Client) QuarantineNode(ctx context.Context, id, reason string) error {
	return c.send(ctx, http.MethodPut, path("nodes", id, "quarantine"), NodeQuarantine{Reason: reason})
}

// ReadmitNode ends a quarantine.
func (c *Client) ReadmitNode(ctx context.Context, id string) error {
	return c.send(ctx, http.MethodDelete, path("nodes", id, "quarantine"), nil)
}

// Restored raises the generation above what boxes have, after the database was restored from a backup, and returns it.
func (c *Client) Restored(ctx context.Context) (uint64, error) {
	r, err := call[Restored](ctx, c, http.MethodPost, path("network", "restored"), nil)
	return r.Generation, err
}
