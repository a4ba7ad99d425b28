package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
)

// Allocate gives a Site a further range. A certain range may be one that is reserved for the Site, or a part of it; the rest stays
// reserved.
func (c *Coordinator) Allocate(ctx context.Context, actor string, n NewAllocation) (RangeInfo, error) {
	switch n.Purpose {
	case provisioning.PurposeOverlay, provisioning.PurposeWorkstation, provisioning.PurposeServices:
	case provisioning.PurposeMapped:
		return RangeInfo{}, provisioning.Errorf(provisioning.Invalid, "a mapped range stands for a LAN").
			WithHint("make it with \"towpath plan map SITE LAN\"")
	default:
		return RangeInfo{}, provisioning.Errorf(provisioning.Invalid, "nothing is allocated for %q", clean(string(n.Purpose), maxShort)).
			WithHint("choose %q, %q or %q", provisioning.PurposeOverlay, provisioning.PurposeWorkstation, provisioning.PurposeServices)
	}
	if err := checkPlace(n.Prefix, n.Size, n.Pool); err != nil {
		return RangeInfo{}, err
	}
	label, note, err := textsOf(n.Label, n.Note)
	if err != nil {
		return RangeInfo{}, err
	}
	var out RangeInfo
	err = c.changePlan(ctx, actor, "range.allocate", func(tx *planTx) (string, string, error) {
		site, err := siteNamed(tx, n.Site)
		if err != nil {
			return "", "", err
		}
		out, err = tx.allocate(provisioning.Range{
			Kind: provisioning.RangeAllocation, Purpose: n.Purpose, Prefix: n.Prefix, Owner: string(site.ID), Label: label, Note: note,
		}, n.Pool, n.Size)
		return site.Name, fmt.Sprintf("%v for %s", out.Prefix, n.Purpose), err
	})
	return out, err
}

// allocate stores the allocation r. Its Prefix is a certain one, in the pool if that is named, or the zero Prefix: then it is chosen, in
// the pool, or in any, see poolsInOrder.
func (tx *planTx) allocate(r provisioning.Range, pool string, s Size) (RangeInfo, error) {
	r.Created = tx.at
	if r.Prefix.IsValid() {
		if err := tx.inPool(r.Prefix, pool); err != nil {
			return RangeInfo{}, err
		}
		if err := tx.claim(&r); err != nil {
			return RangeInfo{}, err
		}
		return tx.create(r, provisioning.RangeCreated)
	}
	var err error
	if r.Prefix, err = tx.choose(pool, s); err != nil {
		return RangeInfo{}, err
	}
	return tx.create(r, provisioning.RangeCreated)
}

// inPool refuses a range outside of a pool, if one is named.
func (tx *planTx) inPool(p netip.Prefix, pool string) error {
	if pool == "" {
		return nil
	}
	q, err := poolNamed(tx, pool)
	if err != nil {
		return err
	}
	if q.Prefix.Bits() > p.Bits() || !q.Prefix.Contains(p.Addr()) {
		return provisioning.Errorf(provisioning.Invalid, "%v is not in the pool %v", p, q.Prefix).WithHint("name the one or the other")
	}
	return nil
}

// claim gives up what is reserved for the owner of r in its place. What is left of a wider reservation stays one: the largest part keeps
// its label, unless r takes all of it and has none.
func (tx *planTx) claim(r *provisioning.Range) error {
	near, err := tx.Ranges().Overlapping(r.Prefix)
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	for _, o := range near {
		if !claims(*r, o) {
			continue
		}
		if err := tx.remove(o); err != nil {
			return err
		}
		if o.Prefix == r.Prefix && r.Label == "" {
			r.Label = o.Label
		}
		if err := tx.leave(o, r.Prefix); err != nil {
			return err
		}
	}
	return nil
}

// claims reports whether o is reserved for the owner of the allocation r.
func claims(r, o provisioning.Range) bool {
	return r.Kind == provisioning.RangeAllocation && o.Kind == provisioning.RangeReserved && o.Owner != "" && o.Owner == r.Owner
}

