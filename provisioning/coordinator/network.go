package coordinator

import (
	"context"
	"fmt"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// NetworkInfo is the network in a few words.
type NetworkInfo struct {
	// ID is wire.NetworkID, Fingerprint what tokens pin.
	ID          string
	Fingerprint wire.Fingerprint
	Generation  uint64
	Hub         wire.Hub
	URLs        []string
	// PairKeys says whether boxes agree on preshared keys.
	PairKeys wire.PairKeys
	// Sites, Nodes and Online are counts.
	Sites, Nodes, Online int
}

// NetworkID is the short name of the network, see wire.NetworkID.
func (c *Coordinator) NetworkID() string { return c.keys.NetworkID() }

// Network returns it.
func (c *Coordinator) Network(ctx context.Context) (NetworkInfo, error) {
	info := NetworkInfo{ID: c.keys.NetworkID(), Fingerprint: c.keys.Identity().Fingerprint()}
	err := c.st.View(ctx, func(tx store.Tx) error {
		set, err := readSettings(tx)
		if err != nil {
			return err
		}
		info.URLs, info.PairKeys = set.URLs, set.PairKeys
		info.Hub = wire.Hub{
			PublicKey: c.keys.HubPublicKey(), Endpoints: set.HubEndpoints, Address: set.HubAddress, ControlPort: set.ControlPort,
		}
		if info.Generation, err = tx.Generation(); err != nil {
			return err
		}
		sites, err := tx.Sites().List()
		if err != nil {
			return err
		}
		nodes, err := tx.Nodes().List()
		info.Sites, info.Nodes = len(sites), len(nodes)
		return err
	})
	if err != nil {
		return NetworkInfo{}, fmt.Errorf("read the network: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	info.Online = len(c.watching)
	return info, nil
}

// Reach is how the coordinator is found from outside.
type Reach struct {
	// HubEndpoints are where nodes reach the hub's UDP port, as host:port.
	HubEndpoints []string
	// URLs are where boxes reach the enrolment API, see wire.CheckURL.
	URLs []string
}

// SetReach changes how the coordinator is found. Nodes hear of new endpoints with their next map, so the old ones must work until all have
// it; tokens that were made before keep the old URLs.
func (c *Coordinator) SetReach(ctx context.Context, actor string, r Reach) error {
	if err := checkReach(r.HubEndpoints, r.URLs); err != nil {
		return err
	}
	return c.change(ctx, actor, "network.reach", func(tx store.Tx) (string, string, error) {
		set, err := readSettings(tx)
		if err != nil {
			return "", "", err
		}
		set.HubEndpoints, set.URLs = r.HubEndpoints, r.URLs
		return hubOwner, fmt.Sprintf("hub at %v, enrolment at %v", r.HubEndpoints, r.URLs), writeSettings(tx, set)
	})
}

// maxEvents bounds one page of the audit trail.
const maxEvents = 1000

// Events returns up to limit entries of the audit trail after a sequence number, oldest first. A limit of 0 is the most there is, 1000.
func (c *Coordinator) Events(ctx context.Context, after uint64, limit int) ([]provisioning.Event, error) {
	if limit <= 0 || limit > maxEvents {
		limit = maxEvents
	}
	var events []provisioning.Event
	err := c.st.View(ctx, func(tx store.Tx) error {
		var err error
		events, err = tx.Events().List(after, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the audit trail: %w", err)
	}
	return events, nil
}

// VerifyEvents walks the audit trail and returns the sequence number of the first entry that does not fit the one before, or 0.
func (c *Coordinator) VerifyEvents(ctx context.Context) (uint64, error) {
	var broken uint64
	err := c.st.View(ctx, func(tx store.Tx) error {
		var err error
		broken, err = tx.Events().Verify()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("verify the audit trail: %w", err)
	}
	return broken, nil
}
