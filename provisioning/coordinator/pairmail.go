package coordinator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// pairMailLifetime is how long a message waits for its Node. The other end leaves it again every hour while it matters.
const pairMailLifetime = 7 * 24 * time.Hour

// SetPairKeys says whether boxes agree on preshared keys from now on, and whether those without one are kept apart.
func (c *Coordinator) SetPairKeys(ctx context.Context, actor string, p wire.PairKeys) error {
	if err := provisioning.CheckPairKeys(p); err != nil {
		return err
	}
	return c.change(ctx, actor, "network.pairkeys", func(tx store.Tx) (string, string, error) {
		set, err := readSettings(tx)
		if err != nil {
			return "", "", err
		}
		detail := fmt.Sprintf("from %q to %q", set.PairKeys, p)
		set.PairKeys = p
		return "network", detail, writeSettings(tx, set)
	})
}

// PairMail takes what a Node leaves for its Peers, forgets what it has done with, and returns what others have left for it. Nothing of
// that is recorded in the trail, and no map changes.
func (c *Coordinator) PairMail(ctx context.Context, id provisioning.NodeID, m wire.PairMail) (wire.PairMailbox, error) {
	if err := checkPairMail(m); err != nil {
		return wire.PairMailbox{}, err
	}
	var box wire.PairMailbox
	read := func(tx store.Tx) error {
		if _, err := activeNode(tx, id); err != nil {
			return err
		}
		return c.pairMailbox(tx, id, &box)
	}
	if len(m.Post)+len(m.Done) == 0 {
		return box, c.st.View(ctx, read)
	}
	x, err := c.early(ctx)
	if err != nil {
		return wire.PairMailbox{}, err
	}
	meet := func(to provisioning.NodeID) bool { return x.Meet(id, to) }
	var kept []provisioning.NodeID
	err = c.st.Update(ctx, func(tx store.Tx) error {
		box, kept = wire.PairMailbox{}, nil
		if _, err := activeNode(tx, id); err != nil {
			return err
		}
		for _, done := range m.Done {
			if err := tx.PairMail().Remove(id, done); err != nil {
				return err
			}
		}
		for _, post := range m.Post {
			to, err := c.keepMail(tx, id, post, meet, &box)
			if err != nil {
				return err
			}
			kept = append(kept, to...)
		}
		return c.pairMailbox(tx, id, &box)
	})
	if err != nil {
		return wire.PairMailbox{}, err
	}
	for _, to := range kept {
		c.crier.mailFor(to)
	}
	return box, nil
}

func checkPairMail(m wire.PairMail) error {
	if m.Format > wire.Format {
		return provisioning.Errorf(provisioning.Invalid, "the message has format %d and this coordinator knows up to %d", m.Format, wire.Format).
			WithHint("update the coordinator before its boxes")
	}
	bad := len(m.Post) > wire.MaxPairMessages || len(m.Done) > wire.MaxPairDone
	for _, p := range m.Post {
		bad = bad || len(p.Body) == 0 || len(p.Body) > wire.MaxPairMessage
	}
	if bad {
		return provisioning.Errorf(provisioning.Invalid, "these are too many or too long messages about preshared keys").WithHint("update the box")
	}
	return nil
}

// keepMail keeps one message if its Node is a Peer of the sender, and returns the Node then.
func (c *Coordinator) keepMail(
	tx store.Tx, from provisioning.NodeID, p wire.PairMessage, meet func(provisioning.NodeID) bool, box *wire.PairMailbox,
) ([]provisioning.NodeID, error) {
	to, err := tx.Nodes().ByID(provisioning.NodeID(p.To))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("read the node: %w", err)
	}
	switch {
	case to.State != provisioning.NodeActive || !meet(to.ID): // also of one that is not there
		box.Unknown = append(box.Unknown, p.To)
		return nil, nil
	case !to.Facts.PairKeys:
		// It may be about to be updated, so the message stays all the same.
		box.Deaf = append(box.Deaf, p.To)
	}
	if to.Kind == wire.Unmanaged {
		return nil, nil
	}
	return []provisioning.NodeID{to.ID}, tx.PairMail().Put(provisioning.PairMail{From: from, To: to.ID, ID: rand.Text(), Body: p.Body, Posted: c.stamp()})
}

func (c *Coordinator) pairMailbox(tx store.Tx, id provisioning.NodeID, box *wire.PairMailbox) error {
	all, err := tx.PairMail().For(id, wire.MaxPairMessages+1)
	if err != nil {
		return err
	}
	if box.More = len(all) > wire.MaxPairMessages; box.More {
		all = all[:wire.MaxPairMessages]
	}
	box.Mail = nil
	for _, m := range all {
		box.Mail = append(box.Mail, wire.PairItem{ID: m.ID, From: string(m.From), Body: m.Body})
	}
	return nil
}
