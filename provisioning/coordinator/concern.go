package coordinator

import (
	"sync"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
)

// concern knows whom the step to the newest picture concerns, so that a change of one clinic does not make the coordinator compile the maps
// of all. It only says who is to hurry: all others look for themselves with their next heartbeat.
type concern struct {
	mu       sync.Mutex
	last     *netmap.Index
	from, to uint64
	nodes    map[provisioning.NodeID]bool
	all      bool
}

// touches reports whether the map of a Node may have changed between the generation since and x.
func (c *concern) touches(x *netmap.Index, id provisioning.NodeID, since uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step(x)
	if since != c.from || x.Generation() != c.to {
		return true // it missed a step
	}
	return c.all || c.nodes[id]
}

// know takes the picture that a stream begins with.
func (c *concern) know(x *netmap.Index) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step(x)
}

func (c *concern) step(x *netmap.Index) {
	gen := x.Generation()
	if gen <= c.to {
		return
	}
	c.nodes, c.all = nil, true
	if c.last != nil {
		c.nodes, c.all = x.Touched(c.last)
	}
	c.from, c.to, c.last = c.to, gen, x
}
