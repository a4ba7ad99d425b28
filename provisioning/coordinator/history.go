package coordinator

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// timeActor is who does what only time demanded.
const timeActor = "time"

// recordRange writes what happened to a Range, with the name that its owner has now. The Range is as provisioning.RangeEvent says.
func recordRange(tx store.Tx, at time.Time, actor string, action provisioning.RangeAction, r provisioning.Range) error {
	name := ""
	if r.Owner != "" {
		name = ownerName(tx, r.Owner)
	}
	return recordRangeOf(tx, at, actor, action, r, name)
}

// recordRangeOf is recordRange for who knows the name, or means the owner that the Range has just lost.
func recordRangeOf(tx store.Tx, at time.Time, actor string, action provisioning.RangeAction, r provisioning.Range, owner string) error {
	_, err := tx.History().Append(provisioning.RangeEvent{
		At: at, Actor: clean(actor, maxShort), Action: action, Range: r, OwnerName: owner,
	})
	if err != nil {
		return fmt.Errorf("write the history of %v: %w", r.Prefix, err)
	}
	return nil
}

// maxHistory bounds one answer of History.
const maxHistory = 1000

// History returns what happened to the addresses of p, oldest first, the newest limit events. A limit of 0 is the most there is, 1000.
func (c *Coordinator) History(ctx context.Context, p netip.Prefix, limit int) ([]provisioning.RangeEvent, error) {
	if err := checkPrefix(p); err != nil {
		return nil, err
	}
	if limit <= 0 || limit > maxHistory {
		limit = maxHistory
	}
	var events []provisioning.RangeEvent
	err := c.st.View(ctx, func(tx store.Tx) error {
		var err error
		events, err = tx.History().Overlapping(p, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the history of %v: %w", p, err)
	}
	return events, nil
}
