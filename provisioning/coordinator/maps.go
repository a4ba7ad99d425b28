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
	MapLifetime = 30 * 24 * time.Hour
	// renewEvery is how often a Node that watches gets its unchanged map again, so that it never comes near the end of it.
	renewEvery = 24 * time.Hour
)

// picture is the network at one generation, and what was proven of it.
type picture struct {
	*netmap.Index
	proof Proof
}

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
	x, err := c.newest(ctx)
	if err != nil {
		return wire.Signed{}, wire.NetMap{}, err
	}
	m, e, err := c.compile(x, id)
	if err != nil {
		return wire.Signed{}, wire.NetMap{}, err
	}
	c.observe(id, x.Generation(), e.Hash)
	return c.sign(id, m, e), m, nil
}

// newest returns the picture of the newest generation.
func (c *Coordinator) newest(ctx context.Context) (*picture, error) {
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
	c.pictureMu.Lock()
	defer c.pictureMu.Unlock()
	if c.picture != nil && c.picture.Generation() >= min {
		return c.picture, nil
	}
	var s netmap.Snapshot
	if err := c.st.View(ctx, func(tx store.Tx) error {
		var err error
		s, err = snapshot(tx)
		return err
	}); err != nil {
		return nil, fmt.Errorf("read the network: %w", err)
	}
	s.Network = c.keys.NetworkID()
	s.Hub.PublicKey = c.keys.HubPublicKey()
	x := netmap.NewIndex(s)
	for _, o := range x.Omissions() {
		c.log.Error("an object of the database is in no map", "object", o.Object, "reason", o.Reason, "generation", s.Generation)
	}
	c.picture = &picture{Index: x, proof: c.prove(x, s)}
	return c.picture, nil
}

func snapshot(tx store.Tx) (netmap.Snapshot, error) {
	var s netmap.Snapshot
	set, err := readSettings(tx)
	if err != nil {
		return s, err
	}
	s.Hub = wire.Hub{Endpoints: set.HubEndpoints, Address: set.HubAddress, ControlPort: set.ControlPort}
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
	m, err := x.Compile(id, now, now.Add(MapLifetime))
	if errors.Is(err, netmap.ErrUnknownNode) {
		return m, wire.Encoded{}, errRemoved
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

var errRemoved = provisioning.Errorf(provisioning.Denied, "this node was removed from the network").
	WithHint("enroll the box again with a new token if it shall come back")

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
	signed := e.Sign(c.keys.network)
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
