package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// stripParts is how many parts a picture of a pool has, at most.
const stripParts = 64

// Plan returns it.
func (c *Coordinator) Plan(ctx context.Context) (Plan, error) {
	var out Plan
	err := c.viewPlan(ctx, func(tx *planTx) error {
		names, err := ownerNames(tx)
		if err != nil {
			return err
		}
		ranges, err := tx.Ranges().List()
		if err != nil {
			return err
		}
		out = Plan{}
		if out.Quarantine, err = readQuarantine(tx); err != nil {
			return err
		}
		return tx.plan(func(p *ipam.Plan) error {
			nodes := map[netip.Prefix]ipam.PoolNode{}
			for n := range p.Pools() {
				nodes[n.Prefix] = n
			}
			for _, r := range ranges {
				if r.Kind != provisioning.RangePool {
					i := RangeInfo{Range: r, OwnerName: names[r.Owner]}
					i.Pool = poolOf(p, r.Prefix)
					out.Ranges = append(out.Ranges, i)
					continue
				}
				n := nodes[r.Prefix]
				i := PoolInfo{Range: r, Parent: n.Parent, Depth: n.Depth}
				if space, ok := p.Space(r.Prefix); ok {
					i.Usage, i.Strip = space.Usage(), space.Strip(stripParts)
				}
				out.Pools = append(out.Pools, i)
			}
			return nil
		})
	})
	if err != nil {
		return Plan{}, fmt.Errorf("read the plan: %w", err)
	}
	return out, nil
}

// ownerNames are the names of all who can own a range, by what stands in Range.Owner.
func ownerNames(tx store.Tx) (map[string]string, error) {
	sites, err := tx.Sites().List()
	if err != nil {
		return nil, fmt.Errorf("read the sites: %w", err)
	}
	names := map[string]string{hubOwner: hubOwner}
	for _, s := range sites {
		names[string(s.ID)] = s.Name
	}
	return names, nil
}

// SitePlan returns what the plan has of one Site, by name or id.
func (c *Coordinator) SitePlan(ctx context.Context, site string) (SitePlan, error) {
	var out SitePlan
	if err := c.viewPlan(ctx, func(tx *planTx) error {
		var err error
		out = SitePlan{}
		if out.Site, err = siteNamed(tx, site); err != nil {
			return err
		}
		return tx.describeSite(&out)
	}); err != nil {
		return SitePlan{}, err
	}
	services, err := c.Services(ctx)
	if err != nil {
		return SitePlan{}, err
	}
	out.Services = slices.DeleteFunc(services, func(v ServiceInfo) bool { return v.Site != out.Site.ID })
	if out.Findings, err = c.siteFindings(ctx, out.Site.Name); err != nil {
		return SitePlan{}, err
	}
	return out, nil
}

func (tx *planTx) describeSite(out *SitePlan) error {
	ranges, err := tx.Ranges().Of(string(out.Site.ID))
	if err != nil {
		return fmt.Errorf("read the ranges of the site: %w", err)
	}
	if err := tx.plan(func(p *ipam.Plan) error {
		for _, r := range ranges {
			i := RangeInfo{Range: r, OwnerName: out.Site.Name}
			i.Pool = poolOf(p, r.Prefix)
			out.Ranges = append(out.Ranges, i)
			if r.Maps.IsValid() {
				out.Mappings = append(out.Mappings, ipam.Mapping{LAN: r.Maps, Mapped: r.Prefix})
			}
		}
		return nil
	}); err != nil {
		return err
	}
	nodes, err := tx.Nodes().List()
	if err != nil {
		return fmt.Errorf("read the nodes: %w", err)
	}
	out.Nodes = slices.DeleteFunc(nodes, func(n provisioning.Node) bool { return n.Site != out.Site.ID })
	return nil
}

// NewRange describes a range to be added.
type NewRange struct {
	// Kind is pool, reserved, foreign or lan; allocations are made with their Site, or by Allocate.
	Kind   provisioning.RangeKind
	Prefix netip.Prefix
	// Site is the name or id of the Site whose LAN it is.
	Site string
	// Label is optional, for pools and reservations.
	Label string
	Note  string
	// Force adds a pool that ipam.CheckPool advises against.
	Force bool
}

// AddRange adds a pool, keeps a range from ever being allocated, or notes a network that is there. A pool is refused when it meets a LAN or
// what a box has reported.
func (c *Coordinator) AddRange(ctx context.Context, actor string, n NewRange) (provisioning.Range, error) {
	label, note, err := n.check()
	if err != nil {
		return provisioning.Range{}, err
	}
	var out provisioning.Range
	err = c.changePlan(ctx, actor, "range.add", func(tx *planTx) (string, string, error) {
		r := provisioning.Range{Kind: n.Kind, Prefix: n.Prefix, Label: label, Note: note, Created: tx.at}
		if n.Kind == provisioning.RangeLAN {
			site, err := siteNamed(tx, n.Site)
			if err != nil {
				return "", "", err
			}
			r.Owner = string(site.ID)
		}
		info, err := tx.add(r)
		out = info.Range
		return n.Prefix.String(), string(n.Kind), err
	})
	return out, err
}

