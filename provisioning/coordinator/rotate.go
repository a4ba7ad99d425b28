package coordinator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// The change of a Node's key has these steps (wire.RotateStep); each is a generation of its own:
//
//	""    RotateNode            make   the Node is asked to make a key
//	make  NextKey               wait   its public half is told to the hub and all peers
//	wait  Turn, all know it     turn   the Node changes
//	turn  Turned, at the hub    ""     the old key is dropped
//	make, wait, turn  CancelRotation  ""

// silentFor is how long a peer must have said nothing so that a change of a key does not wait for it. It finds the other end by the new key
// when it is back, see package turn.
const silentFor = 24 * time.Hour

// returnWithin is how long after a start of the coordinator all boxes that are there have called: before that, silence says nothing.
const returnWithin = 10 * time.Minute

// turning is what is known of the Nodes that wait for their peers.
type turning struct {
	mu sync.Mutex
	of map[provisioning.NodeID]*rotation
}

// rotation is one of them.
type rotation struct {
	// gen is the newest generation at which the maps of the peers were looked at.
	gen   uint64
	peers []provisioning.NodeID
	// awaited are the names of what is waited for.
	awaited []string
}

// RotateNode begins to change the key of a Node. It is refused where unmanaged devices have the old key in their files, unless forced.
func (c *Coordinator) RotateNode(ctx context.Context, actor string, id provisioning.NodeID, force bool) error {
	if !force {
		if err := c.checkUnmanagedPeers(ctx, id); err != nil {
			return err
		}
	}
	return c.change(ctx, actor, "node.rotate", func(tx store.Tx) (string, string, error) {
		n, err := nodeByID(tx, id)
		if err != nil {
			return "", "", err
		}
		switch {
		case n.Kind == wire.Unmanaged:
			return "", "", provisioning.Errorf(provisioning.Invalid, "%s is a plain WireGuard device, which cannot change its key by itself", n.Name).
				WithHint("remove it and add it again: its new file has a new key")
		case n.State != provisioning.NodeActive:
			return "", "", provisioning.Errorf(provisioning.Conflict, "node %s is %s", id, n.State).WithHint("only a node that takes part changes its key")
		case n.Rotate != "":
			return "", "", provisioning.Errorf(provisioning.Conflict, "node %s is changing its key already", id).
				WithHint("\"towpath plan check\" says what is waited for, \"towpath node rotate %s --cancel\" ends it", id)
		}
		detail := fmt.Sprintf("%s at site %s, from key %s", n.Address, ownerName(tx, string(n.Site)), n.PublicKey)
		return string(id), detail, tx.Nodes().Rekey(id, n.PublicKey, wgkey.PublicKey{}, wire.RotateMake)
	})
}

