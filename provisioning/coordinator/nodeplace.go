package coordinator

import (
	"context"
	"fmt"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// maxRank is the largest rank of a gateway.
const maxRank = 99

// NodePlace is what a gateway is among those of its Site. What is nil stays as it is.
type NodePlace struct {
	// Rank is 1 for the preferred gateway, up to 99; 0 stands behind all ranks, by address.
	Rank *int
	// Endpoint is host:port (UDP) at which this gateway is reached from outside; empty for one that only calls, or is at the Site's endpoint.
	Endpoint *string
}

// PlaceNode says which gateway of a Site is preferred, and where it is reached.
func (c *Coordinator) PlaceNode(ctx context.Context, actor string, id provisioning.NodeID, p NodePlace) error {
	if p.Rank != nil && (*p.Rank < 0 || *p.Rank > maxRank) {
		return provisioning.Errorf(provisioning.Invalid, "the rank %d is none", *p.Rank).WithHint("give 1 for the preferred gateway, up to %d, or 0 for none", maxRank)
	}
	if p.Endpoint != nil && *p.Endpoint != "" {
		if err := provisioning.CheckEndpoint(*p.Endpoint); err != nil {
			return err
		}
	}
	return c.change(ctx, actor, "node.place", func(tx store.Tx) (string, string, error) {
		n, err := nodeByID(tx, id)
		if err != nil {
			return "", "", err
		}
		if n.Kind != wire.Gateway {
			return "", "", provisioning.Errorf(provisioning.Invalid, "node %s is a %s", id, n.Kind).WithHint("only gateways have a rank and an endpoint of their own")
		}
		rank, endpoint := n.Rank, n.Endpoint
		if p.Rank != nil {
			rank = *p.Rank
		}
		if p.Endpoint != nil {
			endpoint = *p.Endpoint
		}
		detail := fmt.Sprintf("%s at site %s, rank from %d to %d, endpoint from %q to %q", n.Address, ownerName(tx, string(n.Site)), n.Rank, rank, n.Endpoint, endpoint)
		return string(id), detail, tx.Nodes().Place(id, rank, endpoint)
	})
}
