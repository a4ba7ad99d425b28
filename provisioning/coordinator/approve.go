package coordinator

import (
	"context"
	"fmt"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// reasonUnapproved is why a Node waits whose token asks for approval.
const reasonUnapproved = "not approved yet"

// firstState is what a Node begins with, or goes on with once it was approved: then it may have to be signed yet.
func (c *Coordinator) firstState(approval bool) (provisioning.NodeState, string) {
	if approval {
		return provisioning.NodeWaiting, reasonUnapproved
	}
	return c.keys.stateOf(nil)
}

// ApproveNode lets a Node take part that has waited for it. The box hears of it when it asks the next time.
func (c *Coordinator) ApproveNode(ctx context.Context, actor string, id provisioning.NodeID) error {
	return c.change(ctx, actor, "node.approve", func(tx store.Tx) (string, string, error) {
		n, err := nodeByID(tx, id)
		if err != nil {
			return "", "", err
		}
		if err := isUnapproved(n); err != nil {
			return "", "", err
		}
		// The plan may have changed while it waited.
		if err := fitsPlan(tx, n.Facts); err != nil {
			return "", "", err
		}
		at := c.stamp()
		state, reason := c.firstState(false)
		if err := tx.Nodes().SetState(n.ID, state, reason, at); err != nil {
			return "", "", fmt.Errorf("approve the node: %w", err)
		}
		if err := syncReported(tx, n.Site, at); err != nil {
			return "", "", err
		}
		return string(id), fmt.Sprintf("%s %s at site %s, key %s", n.Kind, n.Address, ownerName(tx, string(n.Site)), n.PublicKey), nil
	})
}

// RejectNode removes a Node that waits. The box hears of it when it asks the next time, and does not come in again with the same token.
func (c *Coordinator) RejectNode(ctx context.Context, actor string, id provisioning.NodeID, reason string) error {
	err := c.change(ctx, actor, "node.reject", func(tx store.Tx) (string, string, error) {
		n, err := nodeByID(tx, id)
		if err != nil {
			return "", "", err
		}
		if n.State != provisioning.NodeWaiting {
			return "", "", provisioning.Errorf(provisioning.Conflict, "node %s does not wait, it is %s", n.ID, n.State).
				WithHint("to take it out of the network: \"towpath node remove %s\"", n.ID)
		}
		if err := tx.Nodes().Remove(id); err != nil {
			return "", "", fmt.Errorf("remove the node: %w", err)
		}
		detail := fmt.Sprintf("%s %s at site %s, key %s", n.Kind, n.Address, ownerName(tx, string(n.Site)), n.PublicKey)
		if reason = clean(reason, maxLong/2); reason != "" {
			detail = fmt.Sprintf("%s (%s)", reason, detail)
		}
		return string(id), detail, syncReported(tx, n.Site, c.stamp())
	})
	if err == nil {
		c.forget(id)
	}
	return err
}

// isUnapproved refuses a Node that does not wait for approval.
func isUnapproved(n provisioning.Node) error {
	switch {
	case n.State == provisioning.NodeQuarantined:
		return provisioning.Errorf(provisioning.Conflict, "node %s is quarantined: %s", n.ID, n.Reason).
			WithHint("\"towpath node readmit %s\" takes it back, \"towpath node replace %s\" gives its place to another box", n.ID, n.ID)
	case n.State != provisioning.NodeWaiting:
		return provisioning.Errorf(provisioning.Conflict, "node %s takes part already", n.ID).WithHint("nothing is to be done")
	case n.Reason != reasonUnapproved:
		return provisioning.Errorf(provisioning.Conflict, "node %s needs no approval, it is %s", n.ID, n.Reason).
			WithHint("\"towpath node show %s\" tells more", n.ID)
	}
	return nil
}
