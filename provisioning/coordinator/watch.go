package coordinator

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// Watch keeps one Node informed until ctx ends, send fails or the Node is removed, which is a Denied error. It sends
//
//   - at once: the map, unless have is a generation for which the Node's map is still true; then a frame without one;
//   - on every new generation: the map if its content changed, otherwise a frame with the new generation;
//   - after wire.HeartbeatEvery without either: a frame with the generation there is;
//   - the unchanged map again when it was signed a day ago, so that it never expires.
//
// send may block for as long as it likes: what happened meanwhile is not queued, the next frame is of the newest generation.
func (c *Coordinator) Watch(ctx context.Context, id provisioning.NodeID, have uint64, send func(wire.Frame) error) error {
	c.arrive(id)
	defer c.leave(id)
	x, err := c.newest(ctx)
	if err != nil {
		return err
	}
	s := stream{id: id, have: have}
	for {
		frame, err := c.next(&s, x)
		if err != nil {
			return err
		}
		if err := send(frame); err != nil {
			return fmt.Errorf("send to the node: %w", err)
		}
		if x, err = c.awaitIndex(ctx, x); err != nil {
			return err
		}
	}
}

// stream is what one watching Node is known to have.
type stream struct {
	id provisioning.NodeID
	// have is the generation for which the Node's map is true; 0 is none.
	have uint64
	// hash is the content of that map, once seen is set.
	hash   [sha256.Size]byte
	seen   bool
	issued time.Time
	// looked is the picture that the last frame was made of.
	looked *picture
}

// next makes the frame to be sent now.
func (c *Coordinator) next(s *stream, x *picture) (wire.Frame, error) {
	now := c.stamp()
	renew := s.seen && now.Sub(s.issued) >= renewEvery
	if s.looked == x && !renew {
		return wire.Frame{Generation: s.have, Now: now}, nil
	}
	s.looked = x
	m, hash, err := c.compile(x, s.id)
	if errors.Is(err, errRemoved) {
		return wire.Frame{}, err
	}
	if err != nil {
		// The Node keeps what it has, and its stream: it is needed when the database is repaired.
		c.log.Error("cannot make a node's map", "node", s.id, "generation", x.Generation(), "error", err)
		if s.have > x.Generation() {
			s.have = 0
		}
		return wire.Frame{Generation: s.have, Now: now}, nil
	}
	known := c.observe(s.id, x.Generation(), hash)
	var stale bool
	if s.seen {
		stale = hash != s.hash
	} else {
		stale = s.have == 0 || s.have > x.Generation() || s.have < known.changed
		if s.have > x.Generation() {
			c.log.Warn("a node has a newer map than this database can know; was it restored from a backup?",
				"node", s.id, "generation", x.Generation(), "node_generation", s.have)
		}
		s.issued = known.issued
		renew = now.Sub(s.issued) >= renewEvery
	}
	s.hash, s.seen, s.have = hash, true, x.Generation()
	frame := wire.Frame{Generation: s.have, Now: now}
	if stale || renew {
		signed, err := c.sign(s.id, m)
		if err != nil {
			return wire.Frame{}, err
		}
		frame.NetMap, s.issued = &signed, m.Issued
	}
	return frame, nil
}

// awaitIndex returns a newer picture, or the same when it is time for a heartbeat.
func (c *Coordinator) awaitIndex(ctx context.Context, x *picture) (*picture, error) {
	beat, cancel := context.WithTimeout(ctx, wire.HeartbeatEvery)
	defer cancel()
	gen, err := c.st.Watch(beat, x.Generation())
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case beat.Err() != nil:
		return x, nil
	case err != nil:
		return nil, fmt.Errorf("wait for a new generation: %w", err)
	}
	return c.indexAt(ctx, gen)
}

func (c *Coordinator) arrive(id provisioning.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watching[id]++
}

func (c *Coordinator) leave(id provisioning.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watching[id]--; c.watching[id] <= 0 {
		delete(c.watching, id)
	}
}
