package adminapi

import (
	"context"
	"net/http"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
)

// NodePlace is what a gateway is among those of its Site. What is absent stays as it is.
type NodePlace struct {
	Rank     *int    `json:"rank,omitempty" minimum:"0" maximum:"99" doc:"1 for the preferred gateway; 0 stands behind all ranks"`
	Endpoint *string `json:"endpoint,omitempty" maxLength:"255" doc:"host:port at which this gateway is reached from outside; empty for none of its own"`
}

func (s *server) nodePlaces() {
	serveEmpty(s, s.operation("place-node", http.MethodPut, "/v1/nodes/{id}/place", "nodes",
		"Say which gateway of a site is preferred, and where it is reached", http.StatusNoContent),
		func(ctx context.Context, in *nodeInput[NodePlace]) error {
			return s.c.PlaceNode(ctx, actorOf(ctx), provisioning.NodeID(in.ID), coordinator.NodePlace{Rank: in.Body.Rank, Endpoint: in.Body.Endpoint})
		})
}

// PlaceNode says which gateway of a Site is preferred, and where it is reached.
func (c *Client) PlaceNode(ctx context.Context, id string, p NodePlace) error {
	return c.send(ctx, http.MethodPut, path("nodes", id, "place"), p)
}
