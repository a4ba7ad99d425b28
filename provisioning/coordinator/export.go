package coordinator

import (
	"context"
	"fmt"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/store"
)

// Export is a picture of the whole network at one generation: the plan, the facts, and the map of every Node. It is all that a proof
// needs, and holds no secret.
type Export struct {
	Generation uint64      `json:"generation"`
	Input      prove.Input `json:"input"`
}

// Export makes one.
func (c *Coordinator) Export(ctx context.Context) (Export, error) {
	var s netmap.Snapshot
	if err := c.st.View(ctx, func(tx store.Tx) error {
		var err error
		s, err = snapshot(tx)
		return err
	}); err != nil {
		return Export{}, fmt.Errorf("read the network: %w", err)
	}
	c.identify(&s)
	x := netmap.NewIndex(s)
	e := Export{Generation: s.Generation, Input: prove.Export(s, x.Nodes())}
	now := c.stamp()
	for _, n := range e.Input.Nodes {
		// Of one without a sound map, the proof says that it is missing.
		if m, err := x.Compile(provisioning.NodeID(n.ID), now, now.Add(MapLifetime)); err == nil {
			e.Input.Maps = append(e.Input.Maps, m)
		}
	}
	return e, nil
}
