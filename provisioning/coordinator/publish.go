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

// publisher proves one generation after another, each time only what has changed since, and in two steps: a map with many peers costs what
// it has, and the maps of all others do not wait for it.
type publisher struct {
	tool   string
	prover *prove.Prover
	// index is what the prover knows, without maps, and facts what it was made of.
	index *netmap.Index
	facts func() netmap.Snapshot
	// late are the Nodes whose maps the prover does not have yet.
	late map[provisioning.NodeID]bool
}

// manyLinks is from how many grants at a Site on the maps of its Nodes are left for the second step.
const manyLinks = 64

// begin takes the first step to a picture: it proves all maps but some, which are late, and returns the Nodes whose maps may differ from
// those of the picture before. It keeps facts, which are those that x was made of; the step that led there may be nil. An error means that the proof could not be made, and the next one starts
// anew.
func (p *publisher) begin(x *netmap.Index, facts func() netmap.Snapshot, step *netStep, at time.Time) (proof Proof, affected []string, err error) {
	began := time.Now()
	if affected, err = p.take(x, facts, step, at); err != nil {
		p.reset()
		return Proof{}, nil, err
	}
	proof = Proof{Generation: x.Generation(), Took: time.Since(began)}
	if len(p.late) == 0 {
		return p.conclude(x, at, proof), affected, nil
	}
	late := make(map[string]bool, len(p.late))
	for id := range p.late {
		late[string(id)] = true
	}
	proof.CounterExamples = p.prover.Without(late)
	proof.Held, proof.HeldAll = unsafe(&prove.RefutedError{CounterExamples: proof.CounterExamples, Total: len(proof.CounterExamples)})
	proof.Took = time.Since(began)
	return proof, affected, nil
}

// take brings the prover to a picture, but for the maps that are late.
func (p *publisher) take(x *netmap.Index, facts func() netmap.Snapshot, step *netStep, at time.Time) ([]string, error) {
	var known prove.Input
	if p.prover == nil {
		var err error
		if p.prover, err = prove.NewProver(); err != nil {
			return nil, err
		}
		p.late, step = map[provisioning.NodeID]bool{}, nil
	}
	delta, affected, ok := p.near(x, step)
	if !ok {
		if p.index != nil {
			known = prove.Export(p.facts(), p.index.Nodes())
		}
		next := prove.Export(facts(), x.Nodes())
		delta, affected = prove.Between(known, next), prove.Affected(known, next)
	}
	for _, text := range affected {
		id := provisioning.NodeID(text)
		if x.Links(id) >= manyLinks {
			p.late[id] = true
			continue
		}
		delete(p.late, id)
		p.replace(&delta, x, id, at)
	}
	if err := p.prover.Update(delta.Remove, delta.Add); err != nil {
		return nil, fmt.Errorf("follow the network: %w", err)
	}
	p.index, p.facts = x, facts
	return affected, nil
}

// replace compiles the map of a Node for a Delta. A Node without a sound map gets none; Omissions say why, and the proof that it is missing.
func (p *publisher) replace(d *prove.Delta, x *netmap.Index, id provisioning.NodeID, at time.Time) {
	d.Remove.Maps = append(d.Remove.Maps, wire.NetMap{Self: wire.Self{Node: string(id)}})
	if m, err := x.Compile(id, at, at.Add(MapLifetime)); err == nil {
		d.Add.Maps = append(d.Add.Maps, m)
	}
}

// reset forgets everything.
func (p *publisher) reset() { *p = publisher{tool: p.tool} }

// lateMaps are those of the second step, ready for the proof. A Node without a sound map has none, as in replace.
type lateMaps struct {
	nodes []string
	made  map[provisioning.NodeID]wire.NetMap
	ready []prove.Prepared
}

// makeLate makes the maps that are late in x. It needs nothing of the publisher, so that the next picture need not wait for it.
func makeLate(x *netmap.Index, late map[provisioning.NodeID]bool, at time.Time) (lateMaps, error) {
	l := lateMaps{made: map[provisioning.NodeID]wire.NetMap{}}
	for id := range late {
		l.nodes = append(l.nodes, string(id))
		m, err := x.Compile(id, at, at.Add(MapLifetime))
		if err != nil {
			continue
		}
		ready, err := prove.Prepare(m)
		if err != nil {
			return l, err
		}
		l.made[id], l.ready = m, append(l.ready, ready)
	}
	return l, nil
}

// finish takes the second step to the picture that begin was last called with, of which l are the late maps.
func (p *publisher) finish(x *netmap.Index, l lateMaps, at time.Time, early Proof) Proof {
	began := time.Now()
	p.prover.Replace(l.nodes, l.ready)
	clear(p.late)
	proof := p.conclude(x, at, Proof{Generation: x.Generation(), Took: early.Took})
	proof.Took += time.Since(began)
	return proof
}

// conclude makes the certificate, or says what is wrong.
func (p *publisher) conclude(x *netmap.Index, at time.Time, proof Proof) Proof {
	began := time.Now()
	cert, err := p.prover.Prove(prove.Stamp{Tool: p.tool, At: at, Generation: x.Generation()})
	if refuted, ok := errors.AsType[*prove.RefutedError](err); ok {
		proof.CounterExamples = refuted.CounterExamples
		proof.Held, proof.HeldAll = unsafe(refuted)
	} else {
		proof.Certificate = &cert
	}
	proof.Took += time.Since(began)
	return proof
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

// refuted logs what a proof found.
func (c *Coordinator) refuted(proof Proof) {
	for _, e := range proof.CounterExamples[:min(len(proof.CounterExamples), maxLoggedRefutations)] {
		c.log.Error("the network is refuted", "generation", proof.Generation, "statement", e.Statement, "reason", e.String(), "held", e.Safety())
	}
	c.log.Debug("proven", "generation", proof.Generation, "took", proof.Took)
}

const maxLoggedRefutations = 20

// errHeld is what a Node's map is when it would be unsafe.
var errHeld = errors.New("the map is not proven to be safe and is held back")
