package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
)

// quarantine is how long the addresses of a removed Site stay unused: until no log, no archive and no colleague means the old Site by them.
const quarantine = 30 * 24 * time.Hour

// Plan is the whole address plan.
type Plan struct {
	Pools []PoolInfo
	// Ranges are all but the pools, by prefix.
	Ranges []RangeInfo
}

// PoolInfo is a pool and how full it is.
type PoolInfo struct {
	provisioning.Range
	Usage ipam.Usage
}

// RangeInfo is a range and the name of its owner.
type RangeInfo struct {
	provisioning.Range
	// OwnerName is the name of the Site, or "hub".
	OwnerName string
}

// Plan returns it.
func (c *Coordinator) Plan(ctx context.Context) (Plan, error) {
	var ranges []provisioning.Range
	names := map[string]string{hubOwner: hubOwner}
	if err := c.st.View(ctx, func(tx store.Tx) error {
		sites, err := tx.Sites().List()
		if err != nil {
			return fmt.Errorf("read the sites: %w", err)
		}
		for _, s := range sites {
			names[string(s.ID)] = s.Name
		}
		ranges, err = tx.Ranges().List()
		return err
	}); err != nil {
		return Plan{}, fmt.Errorf("read the plan: %w", err)
	}
	var p Plan
	taken := takenBy(ranges)
	for _, r := range ranges {
		if r.Kind != provisioning.RangePool {
			p.Ranges = append(p.Ranges, RangeInfo{Range: r, OwnerName: names[r.Owner]})
			continue
		}
		space, err := ipam.NewSpace(r.Prefix, taken...)
		if err != nil {
			return Plan{}, fmt.Errorf("measure the pool %v: %w", r.Prefix, err)
		}
		p.Pools = append(p.Pools, PoolInfo{Range: r, Usage: space.Usage()})
	}
	return p, nil
}

// takenBy returns what no allocation may overlap.
func takenBy(ranges []provisioning.Range) []netip.Prefix {
	var taken []netip.Prefix
	for _, r := range ranges {
		if r.Kind != provisioning.RangePool {
			taken = append(taken, r.Prefix)
		}
	}
	return taken
}

// NewRange describes a range to be added.
type NewRange struct {
	// Kind is pool, reserved or foreign; allocations are made with their Site.
	Kind   provisioning.RangeKind
	Prefix netip.Prefix
	Note   string
	// Force adds a pool that ipam.CheckPool advises against.
	Force bool
}

// AddRange adds a pool, or keeps a range from ever being allocated. A pool is refused when an enrolled box has the addresses on its LAN.
func (c *Coordinator) AddRange(ctx context.Context, actor string, n NewRange) (provisioning.Range, error) {
	switch n.Kind {
	case provisioning.RangePool:
		if err := checkPool(n.Prefix, n.Force); err != nil {
			return provisioning.Range{}, err
		}
	case provisioning.RangeReserved, provisioning.RangeForeign:
		if err := checkPrefix(n.Prefix); err != nil {
			return provisioning.Range{}, err
		}
	default:
		return provisioning.Range{}, provisioning.Errorf(provisioning.Invalid, "a range of kind %q cannot be added", clean(string(n.Kind), maxShort)).
			WithHint("add a pool, a reserved or a foreign range; a site's range is allocated together with the site")
	}
	var out provisioning.Range
	err := c.change(ctx, actor, "range.add", func(tx store.Tx) (string, string, error) {
		if n.Kind == provisioning.RangePool {
			if err := meetsLAN(tx, n.Prefix); err != nil {
				return "", "", err
			}
		}
		var err error
		out, err = createRange(tx, provisioning.Range{Kind: n.Kind, Prefix: n.Prefix, Note: clean(n.Note, maxLong), Created: c.stamp()})
		return n.Prefix.String(), string(n.Kind), err
	})
	return out, err
}

// RemoveRange removes a reserved or foreign range, a pool in which nothing is allocated, or ends a quarantine early.
func (c *Coordinator) RemoveRange(ctx context.Context, actor string, id int64) error {
	return c.change(ctx, actor, "range.remove", func(tx store.Tx) (string, string, error) {
		ranges, err := tx.Ranges().List()
		if err != nil {
			return "", "", fmt.Errorf("read the plan: %w", err)
		}
		r, ok := rangeByID(ranges, id)
		if !ok {
			return "", "", provisioning.Errorf(provisioning.NotFound, "there is no range with the number %d", id).
				WithHint("the plan shows the numbers")
		}
		if r.Kind == provisioning.RangeAllocation && r.Until.IsZero() {
			return "", "", provisioning.Errorf(provisioning.Conflict, "%v is allocated to %s", r.Prefix, ownerName(tx, r.Owner)).
				WithHint("a site's range goes away with the site")
		}
		if r.Kind == provisioning.RangePool {
			for _, in := range ranges {
				if in.Kind == provisioning.RangeAllocation && in.Prefix.Overlaps(r.Prefix) {
					return "", "", provisioning.Errorf(provisioning.Conflict, "the pool %v still holds %v", r.Prefix, in.Prefix).
						WithHint("remove its sites first; what is quarantined can be removed from the plan by its number")
				}
			}
		}
		return r.Prefix.String(), string(r.Kind), tx.Ranges().Remove(id)
	})
}

