package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// Release takes an allocation or reservation, named by number, prefix or label, from its owner and quarantines it; now leaves out the
// quarantine. An allocation in which a Node, Service or Mapping has an address is refused. The result has no owner any more but tells in
// OwnerName who it was; Until is when it is free.
func (c *Coordinator) Release(ctx context.Context, actor, ref string, now bool) (RangeInfo, error) {
	var out RangeInfo
	err := c.changePlan(ctx, actor, "range.release", func(tx *planTx) (string, string, error) {
		r, err := takenNamed(tx, ref)
		if err != nil {
			return "", "", err
		}
		if err := canRelease(tx, r); err != nil {
			return "", "", err
		}
		out, err = tx.release(r, now)
		return r.Prefix.String(), fmt.Sprintf("%s, free from %s", out.OwnerName, out.Until.Format(time.DateTime)), err
	})
	return out, err
}

// canRelease refuses what somebody still uses.
func canRelease(tx store.Tx, r provisioning.Range) error {
	switch {
	case r.Quarantined():
		return provisioning.Errorf(provisioning.Conflict, "%s", describeRange(tx, r)).
			WithHint("nobody has it any more; to end the quarantine, remove the range by its number, %d", r.ID)
	case r.Ending():
		return provisioning.Errorf(provisioning.Conflict, "%s: the site is being renumbered", describeRange(tx, r)).
			WithHint("\"towpath plan renumber %s --end\" ends the old addresses now", ownerName(tx, r.Owner))
	case r.Maps.IsValid():
		return provisioning.Errorf(provisioning.Conflict, "%v stands for the LAN %v of site %s", r.Prefix, r.Maps, ownerName(tx, r.Owner)).
			WithHint("end the mapping: \"towpath plan unmap %s %v\"", ownerName(tx, r.Owner), r.Maps)
	}
	uses, err := usesOf(tx, r)
	if err != nil {
		return err
	}
	if len(uses) > 0 {
		return provisioning.Errorf(provisioning.Conflict, "%s has the addresses of %s", describeRange(tx, r), strings.Join(uses, ", ")).
			WithHint("remove these first, or give the site others: \"towpath plan renumber %s\"", ownerName(tx, r.Owner))
	}
	return nil
}

// usesOf names who has an address in r.
func usesOf(tx store.Tx, r provisioning.Range) ([]string, error) {
	set, err := readSettings(tx)
	if err != nil && !errors.Is(err, errNotInitialized) {
		return nil, err
	}
	nodes, err := tx.Nodes().List()
	if err != nil {
		return nil, fmt.Errorf("read the nodes: %w", err)
	}
	services, err := tx.Services().List()
	if err != nil {
		return nil, fmt.Errorf("read the services: %w", err)
	}
	var uses []string
	add := func(who string, a netip.Addr) {
		if a.IsValid() && r.Prefix.Contains(a) {
			uses = append(uses, fmt.Sprintf("%s (%s)", who, a))
		}
	}
	add("the hub", set.HubAddress)
	for _, n := range nodes {
		add(nodeNoun(n), n.Address)
		add(nodeNoun(n), n.Former)
	}
	for _, v := range services {
		add("service "+v.Name, v.Address)
	}
	return uses[:min(len(uses), maxUses)], nil
}

// maxUses is how many things a refusal names that still use something.
const maxUses = 8

// Grow makes an allocation wider where it is. ref names it by number, prefix or label, or a Site with one allocation of purpose overlay.
// Room that is reserved for the same Site is used up.
func (c *Coordinator) Grow(ctx context.Context, actor, ref string, s Size) (Grown, error) {
	if s == (Size{}) {
		return Grown{}, provisioning.Errorf(provisioning.Invalid, "no size was given").WithHint("say how many hosts it shall have room for")
	}
	if err := s.check(); err != nil {
		return Grown{}, err
	}
	var out Grown
	err := c.changePlan(ctx, actor, "range.grow", func(tx *planTx) (string, string, error) {
		r, err := tx.growable(ref)
		if err != nil {
			return "", "", err
		}
		if out.Before, err = tx.info(r); err != nil {
			return "", "", err
		}
		out.After, err = tx.grow(r, s)
		return out.Before.OwnerName, fmt.Sprintf("%v to %v", r.Prefix, out.After.Prefix), err
	})
	return out, err
}

// growable finds what shall grow.
func (tx *planTx) growable(ref string) (provisioning.Range, error) {
	r, err := takenNamed(tx, ref)
	if e, ok := errors.AsType[*provisioning.Error](err); ok && e.Code == provisioning.NotFound {
		r, err = tx.onlyOverlay(ref, err)
	}
	switch {
	case err != nil:
		return r, err
	case r.Kind != provisioning.RangeAllocation || r.Quarantined():
		return r, provisioning.Errorf(provisioning.Conflict, "%s cannot grow", describeRange(tx, r)).
			WithHint("only what is allocated grows; release this and make another")
	case r.Ending():
		return r, provisioning.Errorf(provisioning.Conflict, "%s: the site is being renumbered", describeRange(tx, r)).
			WithHint("let its new range grow")
	case r.Maps.IsValid():
		return r, provisioning.Errorf(provisioning.Conflict, "%v is as large as the LAN %v that it stands for", r.Prefix, r.Maps).
			WithHint("end the mapping and map more of the LAN")
	}
	return r, nil
}

