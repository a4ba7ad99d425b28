package coordinator

import (
	"errors"
	"fmt"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// checkReplacement refuses what a token that replaces a Node cannot have.
func (n *NewToken) checkReplacement() error {
	const hint = "make the token with the node alone"
	switch {
	case n.Limit > 1:
		return provisioning.Errorf(provisioning.Invalid, "%d boxes cannot take the place of one", n.Limit).WithHint(hint)
	case n.Approval:
		return provisioning.Errorf(provisioning.Invalid, "a box that takes the place of another does so at once and cannot wait for approval").
			WithHint("%s, and hand it over as you would a key", hint)
	case n.Site != "" || n.Kind != "" || n.Address.IsValid():
		return provisioning.Errorf(provisioning.Invalid, "a box that takes the place of another has its site, kind and address").WithHint(hint)
	}
	return nil
}

// replaceable finds a Node whose place another box may take.
func replaceable(tx store.Tx, id provisioning.NodeID) (provisioning.Node, provisioning.Site, error) {
	n, err := nodeByID(tx, id)
	if err != nil {
		return n, provisioning.Site{}, err
	}
	site, err := tx.Sites().ByID(n.Site)
	if err != nil {
		return n, site, fmt.Errorf("read the node's site: %w", err)
	}
	switch {
	case n.Kind == wire.Unmanaged:
		err = provisioning.Errorf(provisioning.Conflict, "%s is a plain WireGuard device and cannot redeem a token", n.Name).
			WithHint("\"towpath peer remove %s\", then \"towpath peer add %s --site %s --address %v\"", n.Name, n.Name, site.Name, n.Address)
	case n.State == provisioning.NodeWaiting:
		err = provisioning.Errorf(provisioning.Conflict, "node %s is %s", n.ID, n.Reason).
			WithHint("there is nothing to be replaced: \"towpath node reject %s\", and make a new token", n.ID)
	}
	return n, site, err
}

// revokeReplacements ends the tokens with which a box could take the place of a Node, so that there is one such token at most.
func revokeReplacements(tx store.Tx, actor string, id provisioning.NodeID, at time.Time) error {
	tokens, err := tx.Tokens().List()
	if err != nil {
		return fmt.Errorf("read the tokens: %w", err)
	}
	for _, t := range tokens {
		if t.Replaces != id || stateOf(t, at) != TokenOpen {
			continue
		}
		if err := tx.Tokens().Revoke(t.ID, at); err != nil {
			return fmt.Errorf("revoke the token: %w", err)
		}
		if err := record(tx, at, actor, "token.revoke", string(t.ID), fmt.Sprintf("a newer one replaces %s", id)); err != nil {
			return err
		}
	}
	return nil
}

// takeOver gives the place of the Node that the token names to the box that asks: id, Site, addresses and with these everything granted.
// The key of the box before is in no map from then on. as is what the box brings.
func (tx *planTx) takeOver(t provisioning.Token, req wire.EnrollRequest, as provisioning.Node) (provisioning.Node, error) {
	n, err := tx.Nodes().ByID(t.Replaces)
	if errors.Is(err, store.ErrNotFound) {
		return n, provisioning.Errorf(provisioning.Conflict, "the node that this box was to replace, %s, was removed", t.Replaces).
			WithHint("ask the center for a token for a new box")
	}
	if err != nil {
		return n, fmt.Errorf("read the node: %w", err)
	}
	if n.PublicKey == req.PublicKey || n.NextKey == req.PublicKey {
		return n, provisioning.Errorf(provisioning.Conflict, "this is the box that is to be replaced").
			WithHint("enroll the other one; for a new key in the same machine, use an empty --state")
	}
	if err := fitsPlan(tx, req.Facts); err != nil {
		return n, err
	}
	old := n.PublicKey
	n.PublicKey, n.Facts, n.Origin, n.Enrolled = as.PublicKey, as.Facts, as.Origin, as.Enrolled
	n.State, n.Reason, n.Since = as.State, as.Reason, as.Since
	if err := tx.Nodes().Reenroll(n); errors.Is(err, store.ErrExists) {
		return n, keyIsTaken(tx, req.PublicKey)
	} else if err != nil {
		return n, fmt.Errorf("store the node: %w", err)
	}
	detail := fmt.Sprintf("%s at site %s, key %s instead of %s", n.Address, ownerName(tx, string(n.Site)), n.PublicKey, old)
	return n, record(tx, tx.at, tx.actor, "node.replace", string(n.ID), detail+clockDetail(req, tx.at))
}

// displace ends what the box before has of the coordinator.
func (c *Coordinator) displace(id provisioning.NodeID) {
	c.arrivals.drop(id)
	c.forget(id)
}