// checkUnmanagedPeers refuses if the files of plain WireGuard devices hold the key of a Node.
func (c *Coordinator) checkUnmanagedPeers(ctx context.Context, id provisioning.NodeID) error {
	x, err := c.newest(ctx)
	if err != nil {
		return err
	}
	m, err := x.Compile(id, time.Time{}, time.Time{})
	if err != nil {
		return nil //nolint:nilerr // who has no map has no peers; what is wrong is told elsewhere
	}
	var names []string
	for _, p := range m.Peers {
		if p.Kind == wire.Unmanaged {
			names = append(names, p.Node)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return provisioning.Errorf(provisioning.Conflict, "%d plain WireGuard devices have the key of this node in their files: %s", len(names), shorten(names)).
		WithHint("with --force it changes nevertheless, and each of them needs a new file from then on")
}

// CancelRotation ends the change of a key: the Node stays with the key that it has, or turns back to it.
func (c *Coordinator) CancelRotation(ctx context.Context, actor string, id provisioning.NodeID) error {
	return c.change(ctx, actor, "node.rotate.cancel", func(tx store.Tx) (string, string, error) {
		n, err := nodeByID(tx, id)
		if err != nil {
			return "", "", err
		}
		if n.Rotate == "" {
			return "", "", provisioning.Errorf(provisioning.Conflict, "node %s is not changing its key", id).WithHint("nothing is to be done")
		}
		return string(id), fmt.Sprintf("it was at step %q", n.Rotate), tx.Nodes().Rekey(id, n.PublicKey, wgkey.PublicKey{}, "")
	})
}

// NextKey takes the key that a Node has made. The same key may come again.
func (c *Coordinator) NextKey(ctx context.Context, id provisioning.NodeID, k wire.NextKey) error {
	if k.Format > wire.Format {
		return provisioning.Errorf(provisioning.Invalid, "the key has format %d and this coordinator knows up to %d", k.Format, wire.Format).
			WithHint("update the coordinator before its boxes")
	}
	known := false
	look := func(tx store.Tx) (provisioning.Node, error) {
		n, err := tx.Nodes().ByID(id)
		if errors.Is(err, store.ErrNotFound) {
			return n, errRemoved
		}
		if err != nil {
			return n, fmt.Errorf("read the node: %w", err)
		}
		known = n.Rotate != "" && n.NextKey == k.PublicKey && !k.PublicKey.IsZero()
		return n, nil
	}
	if err := c.st.View(ctx, func(tx store.Tx) error { _, err := look(tx); return err }); err != nil || known {
		return err
	}
	return c.change(ctx, "node "+string(id), "node.nextkey", func(tx store.Tx) (string, string, error) {
		n, err := look(tx)
		if err != nil {
			return "", "", err
		}
		if n.State != provisioning.NodeActive || n.Rotate != wire.RotateMake {
			return "", "", provisioning.Errorf(provisioning.Conflict, "this node was not asked for a key now").WithHint("nothing is to be done: the box follows its next map")
		}
		if err := c.checkNextKey(tx, n, k.PublicKey); err != nil {
			return "", "", err
		}
		err = tx.Nodes().Rekey(id, n.PublicKey, k.PublicKey, wire.RotateWait)
		if errors.Is(err, store.ErrExists) {
			err = errKeyTaken
		}
		return string(id), fmt.Sprintf("from key %s to %s", n.PublicKey, k.PublicKey), err
	})
}

var errKeyTaken = provisioning.Errorf(provisioning.Conflict, "this key is not the node's alone").WithHint("make another one")

// checkNextKey refuses a key that is somebody's already, in either role.
func (c *Coordinator) checkNextKey(tx store.Tx, n provisioning.Node, key wgkey.PublicKey) error {
	if key.IsZero() || key == c.keys.HubPublicKey() || key == n.PublicKey {
		return provisioning.Errorf(provisioning.Invalid, "the box has sent no new key of its own").WithHint("update the box")
	}
	switch _, err := tx.Nodes().ByKey(key); {
	case err == nil:
		return errKeyTaken
	case !errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("look for the key: %w", err)
	}
	return nil
}

// TendRotations lets every Node turn whose peers all know its next key. The hub calls it about once a second while there is one that waits.
func (c *Coordinator) TendRotations(ctx context.Context) error {
	x, err := c.newest(ctx)
	if err != nil {
		return err
	}
	nodes := map[provisioning.NodeID]provisioning.Node{}
	for _, n := range x.Nodes() {
		nodes[n.ID] = n
	}
	c.turning.keep(nodes)
	for _, n := range nodes {
		if n.Rotate != wire.RotateWait {
			continue
		}
		r, err := c.lookAt(ctx, x, n, nodes)
		if err != nil {
			return err
		}
		c.turning.set(n.ID, r)
		if len(r.awaited) > 0 {
			continue
		}
		if err := c.turn(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// keep forgets what does not wait any more.
func (t *turning) keep(nodes map[provisioning.NodeID]provisioning.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.of {
		if nodes[id].Rotate != wire.RotateWait {
			delete(t.of, id)
		}
	}
}

func (t *turning) set(id provisioning.NodeID, r rotation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[provisioning.NodeID]*rotation{}
	}
	t.of[id] = &r
}

func (t *turning) get(id provisioning.NodeID) rotation {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.of[id]; r != nil {
		return *r
	}
	return rotation{}
}

// lookAt finds out who does not know the next key of n yet. The maps of the peers are made once for each generation: only then is their
// progress about what is in them now.
func (c *Coordinator) lookAt(ctx context.Context, x *picture, n provisioning.Node, nodes map[provisioning.NodeID]provisioning.Node) (rotation, error) {
	r := c.turning.get(n.ID)
	r.awaited = nil
	if r.gen != x.Generation() {
		m, err := x.Compile(n.ID, time.Time{}, time.Time{})
		if err != nil {
			r.awaited = []string{"a sound map of its own"}
			return r, nil
		}
		r.gen, r.peers = x.Generation(), nil
		for _, p := range m.Peers {
			id := provisioning.NodeID(p.Node)
			if p.Kind == wire.Unmanaged {
				continue
			}
			r.peers = append(r.peers, id)
			if _, e, err := c.compile(x, id); err == nil {
				c.observe(id, x.Generation(), e.Hash)
			}
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
		}
	}
	if why := c.keys.coversNext(n); why != "" {
		r.awaited = append(r.awaited, why)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hub.changed != nil && c.hub.applied < r.gen {
		r.awaited = append(r.awaited, "the hub")
	}
	for _, id := range r.peers {
		if !c.knowsLocked(nodes[id], r.gen) {
			r.awaited = append(r.awaited, string(id))
		}
	}
	return r, nil
}

// knowsLocked reports whether a Node has applied its newest map, or is silent and nobody waits for it: a workstation at once, others after
// silentFor.
func (c *Coordinator) knowsLocked(n provisioning.Node, gen uint64) bool {
	p, m := c.progress[n.ID], c.maps[n.ID]
	heard := n.Enrolled
	for _, t := range []time.Time{n.LastSeen, p.heard} {
		if t.After(heard) {
			heard = t
		}
	}
	if c.watching[n.ID] == 0 && n.Kind == wire.Workstation {
		return true // a person's computer is off more often than on
	}
	if c.watching[n.ID] == 0 && c.stamp().Sub(heard) > silentFor && time.Since(c.started) > returnWithin {
		return true
	}
	return m.changed != 0 && m.changed <= gen && p.applied >= m.changed
}

// turn tells a Node to change to its next key.
func (c *Coordinator) turn(ctx context.Context, was provisioning.Node) error {
	return c.change(ctx, timeActor, "node.turn", func(tx store.Tx) (string, string, error) {
		n, err := nodeByID(tx, was.ID)
		if err != nil {
			return "", "", err
		}
		if n.Rotate != wire.RotateWait || n.NextKey != was.NextKey {
			return "", "", provisioning.Errorf(provisioning.Conflict, "node %s has gone on meanwhile", n.ID).WithHint("nothing is to be done")
		}
		return string(n.ID), fmt.Sprintf("to key %s", n.NextKey), tx.Nodes().Rekey(n.ID, n.PublicKey, n.NextKey, wire.RotateTurn)
	})
}

// Turned ends the change of a key: the hub has seen a handshake with the next one. Another key than that changes nothing.
func (c *Coordinator) Turned(ctx context.Context, id provisioning.NodeID, next wgkey.PublicKey) error {
	return c.change(ctx, "node "+string(id), "node.rotated", func(tx store.Tx) (string, string, error) {
		n, err := nodeByID(tx, id)
		if err != nil {
			return "", "", err
		}
		if n.NextKey != next || next.IsZero() || n.Rotate != wire.RotateTurn {
			return "", "", provisioning.Errorf(provisioning.Conflict, "node %s does not change to this key now", id).WithHint("nothing is to be done")
		}
		return string(id), fmt.Sprintf("from key %s to %s", n.PublicKey, n.NextKey), tx.Nodes().Rekey(id, next, wgkey.PublicKey{}, "")
	})
}

// maxNames is how many names a sentence takes.
const maxNames = 8

func shorten(names []string) string {
	if len(names) <= maxNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNames], ", "), len(names)-maxNames)
}
