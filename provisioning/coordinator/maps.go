package coordinator

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

const (
	// MapLifetime is how long a NetMap lives before its Node starts to warn.
	MapLifetime = 90 * 24 * time.Hour
	// renewEvery is how often a Node that watches gets its unchanged map again, so that it never comes near the end of it.
	renewEvery = 24 * time.Hour
)

// mapState is what is known of a Node's map since this process started.
type mapState struct {
	hash [sha256.Size]byte
	// changed is the generation at which the content was first seen.
	changed uint64
	// issued is when it was last signed; for a map of an earlier process, a time within renewEvery before the first look.
	issued time.Time
}

// NetMapFor compiles and signs the map of one Node at the newest generation.
func (c *Coordinator) NetMapFor(ctx context.Context, id provisioning.NodeID) (wire.Signed, wire.NetMap, error) {
	x, err := c.early(ctx)
	if err != nil {
		return wire.Signed{}, wire.NetMap{}, err
	}
	x = c.ready(x, id)
	m, e, err := c.compile(x, id)
	if err != nil {
		return wire.Signed{}, wire.NetMap{}, err
	}
	c.observe(id, x.Generation(), e.Hash)
	return c.sign(id, m, e), m, nil
}

// early returns the picture of the newest generation, in which some maps may be late.
func (c *Coordinator) early(ctx context.Context) (*picture, error) {
	var gen uint64
	err := c.st.View(ctx, func(tx store.Tx) error {
		var err error
		gen, err = tx.Generation()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the generation: %w", err)
	}
	return c.indexAt(ctx, gen)
}

// indexAt returns the picture of a generation not below min.
func (c *Coordinator) indexAt(ctx context.Context, min uint64) (*picture, error) {
	// Nobody waits for what is late in a picture, or for the next one, but who needs it.
	if p := c.shown.Load(); p != nil && p.Generation() >= min {
		return p, nil
	}
	c.pictureMu.Lock()
	defer c.pictureMu.Unlock()
	if c.picture != nil && c.picture.Generation() >= min {
		return c.picture, nil
	}
	x, step, err := c.advance(ctx, min)
	if err != nil {
		return nil, err
	}
	for _, o := range x.Omissions() {
		c.log.Error("an object of the database is in no map", "object", o.Object, "reason", o.Reason, "generation", x.Generation())
	}
	c.draw(c.prove(x, x.Snapshot, step))
	return c.picture, nil
}

// draw makes p the picture there is. The caller holds c.pictureMu.
func (c *Coordinator) draw(p *picture) {
	c.picture = p
	c.shown.Store(p)
}

// advance returns the network at a generation not below min: as the picture has it, with what this process has changed since, or read anew;
// then without a step.
func (c *Coordinator) advance(ctx context.Context, min uint64) (*netmap.Index, *netStep, error) {
	// What is signed of a Node decides about other rows than its own, see asSigned.
	if c.picture != nil && c.publisher.index == c.picture.Index && !c.keys.Offline() {
		if steps, ok := c.feed.after(c.picture.Generation(), c.revision, min); ok {
			step := joined(steps)
			x := c.picture.Change(step.change())
			c.revision = step.revised
			c.feed.forget(step.to)
			return x, step, nil
		}
	}
	c.feed.mend()
	var s netmap.Snapshot
	if err := c.st.View(ctx, func(tx store.Tx) error {
		var err error
		if c.revision, err = tx.Ranges().Revision(); err != nil {
			return err
		}
		s, err = snapshot(tx)
		return err
	}); err != nil {
		c.feed.tear()
		return nil, nil, fmt.Errorf("read the network: %w", err)
	}
	c.identify(&s)
	c.feed.forget(s.Generation)
	return netmap.NewIndex(s), nil, nil
}

// identify adds to a snapshot what is not in the database, and takes from it what boxes would not believe.
func (c *Coordinator) identify(s *netmap.Snapshot) {
	s.Network = c.keys.NetworkID()
	s.Hub.PublicKey = c.keys.HubPublicKey()
	s.Hub.Seal = c.keys.Identity().HPKE
	s.HubRelay = c.hubRelay
	*s = c.keys.asSigned(*s)
}

func snapshot(tx store.Tx) (netmap.Snapshot, error) {
	var s netmap.Snapshot
	set, err := readSettings(tx)
	if err != nil {
		return s, err
	}
	s.PairKeys = set.PairKeys
	s.Hub = wire.Hub{Endpoints: set.HubEndpoints, Address: set.HubAddress, ControlPort: set.ControlPort, URLs: set.URLs}
	if s.Generation, err = tx.Generation(); err != nil {
		return s, err
	}
	if s.Sites, err = tx.Sites().List(); err != nil {
		return s, err
	}
	if s.Nodes, err = tx.Nodes().List(); err != nil {
		return s, err
	}
	if s.Services, err = tx.Services().List(); err != nil {
		return s, err
	}
	if s.Grants, err = tx.Grants().List(); err != nil {
		return s, err
	}
	s.Ranges, err = tx.Ranges().List()
	return s, err
}

func (c *Coordinator) compile(x *picture, id provisioning.NodeID) (wire.NetMap, wire.Encoded, error) {
	now := c.stamp()
	if x.proof.Holds(id) {
		return wire.NetMap{}, wire.Encoded{}, errHeld
	}
	m, err := x.compiled(id, now)
	if errors.Is(err, netmap.ErrUnknownNode) {
		return m, wire.Encoded{}, errRemoved
	}
	if errors.Is(err, netmap.ErrInactive) {
		return m, wire.Encoded{}, errInactive
	}
	if err != nil {
		return m, wire.Encoded{}, fmt.Errorf("compile the map: %w", err)
	}
	e, err := wire.Encode(m)
	if err != nil {
		return m, e, fmt.Errorf("compile the map: %w", err)
	}
	return m, e, nil
}

// compiled is the map of a Node, issued now.
func (p *picture) compiled(id provisioning.NodeID, now time.Time) (wire.NetMap, error) {
	if m, ok := p.made[id]; ok {
		m.Issued, m.Expires = now, now.Add(MapLifetime)
		return m, nil
	}
	return p.Compile(id, now, now.Add(MapLifetime))
}

var errRemoved = provisioning.Errorf(provisioning.Denied, "this node was removed from the network").
	WithHint("enroll the box again with a new token if it shall come back")

var errInactive = provisioning.Errorf(provisioning.Denied, "this node takes no part in the network: it waits for an operator, or was quarantined").
	WithHint("the list of nodes at the center says why")

// observe notes the content of a Node's map at a generation and returns what is known of it. Who looks with an older picture than
// somebody before changes nothing.
func (c *Coordinator) observe(id provisioning.NodeID, gen uint64, hash [sha256.Size]byte) mapState {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, known := c.maps[id]
	switch {
	case !known:
		// Renewals after a restart are spread over renewEvery by the hash, which is as good as random.
		age := time.Duration(hash[0]) * (renewEvery / 256)
		s = mapState{hash: hash, changed: gen, issued: c.stamp().Add(-age)}
		c.due(id, gen)
	case s.hash != hash && gen > s.changed:
		s.hash, s.changed = hash, gen
		c.due(id, gen)
	}
	c.maps[id] = s
	return s
}

func (c *Coordinator) sign(id provisioning.NodeID, m wire.NetMap, e wire.Encoded) wire.Signed {
	signed := c.keys.sign(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.maps[id]; ok {
		s.issued = m.Issued
		c.maps[id] = s
	}
	return signed
}

// forget drops what is known of a removed Node.
func (c *Coordinator) forget(id provisioning.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.maps, id)
	delete(c.progress, id)
	c.bases.forget(id)
}