// leave reserves what is left of the removed reservation o around p.
func (tx *planTx) leave(o provisioning.Range, p netip.Prefix) error {
	if o.Prefix.Bits() >= p.Bits() {
		return nil
	}
	s, err := ipam.NewSpace(o.Prefix, p)
	if err != nil {
		return fmt.Errorf("divide the reservation %v: %w", o.Prefix, err)
	}
	parts := slices.SortedStableFunc(s.Free(), func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	for i, part := range parts {
		rest := o
		rest.ID, rest.Prefix = 0, part
		if i > 0 {
			rest.Label = ""
		}
		if _, err := tx.create(rest, provisioning.RangeCreated); err != nil {
			return err
		}
	}
	return nil
}

// Reserve keeps a range from being allocated.
func (c *Coordinator) Reserve(ctx context.Context, actor string, n NewReservation) (RangeInfo, error) {
	if err := checkPlace(n.Prefix, n.Size, n.Pool); err != nil {
		return RangeInfo{}, err
	}
	label, note, err := textsOf(n.Label, n.Note)
	if err != nil {
		return RangeInfo{}, err
	}
	var out RangeInfo
	err = c.changePlan(ctx, actor, "range.reserve", func(tx *planTx) (string, string, error) {
		r := provisioning.Range{Kind: provisioning.RangeReserved, Prefix: n.Prefix, Label: label, Note: note, Created: tx.at}
		var site provisioning.Site
		var err error
		if n.Site != "" {
			if site, err = siteNamed(tx, n.Site); err != nil {
				return "", "", err
			}
			r.Owner = string(site.ID)
		}
		if !r.Prefix.IsValid() {
			if r.Prefix, err = tx.chooseBeside(r.Owner, n.Pool, n.Size); err != nil {
				return "", "", err
			}
		}
		out, err = tx.create(r, provisioning.RangeCreated)
		return out.Prefix.String(), site.Name, err
	})
	return out, err
}

// chooseBeside is choose for the owner of a range that may grow: it prefers the place beside that, if that is where the pool is named, or
// none is.
func (tx *planTx) chooseBeside(owner, pool string, s Size) (netip.Prefix, error) {
	own, err := tx.overlayOf(owner)
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, q := range own {
		if q.Ending() || pool != "" && !tx.lies(q.Prefix, pool) {
			continue
		}
		bits, err := s.in(ipam.FamilyOf(q.Prefix))
		if err != nil {
			continue
		}
		var out netip.Prefix
		err = tx.plan(func(p *ipam.Plan) error {
			var err error
			out, err = p.FindBeside(q.Prefix, bits)
			return err
		})
		_, full := errors.AsType[*ipam.FullError](err)
		switch {
		case err == nil:
			return out, nil
		case !full && !errors.Is(err, ipam.ErrMalformed):
			return netip.Prefix{}, fmt.Errorf("look beside %v: %w", q.Prefix, err)
		}
		break
	}
	return tx.choose(pool, s)
}

// lies reports whether the narrowest pool around p is the one named.
func (tx *planTx) lies(p netip.Prefix, pool string) bool {
	q, err := poolNamed(tx, pool)
	if err != nil {
		return false
	}
	same := false
	err = tx.plan(func(plan *ipam.Plan) error {
		same = poolOf(plan, p) == q.Prefix
		return nil
	})
	return same && err == nil
}

// overlayOf are the allocations that hold the addresses of an owner's boxes, ending ones included, in the order of the plan.
func (tx *planTx) overlayOf(owner string) ([]provisioning.Range, error) {
	if owner == "" {
		return nil, nil
	}
	ranges, err := tx.Ranges().Of(owner)
	if err != nil {
		return nil, fmt.Errorf("read the ranges of the site: %w", err)
	}
	return slices.DeleteFunc(ranges, func(r provisioning.Range) bool {
		return r.Kind != provisioning.RangeAllocation || r.Purpose != provisioning.PurposeOverlay
	}), nil
}
