package coordinator

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// Watch keeps one Node informed until ctx ends, send fails or the Node is removed, which is a Denied error. It sends
//
//   - at once: the map, unless the Node has it or, if it does not tell what it has, the map it had at that generation is still true; then
//     a frame without one;
//   - soon after a new generation that concerns the Node: the map if its content changed, otherwise a frame with the new generation;
//   - after wire.HeartbeatEvery without either: the same for the generation there is;
//   - soon after another Node left a message for it: the same, with that said;
//   - the unchanged map again when it was signed a day ago, so that it never expires.
//
// A map travels as a change from the one that the Node has if the Node takes that and it is much smaller.
//
// send may block for as long as it likes: what happened meanwhile is not queued, the next frame is of the newest generation.
func (c *Coordinator) Watch(ctx context.Context, id provisioning.NodeID, have wire.Have, send func(wire.Frame) error) error {
	ctx, opened, err := c.arrive(ctx, id, have)
	defer c.leave(id, opened)
	if err != nil {
		return err
	}
	w := c.join(id)
	defer c.part(w)
	x, err := c.early(ctx)
	if err != nil {
		return err
	}
	s := stream{id: id, have: have.Generation, hash: have.Hash, diffs: have.Diffs}
	for {
		x = c.ready(x, id)
		frame, err := c.next(&s, x)
		if err != nil {
			return err
		}
		// From here on x is not used: a picture is large, and must not wait for a slow Node to take its frame.
		gen := x.Generation()
		frame.Mail = c.crier.takeMail(w)
		if err := send(frame); err != nil {
			return fmt.Errorf("send to the node: %w", err)
		}
		if x, err = c.awaitIndex(ctx, w, gen); err != nil {
			return err
		}
	}
}

// stream is what one watching Node is known to have.
type stream struct {
	id provisioning.NodeID
	// have is the generation for which the Node's map is true; 0 is none.
	have uint64
	// hash is the content of that map: what was sent once seen is set, and before what the Node says, or zero.
	hash   wire.ContentHash
	seen   bool
	diffs  bool
	issued time.Time
	// looked is the generation of the picture that the last frame was made of.
	looked uint64
	// sound is set when there was a map in it.
	sound bool
}

// frame makes one without a map.
func (s *stream) frame(now time.Time) wire.Frame {
	f := wire.Frame{Generation: s.have, Now: now}
	if s.diffs && s.seen {
		f.Hash = s.hash
	}
	return f
}

// next makes the frame to be sent now.
func (c *Coordinator) next(s *stream, x *picture) (wire.Frame, error) {
	now := c.stamp()
	renew := s.seen && now.Sub(s.issued) >= renewEvery
	if s.looked == x.Generation() && !renew {
		return s.frame(now), nil
	}
	if s.sound && !renew && !x.touches(s.id, s.looked) {
		s.looked, s.have = x.Generation(), x.Generation()
		return s.frame(now), nil
	}
	s.looked, s.sound = x.Generation(), false
	m, e, err := c.compile(x, s.id)
	if errors.Is(err, errRemoved) || errors.Is(err, errInactive) {
		return wire.Frame{}, err
	}
	if size := base64.StdEncoding.EncodedLen(len(e.Payload)); err == nil && size > wire.MaxFrame-frameMargin {
		err = fmt.Errorf("it would take %d bytes on the way, and a frame has %d at most", size, wire.MaxFrame)
	}
	if err != nil {
		// The Node keeps what it has, and its stream: it is needed when the database is repaired.
		c.log.Error("cannot make a node's map", "node", s.id, "generation", x.Generation(), "error", err)
		if s.have > x.Generation() {
			s.have = 0
		}
		return s.frame(now), nil
	}
	known := c.observe(s.id, x.Generation(), e.Hash)
	stale := c.stale(s, x.Generation(), known, e.Hash)
	if !s.seen {
		s.issued = known.issued
		renew = now.Sub(s.issued) >= renewEvery
	}
	base := s.hash
	s.hash, s.seen, s.sound, s.have = e.Hash, true, true, x.Generation()
	frame := s.frame(now)
	if stale || renew {
		s.issued = m.Issued
		if err := c.pack(&frame, s, base, m, e); err != nil {
			return wire.Frame{}, err
		}
	}
	return frame, nil
}

// frameMargin is what a frame has besides the map, in bytes, and more.
const frameMargin = 4 << 10

// stale reports whether the Node needs another map than it has.
func (c *Coordinator) stale(s *stream, gen uint64, known mapState, hash wire.ContentHash) bool {
	if s.seen {
		return hash != s.hash
	}
	if s.have > gen {
		c.log.Warn("a node has a newer map than this database can know; was it restored from a backup?",
			"node", s.id, "generation", gen, "node_generation", s.have)
		c.restored.note(s.id, s.have, gen)
		return true
	}
	switch {
	case s.have == 0:
		s.hash = wire.ContentHash{}
		return true
	case s.hash.IsZero():
		return s.have < known.changed
	}
	return hash != s.hash
}

// pack puts m into a frame: as a change from base, which the Node has, or whole.
func (c *Coordinator) pack(f *wire.Frame, s *stream, base wire.ContentHash, m wire.NetMap, e wire.Encoded) error {
	signed := c.sign(s.id, m, e)
	if !s.diffs || len(e.Payload) < diffFrom {
		f.NetMap = &signed
		return nil
	}
	old, ok := c.bases.find(s.id, base)
	if base == e.Hash {
		old, ok = m, true
	}
	c.bases.keep(s.id, e, m)
	if ok {
		change, err := signed.Since(base, old, m)
		if err != nil {
			return err
		}
		if 2*len(change.Diff) < base64.StdEncoding.EncodedLen(len(signed.Payload)) {
			f.Change = &change
			return nil
		}
	}
	f.NetMap = &signed
	return nil
}

// awaitIndex returns a picture that may concern the Node, above the generation have, or any when it is time for a heartbeat.
func (c *Coordinator) awaitIndex(ctx context.Context, w *watcher, have uint64) (*picture, error) {
	beat := time.NewTimer(wire.HeartbeatEvery)
	defer beat.Stop()
	for {
		if err := c.crier.rest(w); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-beat.C:
			return c.indexAt(ctx, have)
		case <-w.wake:
		}
		if c.crier.hasMail(w) {
			return c.indexAt(ctx, have)
		}
		if x := c.shown.Load(); x != nil && x.touches(w.id, have) {
			return x, nil
		} else if x != nil {
			have = x.Generation()
		}
	}
}
