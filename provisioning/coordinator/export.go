package coordinator

import (
	"context"
	"fmt"

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
	s.Network, s.Hub.PublicKey = c.keys.NetworkID(), c.keys.HubPublicKey()
	x := netmap.NewIndex(s)
	e := Export{Generation: s.Generation, Input: prove.Export(s, x.Nodes())}
	now := c.stamp()
	for _, n := range x.Nodes() {
		m, err := x.Compile(n.ID, now, now.Add(MapLifetime))
		if err != nil {
			return Export{}, fmt.Errorf("compile the map of %s: %w", n.ID, err)
		}
		e.Input.Maps = append(e.Input.Maps, m)
	}
	return e, nil
}
