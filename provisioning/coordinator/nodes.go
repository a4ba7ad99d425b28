package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// NodeInfo is a Node and how it is now. Its Conditions are those it has reported and what the coordinator finds about its Site.
type NodeInfo struct {
	provisioning.Node
	SiteName string
	// Online means that the Node is watching now.
	Online bool
	// Desired is the generation at which the Node's map last changed; Node.Applied below it means that the Node is behind. After a start of
	// the coordinator and until the Node calls, it is the newest generation.
	Desired uint64
	// BehindSince is when the first change came that the Node has not made true, or the start of the coordinator if that was later; zero
	// for a Node that is not behind.
	BehindSince time.Time
}

// Nodes returns all by site name and address.
func (c *Coordinator) Nodes(ctx context.Context) ([]NodeInfo, error) {
	var infos []NodeInfo
	err := c.st.View(ctx, func(tx store.Tx) error {
		nodes, err := tx.Nodes().List()
		if err != nil {
			return err
		}
		names, err := siteNames(tx)
		if err != nil {
			return err
		}
		gen, err := tx.Generation()
		if err != nil {
			return err
		}
		infos = make([]NodeInfo, 0, len(nodes))
		for _, n := range nodes {
			infos = append(infos, NodeInfo{Node: n, SiteName: names[n.Site], Desired: gen})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the nodes: %w", err)
	}
	found, err := c.sinceWhen(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range infos {
		n := &infos[i]
		n.Online = c.watching[n.ID] > 0
		c.progress[n.ID].show(n)
		if s, ok := c.maps[n.ID]; ok {
			n.Desired = s.changed
		}
		n.Conditions = append(n.Conditions, found[n.SiteName]...)
	}
	return infos, nil
}

// RemoveNode takes a Node out of the network: with the next generation the hub and all peers drop its key, whether or not it is on.
func (c *Coordinator) RemoveNode(ctx context.Context, actor string, id provisioning.NodeID) error {
	err := c.change(ctx, actor, "node.remove", func(tx store.Tx) (string, string, error) {
		n, err := nodeByID(tx, id)
		if err != nil {
			return "", "", err
		}
		if err := tx.Nodes().Remove(id); err != nil {
			return "", "", fmt.Errorf("remove the node: %w", err)
		}
		if err := syncReported(tx, n.Site, c.stamp()); err != nil {
			return "", "", err
		}
		return string(id), fmt.Sprintf("%s at site %s", n.Address, ownerName(tx, string(n.Site))), nil
	})
	if err == nil {
		c.forget(id)
	}
	return err
}

// nodeByID finds a Node.
func nodeByID(tx store.Tx, id provisioning.NodeID) (provisioning.Node, error) {
	n, err := tx.Nodes().ByID(id)
	if errors.Is(err, store.ErrNotFound) {
		return n, provisioning.Errorf(provisioning.NotFound, "there is no node %q", clean(string(id), maxShort)).
			WithHint("the list of nodes shows the ids")
	}
	if err != nil {
		return n, fmt.Errorf("read the node: %w", err)
	}
	return n, nil
}

// NodeAt returns whose overlay address it is; inside WireGuard that is who is calling.
func (c *Coordinator) NodeAt(ctx context.Context, addr netip.Addr) (provisioning.NodeID, error) {
	var id provisioning.NodeID
	err := c.st.View(ctx, func(tx store.Tx) error {
		n, err := tx.Nodes().ByAddress(addr)
		id = n.ID
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return "", provisioning.Errorf(provisioning.Denied, "no node has the address %s", addr).WithHint("enroll the box first")
	}
	if err != nil {
		return "", fmt.Errorf("find the node: %w", err)
	}
	return id, nil
}

// Report stores what a Node tells of itself, cleaned and cut to limits.
func (c *Coordinator) Report(ctx context.Context, id provisioning.NodeID, r wire.Report) error {
	if r.Format > wire.Format {
		return provisioning.Errorf(provisioning.Invalid, "the report has format %d and this coordinator knows up to %d", r.Format, wire.Format).
			WithHint("update the coordinator before its boxes")
	}
	return c.st.Update(ctx, func(tx store.Tx) error {
		n, err := tx.Nodes().ByID(id)
		if errors.Is(err, store.ErrNotFound) {
			return errRemoved
		}
		if err != nil {
			return fmt.Errorf("read the node: %w", err)
		}
		before := n.Facts
		cleanReport(&n, r)
		n.LastSeen = c.stamp()
		if err := tx.Nodes().Report(n); err != nil {
			return fmt.Errorf("store the report: %w", err)
		}
		if sameNetworks(before, n.Facts) {
			return nil
		}
		return syncReported(tx, n.Site, n.LastSeen)
	})
}
