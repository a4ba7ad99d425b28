package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

const (
	// ControlPort is the TCP port of the control API on the hub's overlay address.
	ControlPort = 8080
	// hubOwner owns the hub's allocation.
	hubOwner = "hub"
	// defaultHosts makes a /28 of IPv4.
	defaultHosts = 14
)

// defaultPool is away from what home routers, container software and most hospitals use.
func defaultPool() netip.Prefix { return netip.MustParsePrefix("10.201.0.0/16") }

// InitOptions describe a new network.
type InitOptions struct {
	// Actor is who asks, for the audit trail; empty means "init".
	Actor string
	// Pools are what addresses are allocated from, which may nest; none means 10.201.0.0/16. The first holds the hub.
	Pools []netip.Prefix
	// ForcePool takes a pool that ipam.CheckPool advises against.
	ForcePool bool
	// HubEndpoints are where nodes reach the hub's UDP port, as host:port.
	HubEndpoints []string
	// URLs are where boxes reach the enrolment API, see wire.CheckURL. They go into tokens.
	URLs []string
	// Now gives the stored timestamps; nil means time.Now.
	Now func() time.Time
}

// Init makes a network in an empty database: its pools, the hub's own allocation and address, and how boxes find the coordinator.
func Init(ctx context.Context, st store.Store, o InitOptions) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Actor == "" {
		o.Actor = "init"
	}
	if len(o.Pools) == 0 {
		o.Pools = []netip.Prefix{defaultPool()}
	}
	if err := checkReach(o.HubEndpoints, o.URLs); err != nil {
		return err
	}
	for _, p := range o.Pools {
		if err := checkPool(p, o.ForcePool); err != nil {
			return err
		}
	}
	at := stamp(o.Now)
	return track(st).Update(ctx, func(tx store.Tx) error {
		switch _, err := readSettings(tx); {
		case err == nil:
			return provisioning.Errorf(provisioning.Conflict, "this database holds a network already").
				WithHint("choose another database for a new network")
		case !errors.Is(err, errNotInitialized):
			return err
		}
		plan, err := planIn(tx, at, o.Actor)
		if err != nil {
			return err
		}
		for _, p := range o.Pools {
			if _, err := plan.add(provisioning.Range{Kind: provisioning.RangePool, Prefix: p, Created: at}); err != nil {
				return err
			}
		}
		r, err := plan.allocate(provisioning.Range{
			Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeOverlay, Owner: hubOwner,
		}, o.Pools[0].String(), Size{Hosts: defaultHosts})
		if err != nil {
			return err
		}
		addr, err := ipam.FirstHost(r.Prefix)
		if err != nil {
			return fmt.Errorf("choose the hub's address: %w", err)
		}
		s := settings{HubAddress: addr, HubEndpoints: o.HubEndpoints, ControlPort: ControlPort, URLs: o.URLs}
		if err := writeSettings(tx, s); err != nil {
			return err
		}
		if _, err := tx.Bump(); err != nil {
			return fmt.Errorf("raise the generation: %w", err)
		}
		return record(tx, at, o.Actor, "network.init", hubOwner, fmt.Sprintf("pools %v, hub %v", o.Pools, addr))
	})
}

// checkReach refuses what boxes could not use to find the coordinator.
func checkReach(endpoints, urls []string) error {
	if len(endpoints) == 0 {
		return provisioning.Errorf(provisioning.Invalid, "the hub has no endpoint").
			WithHint("give the host:port at which nodes reach the hub's UDP port from outside, such as vpn.example.org:51820")
	}
	for _, e := range endpoints {
		if err := provisioning.CheckEndpoint(e); err != nil {
			return err
		}
	}
	if len(urls) == 0 {
		return provisioning.Errorf(provisioning.Invalid, "the coordinator has no address").
			WithHint("give the address at which boxes reach the enrolment port from outside, such as http://vpn.example.org")
	}
	if len(urls) > wire.MaxTokenURLs {
		return provisioning.Errorf(provisioning.Invalid, "the coordinator has %d addresses and a token carries %d", len(urls), wire.MaxTokenURLs).
			WithHint("leave out some")
	}
	for _, u := range urls {
		if err := wire.CheckURL(u); err != nil {
			return provisioning.Errorf(provisioning.Invalid, "%s", err).
				WithHint("write it like http://vpn.example.org or http://192.0.2.7:8443")
		}
	}
	return nil
}

func checkPool(p netip.Prefix, forced bool) error {
	err := ipam.CheckPool(p, forced)
	if u, ok := errors.AsType[*ipam.UnsuitableError](err); ok {
		return provisioning.Errorf(provisioning.Conflict, "%s", u).
			WithHint("choose another pool, or force this one if you know every network it will meet")
	}
	if err != nil {
		return provisioning.Errorf(provisioning.Invalid, "%s", err).WithHint("write a pool like 10.201.0.0/16")
	}
	return nil
}