// onlyOverlay finds the one allocation of a Site that holds the addresses of its boxes.
func (tx *planTx) onlyOverlay(site string, unknown error) (provisioning.Range, error) {
	s, err := siteNamed(tx, site)
	if e, ok := errors.AsType[*provisioning.Error](err); ok && e.Code == provisioning.NotFound {
		return provisioning.Range{}, unknown
	}
	if err != nil {
		return provisioning.Range{}, err
	}
	own, err := tx.overlayOf(string(s.ID))
	if err != nil {
		return provisioning.Range{}, err
	}
	own = slices.DeleteFunc(own, provisioning.Range.Ending)
	if len(own) == 1 {
		return own[0], nil
	}
	e := provisioning.Errorf(provisioning.Conflict, "site %s has %d ranges for boxes", s.Name, len(own))
	if len(own) == 0 {
		return provisioning.Range{}, e.WithHint("give it one: \"towpath plan allocate %s --hosts N\"", s.Name)
	}
	return provisioning.Range{}, e.WithHint("name the one that shall grow, such as %v", own[0].Prefix)
}

// grow replaces r by a wider range around it and by whatever is reserved for the same owner in that.
func (tx *planTx) grow(r provisioning.Range, s Size) (RangeInfo, error) {
	bits, err := s.in(ipam.FamilyOf(r.Prefix))
	if err != nil {
		return RangeInfo{}, provisioning.Errorf(provisioning.Invalid, "%s", err).WithHint("ask for less")
	}
	if bits >= r.Prefix.Bits() {
		return RangeInfo{}, provisioning.Errorf(provisioning.Invalid, "%v has room for %v already", r.Prefix, s).
			WithHint("ask for more than it has; to make it smaller, renumber the site")
	}
	own, err := tx.Ranges().Of(r.Owner)
	if err != nil {
		return RangeInfo{}, fmt.Errorf("read the ranges of the site: %w", err)
	}
	own = slices.DeleteFunc(own, func(o provisioning.Range) bool { return o.Kind != provisioning.RangeReserved })
	wide, err := tx.widen(r, bits, own)
	if err != nil {
		return RangeInfo{}, err
	}
	for _, o := range own {
		if !wide.Overlaps(o.Prefix) {
			continue
		}
		if err := tx.remove(o); err != nil {
			return RangeInfo{}, err
		}
	}
	if err := tx.Ranges().Remove(r.ID); err != nil {
		return RangeInfo{}, fmt.Errorf("replace %v: %w", r.Prefix, err)
	}
	r.ID, r.Prefix = 0, wide
	return tx.create(r, provisioning.RangeGrown)
}

// widen says where r grows to, or what is in the way.
func (tx *planTx) widen(r provisioning.Range, bits int, own []provisioning.Range) (netip.Prefix, error) {
	var reserved []netip.Prefix
	for _, o := range own {
		reserved = append(reserved, o.Prefix)
	}
	var wide, home netip.Prefix
	err := tx.plan(func(p *ipam.Plan) error {
		home = poolOf(p, r.Prefix)
		var err error
		wide, err = p.Grow(r.Prefix, bits, reserved...)
		return err
	})
	const hint = "ask for less, or give the site another range: \"towpath plan renumber %s\""
	name := ownerName(tx, r.Owner)
	overlap, met := errors.AsType[*ipam.OverlapError](err)
	switch {
	case err == nil:
		return wide, nil
	case errors.Is(err, ipam.ErrMalformed):
		return wide, provisioning.Errorf(provisioning.Conflict, "%v cannot grow to a /%d in the pool %v", r.Prefix, bits, home).WithHint(hint, name)
	case !met:
		return wide, fmt.Errorf("grow %v: %w", r.Prefix, err)
	}
	near, err := tx.Ranges().Overlapping(overlap.Prefix)
	if err != nil {
		return wide, fmt.Errorf("read the plan: %w", err)
	}
	near = slices.DeleteFunc(near, func(o provisioning.Range) bool {
		return o.ID == r.ID || o.Kind == provisioning.RangeReserved && o.Owner == r.Owner ||
			o.Kind == provisioning.RangePool && o.Prefix.Bits() <= home.Bits()
	})
	return wide, provisioning.Errorf(provisioning.Conflict, "%v cannot grow to %v: it would overlap %s", r.Prefix, overlap.Prefix, describeRanges(tx, near)).
		WithHint(hint, name)
}
