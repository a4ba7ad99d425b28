package coordinator

import (
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
)

// picture is the network at one generation, and what was proven of it. It does not change: what is late comes with another one.
type picture struct {
	*netmap.Index
	proof Proof
	// late are the Nodes whose maps are not proven yet, see publisher.
	late map[provisioning.NodeID]bool
	// made are the maps that were late and are proven.
	made map[provisioning.NodeID]wire.NetMap
	// hub is the generation since which the hub has had to make the same true.
	hub uint64
	// steps led to this picture, oldest first.
	steps []touch
}

// maxSteps is how many steps a picture knows. Who has missed more looks for itself.
const maxSteps = 32

// touch is whom the step from one picture to the next concerns.
type touch struct {
	from, to uint64
	nodes    map[provisioning.NodeID]bool
	all      bool
}

// touches reports whether the map of a Node may differ from that at the generation have, or may be held now and was not, or the other way
// round.
func (p *picture) touches(id provisioning.NodeID, have uint64) bool {
	if have == p.Generation() {
		return false
	}
	for _, s := range slices.Backward(p.steps) {
		if s.all || s.nodes[id] {
			return true
		}
		if s.from == have {
			return false
		}
	}
	return true
}

// touched are the Nodes that touches reports since a generation, or all.
func (p *picture) touched(since uint64) (nodes iter.Seq[provisioning.NodeID], all bool) {
	out := map[provisioning.NodeID]bool{}
	if since == p.Generation() {
		return maps.Keys(out), false
	}
	for _, s := range slices.Backward(p.steps) {
		if s.all {
			return nil, true
		}
		maps.Copy(out, s.nodes)
		if s.from == since {
			return maps.Keys(out), false
		}
	}
	return nil, true
}

// follow makes the picture that comes after an old one, which is nil for the first.
func (p *picture) follow(x *netmap.Index, proof Proof, affected []string, late map[provisioning.NodeID]bool) *picture {
	next := &picture{Index: x, proof: proof, late: maps.Clone(late)}
	if p == nil {
		return next
	}
	t := touch{from: p.Generation(), to: x.Generation(), nodes: make(map[provisioning.NodeID]bool, len(affected))}
	for _, id := range affected {
		t.nodes[provisioning.NodeID(id)] = true
	}
	t.all = p.proof.HeldAll || proof.HeldAll
	for _, list := range [][]provisioning.NodeID{p.proof.Held, proof.Held} {
		for _, id := range list {
			if p.proof.Holds(id) != proof.Holds(id) {
				t.nodes[id] = true
			}
		}
	}
	next.steps = append(slices.Clone(p.steps[max(0, len(p.steps)-maxSteps+1):]), t)
	return next
}

// newest returns the picture of the newest generation, with all that is proven of it.
func (c *Coordinator) newest(ctx context.Context) (*picture, error) {
	x, err := c.early(ctx)
	if err != nil {
		return nil, err
	}
	return c.settle(x), nil
}

// prove is the first step to a new picture. What is not proven to be safe is not published.
func (c *Coordinator) prove(x *netmap.Index, facts func() netmap.Snapshot, step *netStep) *picture {
	proof, affected, err := c.publisher.begin(x, facts, step, c.stamp())
	if err != nil {
		c.log.Error("the network cannot be proven, so nothing of it is published", "generation", x.Generation(), "error", err)
		proof = Proof{Generation: x.Generation(), HeldAll: true}
	}
	p := c.picture.follow(x, proof, affected, c.publisher.late)
	if p.hub = x.Generation(); step != nil && len(step.nodes) == 0 && sameHub(c.picture.Index, x) {
		p.hub = c.picture.hub
	}
	if err != nil {
		p.late = nil
	}
	if len(p.late) == 0 {
		c.refuted(proof)
	}
	return p
}

// sameHub reports whether a step that changes no Node leaves the hub as it is: one of a sound network, in which every Node has its peer.
func sameHub(before, after *netmap.Index) bool {
	return before.Sound() && after.Sound() && slices.Equal(before.Overlay(), after.Overlay())
}

// maxOvertaken is how often the second step to a picture may be overtaken by the next picture, before that waits.
const maxOvertaken = 3

// settle takes the second step, if it is still to be taken, and returns the picture or a newer one. It comes after what the first step has
// ready, and lets the next picture go first.
func (c *Coordinator) settle(x *picture) *picture {
	if len(x.late) == 0 {
		return x
	}
	c.crier.calm()
	c.lateMu.Lock()
	defer c.lateMu.Unlock()
	for overtaken := 0; ; overtaken++ {
		early := c.shown.Load()
		if len(early.late) == 0 {
			return early
		}
		l, err := makeLate(early.Index, early.late, c.stamp())
		if p := c.finish(early, l, err, overtaken >= maxOvertaken); p != nil {
			return p
		}
	}
}

// finish proves the late maps of a picture, and returns nil if there is a newer one, or if forced the picture of that.
func (c *Coordinator) finish(early *picture, l lateMaps, err error, forced bool) *picture {
	c.pictureMu.Lock()
	defer c.pictureMu.Unlock()
	if c.picture != early {
		if early = c.picture; !forced || len(early.late) == 0 {
			return nil
		}
		l, err = makeLate(early.Index, early.late, c.stamp())
	}
	var proof Proof
	if err != nil {
		c.log.Error("the network cannot be proven, so nothing of it is published", "generation", early.Generation(), "error", err)
		c.publisher.reset()
		proof = early.proof
		proof.HeldAll = true
	} else {
		proof = c.publisher.finish(early.Index, l, c.stamp(), early.proof)
	}
	p := &picture{Index: early.Index, proof: proof, hub: early.hub, steps: early.steps, made: l.made}
	c.refuted(proof)
	c.draw(p)
	return p
}

// ready returns x, or a picture after it, in which the map of a Node is proven.
func (c *Coordinator) ready(x *picture, id provisioning.NodeID) *picture {
	if x.late[id] {
		return c.settle(x)
	}
	return x
}
