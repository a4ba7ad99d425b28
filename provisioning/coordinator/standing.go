package coordinator

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// OpenStanding opens a sealed question. The sealer is nil if nothing can be sealed back.
func (c *Coordinator) OpenStanding(body []byte) (wire.StandingRequest, *wire.StandingSealer, error) {
	return wire.OpenStanding(c.keys.enroll, body)
}

// StandingWait is how long a caller must wait before it is answered; 0 means now. remote is "host:port".
func (c *Coordinator) StandingWait(remote string) time.Duration {
	return c.asking.wait(remoteOf(remote), time.Now())
}

// Standing says what a Node is that hears nothing from the hub. Questions about nobody are counted by remote, as failed enrolments are.
// The caller has proved nothing: it hears what every peer of the Node sees as well, and no reason that an operator wrote.
func (c *Coordinator) Standing(ctx context.Context, req wire.StandingRequest, remote string) (wire.StandingResponse, error) {
	var n provisioning.Node
	err := c.st.View(ctx, func(tx store.Tx) error {
		var err error
		n, err = tx.Nodes().ByID(provisioning.NodeID(clean(req.Node, maxShort)))
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return wire.StandingResponse{}, fmt.Errorf("read the node: %w", err)
	}
	out := standingOf(n, req.PublicKey)
	if out.Standing == wire.StandingUnknown {
		c.asking.fail(remoteOf(remote), time.Now())
	}
	out.Now = c.stamp()
	return out, nil
}

// standingOf answers for a Node; the zero Node is one that is not there.
func standingOf(n provisioning.Node, key wgkey.PublicKey) wire.StandingResponse {
	own := subtle.ConstantTimeCompare(n.PublicKey[:], key[:])
	next := subtle.ConstantTimeCompare(n.NextKey[:], key[:])
	switch {
	case n.ID == "" || key.IsZero():
		return wire.StandingResponse{
			Standing: wire.StandingUnknown, Message: "The center does not know this box any more: it was removed. It needs a new token.",
		}
	case own|next == 0:
		return wire.StandingResponse{
			Standing: wire.StandingReplaced, Message: "Another box has taken the place of this one, or this box has an old key. To use this one again, it needs a new token.",
		}
	case n.State == provisioning.NodeWaiting:
		return wire.StandingResponse{Standing: wire.StandingWaiting, Message: "The center has not let this box in yet. Nothing is to be done here."}
	case n.State == provisioning.NodeQuarantined:
		return wire.StandingResponse{
			Standing: wire.StandingQuarantined,
			Message:  fmt.Sprintf("The center has shut this box out since %s UTC. Call the center: it knows why.", n.Since.UTC().Format("2006-01-02 15:04")),
		}
	}
	return wire.StandingResponse{Standing: wire.StandingActive}
}
