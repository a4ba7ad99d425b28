package coordinator

import (
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"slices"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// SetSiteSpoolKey says where the private key of a Site's encrypted queues is kept from now on.
func (c *Coordinator) SetSiteSpoolKey(ctx context.Context, actor, site string, where wire.SpoolKey) error {
	if err := provisioning.CheckSpoolKey(where); err != nil {
		return err
	}
	return c.change(ctx, actor, "site.spoolkey", func(tx store.Tx) (string, string, error) {
		s, err := siteNamed(tx, site)
		if err != nil {
			return "", "", err
		}
		detail := fmt.Sprintf("from %q to %q", s.SpoolKey, where)
		s.SpoolKey = where
		return s.Name, detail, tx.Sites().Update(s)
	})
}

// spoolKeyInfo ties a sealed key to its Node and ID, so that a database that was changed does not give it to another.
func spoolKeyInfo(node provisioning.NodeID, id string) []byte {
	return []byte("towpath held spool key v1\x00" + string(node) + "\x00" + id)
}

// DepositSpoolKey keeps the private key of a Node's queues. In the database it is sealed to the coordinator's own key, which is not there. The
// same key may come again.
func (c *Coordinator) DepositSpoolKey(ctx context.Context, id provisioning.NodeID, d wire.SpoolKeyDeposit) error {
	if d.Format > wire.Format {
		return provisioning.Errorf(provisioning.Invalid, "the key has format %d and this coordinator knows up to %d", d.Format, wire.Format).
			WithHint("update the coordinator before its boxes")
	}
	if err := provisioning.CheckHeldSpoolKey(d.Key); err != nil {
		return err
	}
	sealed, err := hpke.Seal(c.keys.enroll.PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), spoolKeyInfo(id, d.Key.ID), d.Key.Private)
	if err != nil {
		return fmt.Errorf("seal the key of a queue: %w", err)
	}
	return c.st.Update(ctx, func(tx store.Tx) error {
		n, err := activeNode(tx, id)
		if err != nil {
			return err
		}
		site, err := tx.Sites().ByID(n.Site)
		if err != nil {
			return fmt.Errorf("read the site of the node: %w", err)
		}
		if site.SpoolKey != wire.SpoolKeyCoordinator {
			return provisioning.Errorf(provisioning.Conflict, "the site %s keeps the keys of its queues itself", site.Name).
				WithHint("\"towpath site set %s --spool-key coordinator\" changes that", site.Name)
		}
		left, err := forgetSpoolKeys(tx, id, append(slices.Clone(d.Needed), d.Key.ID))
		if err != nil {
			return err
		}
		if slices.Contains(left, d.Key.ID) {
			return nil
		}
		if len(left) >= wire.MaxSpoolKeys {
			return provisioning.Errorf(provisioning.Conflict, "this box has left %d keys here, and needs all of them still", len(left)).
				WithHint("see why its queues are not emptied")
		}
		if err := tx.SpoolKeys().Create(provisioning.SpoolKey{Node: id, ID: d.Key.ID, Sealed: sealed, Created: c.stamp()}); err != nil {
			return fmt.Errorf("keep the key of a queue: %w", err)
		}
		return record(tx, c.stamp(), string(id), "spoolkey.deposit", string(id), "key "+d.Key.ID+" of site "+site.Name)
	})
}

// forgetSpoolKeys removes all keys of a Node but those that it needs, and returns what is left.
func forgetSpoolKeys(tx store.Tx, id provisioning.NodeID, needed []string) ([]string, error) {
	held, err := tx.SpoolKeys().Of(id)
	if err != nil {
		return nil, fmt.Errorf("read the keys of a queue: %w", err)
	}
	var left []string
	for _, k := range held {
		if slices.Contains(needed, k.ID) {
			left = append(left, k.ID)
			continue
		}
		if err := tx.SpoolKeys().Remove(id, k.ID); err != nil {
			return nil, fmt.Errorf("forget the key of a queue: %w", err)
		}
	}
	return left, nil
}

// SpoolKeys gives a Node back what it has left. Each time is in the audit trail before the keys leave.
func (c *Coordinator) SpoolKeys(ctx context.Context, id provisioning.NodeID) (wire.SpoolKeys, error) {
	var held []provisioning.SpoolKey
	err := c.st.Update(ctx, func(tx store.Tx) error {
		n, err := activeNode(tx, id)
		if err != nil {
			return err
		}
		if held, err = tx.SpoolKeys().Of(id); err != nil {
			return fmt.Errorf("read the keys of a queue: %w", err)
		}
		if len(held) == 0 {
			return nil
		}
		return record(tx, c.stamp(), string(id), "spoolkey.deliver", string(id), fmt.Sprintf("%d keys, to the box with key %s", len(held), n.PublicKey))
	})
	if err != nil {
		return wire.SpoolKeys{}, err
	}
	answer := wire.SpoolKeys{Keys: []wire.HeldSpoolKey{}}
	for _, k := range held {
		private, err := hpke.Open(c.keys.enroll, hpke.HKDFSHA256(), hpke.AES256GCM(), spoolKeyInfo(id, k.ID), k.Sealed)
		if err != nil {
			return wire.SpoolKeys{}, fmt.Errorf("open the key %s of a queue of node %s: %w", k.ID, id, err)
		}
		answer.Keys = append(answer.Keys, wire.HeldSpoolKey{ID: k.ID, Private: private})
	}
	return answer, nil
}

// activeNode refuses a Node that was removed, waits or is shut out.
func activeNode(tx store.Tx, id provisioning.NodeID) (provisioning.Node, error) {
	n, err := tx.Nodes().ByID(id)
	if errors.Is(err, store.ErrNotFound) {
		return n, errRemoved
	}
	if err != nil {
		return n, fmt.Errorf("read the node: %w", err)
	}
	if n.State != provisioning.NodeActive {
		return n, provisioning.Errorf(provisioning.Denied, "this node is %s and takes no part in the network", n.State).WithHint("ask the operator of the center")
	}
	return n, nil
}