func rangeByID(ranges []provisioning.Range, id int64) (provisioning.Range, bool) {
	for _, r := range ranges {
		if r.ID == id {
			return r, true
		}
	}
	return provisioning.Range{}, false
}

func checkPrefix(p netip.Prefix) error {
	if _, err := ipam.ParsePrefix(p.String()); err != nil {
		return provisioning.Errorf(provisioning.Invalid, "%s", err).WithHint("write a range like 10.20.0.0/16")
	}
	return nil
}

// meetsLAN refuses a pool that is the LAN of an enrolled box, which would then be cut off from its own machines.
func meetsLAN(tx store.Tx, pool netip.Prefix) error {
	nodes, err := tx.Nodes().List()
	if err != nil {
		return fmt.Errorf("read the nodes: %w", err)
	}
	for _, n := range nodes {
		for _, lan := range n.Facts.LANs {
			if lan.Overlaps(pool) {
				return provisioning.Errorf(provisioning.Conflict, "the pool %v overlaps %v, which is on the LAN of site %s",
					pool, lan, ownerName(tx, string(n.Site))).
					WithHint("choose another pool: the box there could no longer reach its own network")
			}
		}
	}
	return nil
}

// createRange stores r, or says what is in its way. It looks first, because after a refused write a transaction may be spent.
func createRange(tx store.Tx, r provisioning.Range) (provisioning.Range, error) {
	near, err := tx.Ranges().Overlapping(r.Prefix)
	if err != nil {
		return r, fmt.Errorf("read the plan: %w", err)
	}
	var in []string
	for _, o := range near {
		if excludes(r.Kind, o.Kind) && len(in) < 3 {
			in = append(in, describeRange(tx, o))
		}
	}
	if len(in) == 0 {
		created, err := tx.Ranges().Create(r)
		if !errors.Is(err, store.ErrOverlap) {
			return created, err
		}
		in = []string{"another range of the plan"}
	}
	return r, provisioning.Errorf(provisioning.Conflict, "%v overlaps %s", r.Prefix, strings.Join(in, " and ")).
		WithHint("choose a range that the plan shows as free")
}

// excludes words the rules that the database holds by itself, see store.Ranges.
func excludes(a, b provisioning.RangeKind) bool {
	switch {
	case a == provisioning.RangePool || b == provisioning.RangePool:
		return a == b
	case a == provisioning.RangeForeign || b == provisioning.RangeForeign:
		return a == provisioning.RangeAllocation || b == provisioning.RangeAllocation
	}
	return true
}

func describeRange(tx store.Tx, r provisioning.Range) string {
	switch {
	case !r.Until.IsZero():
		return fmt.Sprintf("%v (quarantined until %s)", r.Prefix, r.Until.Format(time.DateOnly))
	case r.Kind == provisioning.RangeAllocation:
		return fmt.Sprintf("%v (allocated to %s)", r.Prefix, ownerName(tx, r.Owner))
	}
	return fmt.Sprintf("%v (%s)", r.Prefix, r.Kind)
}

func ownerName(tx store.Tx, owner string) string {
	if s, err := tx.Sites().ByID(provisioning.SiteID(owner)); err == nil {
		return s.Name
	}
	return owner
}

// allocate picks room for hosts in the first pool that has it, IPv4 or IPv6 as the pool is.
func allocate(tx store.Tx, owner string, hosts int, at time.Time) (provisioning.Range, error) {
	if _, err := tx.Ranges().Sweep(at); err != nil {
		return provisioning.Range{}, fmt.Errorf("free what was quarantined: %w", err)
	}
	ranges, err := tx.Ranges().List()
	if err != nil {
		return provisioning.Range{}, fmt.Errorf("read the plan: %w", err)
	}
	taken := takenBy(ranges)
	var full error
	for _, r := range ranges {
		if r.Kind != provisioning.RangePool {
			continue
		}
		bits, err := ipam.PrefixFor(hosts, ipam.FamilyOf(r.Prefix))
		if err != nil {
			return provisioning.Range{}, provisioning.Errorf(provisioning.Invalid, "%s", err)
		}
		if bits < r.Prefix.Bits() {
			full = &ipam.FullError{Pool: r.Prefix, Bits: bits}
			continue
		}
		space, err := ipam.NewSpace(r.Prefix, taken...)
		if err != nil {
			return provisioning.Range{}, fmt.Errorf("read the pool %v: %w", r.Prefix, err)
		}
		p, err := space.Find(bits)
		if _, none := errors.AsType[*ipam.FullError](err); none {
			full = err
			continue
		}
		if err != nil {
			return provisioning.Range{}, fmt.Errorf("allocate from the pool %v: %w", r.Prefix, err)
		}
		return createRange(tx, provisioning.Range{Kind: provisioning.RangeAllocation, Prefix: p, Owner: owner, Created: at})
	}
	if full == nil {
		return provisioning.Range{}, provisioning.Errorf(provisioning.Conflict, "the plan has no pool").WithHint("add a pool")
	}
	return provisioning.Range{}, provisioning.Errorf(provisioning.Conflict, "there is no room for %d hosts: %s", hosts, full).
		WithHint("add a pool, or ask for fewer hosts")
}
