package coordinator

import (
	"context"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// HubView is what the hub has to make true.
type HubView struct {
	Generation  uint64
	Address     netip.Addr
	ControlPort uint16
	// Overlay are the pools of the plan.
	Overlay []netip.Prefix
	// Nodes are all sound ones: exactly the hub's peers.
	Nodes []provisioning.Node
	// Relay is what the hub's own relay forwards; nothing if there is none.
	Relay wire.RelayTable
}

// HubView returns it for the newest generation.
func (c *Coordinator) HubView(ctx context.Context) (HubView, error) {
	x, err := c.early(ctx)
	if err != nil {
		return HubView{}, err
	}
	return HubView{
		Generation:  x.Generation(),
		Address:     c.settings.HubAddress,
		ControlPort: c.settings.ControlPort,
		Overlay:     x.Overlay(),
		Nodes:       x.Nodes(),
		Relay:       c.relaying(x),
	}, nil
}

// HubUnchanged reports whether what the hub's device has to make true has been the same since the generation have. Then it returns the
// newest one for which it is, and what the hub's relay forwards. Most changes are about who may use what, and cost the device no look at
// all its Nodes.
func (c *Coordinator) HubUnchanged(ctx context.Context, have uint64) (gen uint64, relay wire.RelayTable, same bool, err error) {
	x, err := c.early(ctx)
	if err != nil {
		return 0, relay, false, err
	}
	if x.hub > have || have > x.Generation() {
		return x.Generation(), relay, false, nil
	}
	return x.Generation(), c.relaying(x), true, nil
}

// relaying is what the hub's own relay forwards.
func (c *Coordinator) relaying(x *picture) wire.RelayTable {
	if !c.hubRelay {
		return wire.RelayTable{}
	}
	c.mu.Lock()
	carried := c.carried
	c.mu.Unlock()
	return x.RelayingWith(carried)
}

// SetCarried tells which keys belong to Nodes that reach the hub over TCP alone, and returns what the hub's relay forwards then. The caller
// leaves the map as it is from then on.
func (c *Coordinator) SetCarried(ctx context.Context, keys map[wgkey.PublicKey]bool) (wire.RelayTable, error) {
	c.mu.Lock()
	c.carried = keys
	c.mu.Unlock()
	x, err := c.early(ctx)
	if err != nil {
		return wire.RelayTable{}, err
	}
	return c.relaying(x), nil
}

// hubProgress is how far the hub is.
type hubProgress struct {
	applied uint64
	// changed is closed and replaced whenever applied grows; nil while there is no hub.
	changed chan struct{}
}

// HubApplied tells that the hub's device knows all nodes of a generation. From the first call on, an enrolment is answered only when the
// hub knows the new node, so that the node's first handshake is not lost.
func (c *Coordinator) HubApplied(gen uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hub.changed != nil && gen <= c.hub.applied {
		return
	}
	if c.hub.changed != nil {
		close(c.hub.changed)
	}
	c.hub = hubProgress{applied: gen, changed: make(chan struct{})}
}

// hubWait bounds how long an enrolment waits for the hub. WireGuard repeats a lost handshake after 5 s anyway.
const hubWait = 3 * time.Second

func (c *Coordinator) awaitHub(ctx context.Context, gen uint64) {
	ctx, cancel := context.WithTimeout(ctx, hubWait)
	defer cancel()
	for {
		c.mu.Lock()
		h := c.hub
		c.mu.Unlock()
		if h.changed == nil || h.applied >= gen {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-h.changed:
		}
	}
}