// add stores a range that is no allocation.
func (tx *planTx) add(r provisioning.Range) (RangeInfo, error) {
	if r.Kind == provisioning.RangePool {
		if err := meetsFacts(tx, r.Prefix); err != nil {
			return RangeInfo{}, err
		}
	}
	return tx.create(r, provisioning.RangeCreated)
}

// check returns the label and note as they are stored.
func (n NewRange) check() (label, note string, err error) {
	switch n.Kind {
	case provisioning.RangePool:
		err = checkPool(n.Prefix, n.Force)
	case provisioning.RangeReserved, provisioning.RangeForeign:
		err = checkPrefix(n.Prefix)
	case provisioning.RangeLAN:
		err = checkLAN(n.Prefix)
	default:
		err = provisioning.Errorf(provisioning.Invalid, "a range of kind %q cannot be added", clean(string(n.Kind), maxShort)).
			WithHint("add a pool, a reserved or foreign range or a LAN; \"towpath plan allocate\" gives a site a range")
	}
	if err != nil {
		return "", "", err
	}
	if n.Site != "" && n.Kind != provisioning.RangeLAN {
		return "", "", provisioning.Errorf(provisioning.Invalid, "a range of kind %q belongs to no site", n.Kind).
			WithHint("leave the site out, or \"towpath plan reserve\" a range for it")
	}
	if n.Label != "" && n.Kind != provisioning.RangePool && n.Kind != provisioning.RangeReserved {
		return "", "", provisioning.Errorf(provisioning.Invalid, "a range of kind %q has no label", n.Kind).WithHint("write it into the note")
	}
	return textsOf(n.Label, n.Note)
}

// checkLAN refuses what is no LAN of a Site.
func checkLAN(p netip.Prefix) error {
	if err := checkPrefix(p); err != nil {
		return err
	}
	if tooWide(p) {
		return provisioning.Errorf(provisioning.Invalid, "%v is too wide for the LAN of a site", p).WithHint("give the network that the machines are in")
	}
	return nil
}

// RemoveRange removes a reserved or foreign range, a LAN that was entered, a pool whose content lies in a wider one, too, or ends a
// quarantine early.
func (c *Coordinator) RemoveRange(ctx context.Context, actor string, id int64) error {
	return c.changePlan(ctx, actor, "range.remove", func(tx *planTx) (string, string, error) {
		r, err := tx.Ranges().ByID(id)
		if errors.Is(err, store.ErrNotFound) {
			return "", "", provisioning.Errorf(provisioning.NotFound, "there is no range with the number %d", id).
				WithHint("the plan shows the numbers")
		}
		if err != nil {
			return "", "", fmt.Errorf("read the range: %w", err)
		}
		if err := tx.canRemove(r); err != nil {
			return "", "", err
		}
		return r.Prefix.String(), string(r.Kind), tx.remove(r)
	})
}

func (tx *planTx) canRemove(r provisioning.Range) error {
	switch {
	case r.Kind == provisioning.RangeAllocation && !r.Quarantined():
		return provisioning.Errorf(provisioning.Conflict, "%v is allocated to %s", r.Prefix, ownerName(tx, r.Owner)).
			WithHint("release it, or remove the site with all that it has")
	case r.Kind == provisioning.RangeReported:
		return provisioning.Errorf(provisioning.Conflict, "%s: that is how it is", describeRange(tx, r)).
			WithHint("it goes away when the box is no longer connected to that network, or is removed")
	case r.Kind != provisioning.RangePool:
		return nil
	}
	around := false
	if err := tx.plan(func(p *ipam.Plan) error {
		for n := range p.Pools() {
			around = around || n.Prefix == r.Prefix && n.Parent.IsValid()
		}
		return nil
	}); err != nil || around {
		return err
	}
	near, err := tx.Ranges().Overlapping(r.Prefix)
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	homeless := slices.DeleteFunc(near, func(o provisioning.Range) bool {
		inner := func(q provisioning.Range) bool {
			return q.Kind == provisioning.RangePool && q.ID != r.ID && q.Prefix.Bits() <= o.Prefix.Bits() && q.Prefix.Contains(o.Prefix.Addr())
		}
		return o.Kind != provisioning.RangeAllocation || slices.ContainsFunc(near, inner)
	})
	if len(homeless) == 0 {
		return nil
	}
	return provisioning.Errorf(provisioning.Conflict, "the pool %v still holds %s", r.Prefix, describeRanges(tx, homeless)).
		WithHint("remove these sites first; what is quarantined can be removed from the plan by its number")
}

// meetsFacts refuses a pool that a box is connected to, which would then be cut off from its own machines. What boxes report is in the plan,
// too, but for what was in a pool at that time.
func meetsFacts(tx store.Tx, pool netip.Prefix) error {
	nodes, err := tx.Nodes().List()
	if err != nil {
		return fmt.Errorf("read the nodes: %w", err)
	}
	for _, n := range nodes {
		for _, w := range believed(n) {
			if !tooWide(w.prefix) && w.prefix.Overlaps(pool) {
				return provisioning.Errorf(provisioning.Conflict, "the pool %v overlaps %v (%s of the box of site %s)",
					pool, w.prefix, reportedNoun(w.purpose), ownerName(tx, string(n.Site))).
					WithHint("choose another pool: the box there could no longer reach its own network")
			}
		}
	}
	return nil
}
