package coordinator

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// addressesOf returns all overlay addresses that something has: boxes, now or until their Site's renumbering ends, and Services.
func addressesOf(tx store.Tx) ([]netip.Addr, error) {
	nodes, err := tx.Nodes().List()
	if err != nil {
		return nil, fmt.Errorf("read the nodes: %w", err)
	}
	services, err := tx.Services().List()
	if err != nil {
		return nil, fmt.Errorf("read the services: %w", err)
	}
	set, err := readSettings(tx)
	if err != nil {
		return nil, err
	}
	taken := []netip.Addr{set.HubAddress}
	for _, n := range nodes {
		taken = append(taken, n.Address)
		if n.Former.IsValid() {
			taken = append(taken, n.Former)
		}
	}
	for _, v := range services {
		if v.Address.IsValid() {
			taken = append(taken, v.Address)
		}
	}
	return taken, nil
}

// gives reports whether r is a range from which its Site gives addresses for the purpose now.
func gives(r provisioning.Range, purpose provisioning.RangePurpose) bool {
	return r.Kind == provisioning.RangeAllocation && r.Purpose == purpose && r.Until.IsZero()
}

// firstAddress returns the lowest free address among the ranges of a Site.
func firstAddress(ranges []provisioning.Range, site provisioning.Site, purpose provisioning.RangePurpose, taken []netip.Addr) (netip.Addr, error) {
	for _, r := range ranges {
		if !gives(r, purpose) || r.Owner != string(site.ID) {
			continue
		}
		addr, err := ipam.FirstHost(r.Prefix, taken...)
		if _, full := errors.AsType[*ipam.FullError](err); full {
			continue
		}
		return addr, err
	}
	return netip.Addr{}, provisioning.Errorf(provisioning.Conflict, "site %s has no free address for %s", site.Name, purposeNoun(purpose)).
		WithHint("make room: \"towpath plan grow %s --hosts N\", or \"towpath plan allocate %s --purpose %s --hosts N\"", site.Name, site.Name, purpose)
}

func purposeNoun(p provisioning.RangePurpose) string {
	switch p {
	case provisioning.PurposeServices:
		return "a service"
	case provisioning.PurposeWorkstation:
		return "a workstation"
	default:
		return "a box"
	}
}

// purposeOf is where Nodes of a kind have their addresses.
func purposeOf(k wire.NodeKind) provisioning.RangePurpose {
	if k == wire.Workstation || k == wire.Unmanaged {
		return provisioning.PurposeWorkstation
	}
	return provisioning.PurposeOverlay
}

// addressFor chooses the address of a new Node, or checks the one that somebody wants. A Site gets a range for workstations when it has
// none, or none with room.
func (tx *planTx) addressFor(site provisioning.Site, kind wire.NodeKind, want netip.Addr) (netip.Addr, error) {
	purpose := purposeOf(kind)
	taken, err := addressesOf(tx)
	if err != nil {
		return netip.Addr{}, err
	}
	ranges, err := tx.Ranges().Of(string(site.ID))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the plan: %w", err)
	}
	if want.IsValid() {
		return want, checkFixed(want, site, ranges, purpose, taken)
	}
	addr, err := firstAddress(ranges, site, purpose, taken)
	if _, full := errors.AsType[*provisioning.Error](err); !full || purpose != provisioning.PurposeWorkstation {
		return addr, err
	}
	p, err := tx.homeForWorkstations(site, ranges)
	if err != nil {
		return netip.Addr{}, err
	}
	return ipam.FirstHost(p, taken...)
}

// workstations is the room of a range that is made for them by itself: a /28.
const workstations = 14

// homeForWorkstations allocates a range, in the pool that the Site's boxes are in if there is room.
func (tx *planTx) homeForWorkstations(site provisioning.Site, ranges []provisioning.Range) (netip.Prefix, error) {
	if err := tx.sweep(); err != nil {
		return netip.Prefix{}, err
	}
	r := provisioning.Range{Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeWorkstation, Owner: string(site.ID)}
	size := Size{Hosts: workstations}
	if i := slices.IndexFunc(ranges, func(r provisioning.Range) bool { return gives(r, provisioning.PurposeOverlay) }); i >= 0 {
		var err error
		if r.Prefix, err = tx.near(ranges[i].Prefix, size, ipam.FamilyOf(ranges[i].Prefix)); err != nil {
			return netip.Prefix{}, err
		}
	}
	out, err := tx.allocate(r, "", size)
	if err != nil {
		return netip.Prefix{}, err
	}
	return out.Prefix, record(tx, tx.at, tx.actor, "range.allocate", site.Name, fmt.Sprintf("%v for %s", out.Prefix, r.Purpose))
}

// checkFixed refuses an address that somebody chose and that the Site does not have to give.
func checkFixed(addr netip.Addr, site provisioning.Site, ranges []provisioning.Range, purpose provisioning.RangePurpose, taken []netip.Addr) error {
	if slices.Contains(taken, addr) {
		return provisioning.Errorf(provisioning.Conflict, "the address %v is taken", addr).
			WithHint("\"towpath plan what %v\" says by whom; choose another address", addr)
	}
	var has []netip.Prefix
	for _, r := range ranges {
		if !gives(r, purpose) || r.Owner != string(site.ID) {
			continue
		}
		if ipam.IsHost(r.Prefix, addr) {
			return nil
		}
		has = append(has, r.Prefix)
	}
	if len(has) == 0 {
		return provisioning.Errorf(provisioning.Conflict, "site %s has no range for %s", site.Name, purposeNoun(purpose)).
			WithHint("make one: \"towpath plan allocate %s --purpose %s --hosts N\"", site.Name, purpose)
	}
	return provisioning.Errorf(provisioning.Invalid, "site %s cannot give %v to %s", site.Name, addr, purposeNoun(purpose)).
		WithHint("choose an address of a host in %s", joinPrefixes(has))
}

// fixedAddress chooses or checks the own address of a Service.
func fixedAddress(tx store.Tx, site provisioning.Site, want netip.Addr) (netip.Addr, error) {
	ranges, err := tx.Ranges().Of(string(site.ID))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the plan: %w", err)
	}
	taken, err := addressesOf(tx)
	if err != nil {
		return netip.Addr{}, err
	}
	if want.IsValid() {
		return want, checkFixed(want, site, ranges, provisioning.PurposeServices, taken)
	}
	return firstAddress(ranges, site, provisioning.PurposeServices, taken)
}
