package coordinator

import (
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// progress is how far a Node is with what it should make true, as it says itself while it watches.
type progress struct {
	applied uint64
	problem string
	// heard is when the Node said so.
	heard time.Time
	// changed is the generation at which its map last changed.
	changed uint64
	// behind is when the first change came that is not applied; zero if there is none.
	behind time.Time
}

// due notes that the map of a Node changed at a generation. The caller holds c.mu.
func (c *Coordinator) due(id provisioning.NodeID, gen uint64) {
	p := c.progress[id]
	if p.changed = gen; p.applied >= gen {
		p.behind = time.Time{}
	} else if p.behind.IsZero() {
		p.behind = c.stamp()
	}
	c.progress[id] = p
}

// Beat notes what a Node says of itself. Nothing of it is stored: what shall outlive this process comes with a report.
func (c *Coordinator) Beat(id provisioning.NodeID, b wire.Beat) {
	problem := clean(b.ApplyError, maxLong)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.maps[id]; !known {
		return // nobody has asked for its map yet, or it was removed
	}
	p := c.progress[id]
	p.applied, p.problem, p.heard = b.Applied, problem, c.stamp()
	if p.applied >= p.changed {
		p.behind = time.Time{}
	}
	c.progress[id] = p
}

// show puts what is newer than the last report into n.
func (p progress) show(n *NodeInfo) {
	if p.heard.After(n.LastSeen) {
		n.Applied, n.ApplyError, n.LastSeen = p.applied, p.problem, p.heard
	}
	if n.Applied < p.changed {
		n.BehindSince = p.behind
	}
}
