package coordinator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/wire"
)

// Proof is what came of proving a generation before it was published.
type Proof struct {
	Generation uint64
	// Took is how long it took, from the change to the verdict.
	Took time.Duration
	// Certificate is set when everything holds.
	Certificate *prove.Certificate
	// CounterExamples are what does not. What is not about safety (prove.CounterExample.Safety) is told and nothing more.
	CounterExamples []prove.CounterExample
	// Held are the Nodes that keep the map they have, because theirs would be unsafe; HeldAll means every Node.
	Held    []provisioning.NodeID
	HeldAll bool
}

// Holds reports whether the map of a Node may not be given out.
func (p Proof) Holds(id provisioning.NodeID) bool { return p.HeldAll || slices.Contains(p.Held, id) }

// publisher proves one generation after another, each time only what has changed since.
type publisher struct {
	tool   string
	prover *prove.Prover
	// last is what the prover knows, without maps.
	last prove.Input
}

// publish proves the picture of a generation. An error means that the proof could not be made, and the next one starts anew.
func (p *publisher) publish(x *netmap.Index, s netmap.Snapshot, at time.Time) (Proof, error) {
	began := time.Now()
	cert, err := p.step(x, s, at)
	out := Proof{Generation: x.Generation(), Took: time.Since(began)}
	refuted, ok := errors.AsType[*prove.RefutedError](err)
	switch {
	case err == nil:
		out.Certificate = &cert
	case ok:
		out.CounterExamples = refuted.CounterExamples
		out.Held, out.HeldAll = unsafe(refuted)
	default:
		p.prover = nil
		return out, err
	}
	return out, nil
}

func (p *publisher) step(x *netmap.Index, s netmap.Snapshot, at time.Time) (prove.Certificate, error) {
	next := prove.Export(s, x.Nodes())
	if p.prover == nil {
		var err error
		if p.prover, err = prove.NewProver(); err != nil {
			return prove.Certificate{}, err
		}
		p.last = prove.Input{}
	}
	delta := prove.Between(p.last, next)
	for _, id := range prove.Affected(p.last, next) {
		delta.Remove.Maps = append(delta.Remove.Maps, wire.NetMap{Self: wire.Self{Node: id}})
		// A Node without a sound map gets none; Omissions say why, and the proof that it is missing.
		if m, err := x.Compile(provisioning.NodeID(id), at, at.Add(MapLifetime)); err == nil {
			delta.Add.Maps = append(delta.Add.Maps, m)
		}
	}
	if err := p.prover.Update(delta.Remove, delta.Add); err != nil {
		return prove.Certificate{}, fmt.Errorf("follow the network: %w", err)
	}
	p.last = next
	return p.prover.Prove(prove.Stamp{Tool: p.tool, At: at, Generation: x.Generation()})
}

// unsafe decides whose maps are to be held. A counterexample that names no Node is about all of them, and so is one beyond those listed.
func unsafe(e *prove.RefutedError) (held []provisioning.NodeID, all bool) {
	nodes := map[provisioning.NodeID]bool{}
	all = e.Total > len(e.CounterExamples)
	for _, c := range e.CounterExamples {
		switch {
		case !c.Safety():
		case c.Node == "":
			all = true
		default:
			nodes[provisioning.NodeID(c.Node)] = true
		}
	}
	return slices.Sorted(maps.Keys(nodes)), all
}

// Proof returns what came of proving the newest generation.
func (c *Coordinator) Proof(ctx context.Context) (Proof, error) {
	x, err := c.newest(ctx)
	if err != nil {
		return Proof{}, err
	}
	return x.proof, nil
}

// prove runs before a picture is used for any map. What is not proven to be safe is not published.
func (c *Coordinator) prove(x *netmap.Index, s netmap.Snapshot) Proof {
	proof, err := c.publisher.publish(x, s, c.stamp())
	if err != nil {
		c.log.Error("the network cannot be proven, so nothing of it is published", "generation", x.Generation(), "error", err)
		proof.HeldAll = true
	}
	for _, e := range proof.CounterExamples[:min(len(proof.CounterExamples), maxLoggedRefutations)] {
		c.log.Error("the network is refuted", "generation", x.Generation(), "statement", e.Statement, "reason", e.String(), "held", e.Safety())
	}
	c.log.Debug("proven", "generation", x.Generation(), "took", proof.Took)
	return proof
}

const maxLoggedRefutations = 20

// errHeld is what a Node's map is when it would be unsafe.
var errHeld = errors.New("the map is not proven to be safe and is held back")
