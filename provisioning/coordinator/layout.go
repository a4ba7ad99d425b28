package coordinator

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
)

const (
	// maxSites keeps the arithmetic of LayOut far from any limit.
	maxSites = 1_000_000
	// maxRegions is how many narrower pools one pool is divided into.
	maxRegions = 256
	// maxPieces is how many pools LayOut puts together where there is no room for one.
	maxPieces = 8
)

// habit is a range that people and software take by default. LayOut keeps away from it, because whoever has it on a LAN has a reason to
// complain; ipam.CheckPool allows it, because whoever knows the LANs may have one, too.
type habit struct {
	prefix netip.Prefix
	reason string
}

func habits() []habit {
	ten := func(b, c byte, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, b, c, 0}), bits)
	}
	return []habit{
		{ten(0, 0, 16), "the first range that anybody chooses by hand, and that routers and hypervisors come with"},
		{ten(1, 0, 16), "the second"},
		{ten(8, 0, 16), "OpenVPN's examples use it"},
		{ten(10, 0, 16), "easy to remember, so hospitals number departments by it"},
		{ten(42, 0, 15), "k3s gives it to containers and their services"},
		{ten(88, 0, 15), "Podman gives it to its networks"},
		{ten(96, 0, 12), "Kubernetes gives it to services"},
		{ten(244, 0, 16), "Flannel gives it to containers"},
	}
}

// LayOut adds pools for a plan. A random pool of IPv6 is another one each time, so a dry run shows only that there would be one.
func (c *Coordinator) LayOut(ctx context.Context, actor string, r LayoutRequest) (Layout, error) {
	if err := r.check(); err != nil {
		return Layout{}, err
	}
	var out Layout
	run := func(tx *planTx) error {
		var err error
		out, err = tx.layOut(r)
		return err
	}
	if r.DryRun {
		err := c.viewPlan(ctx, run)
		return out, err
	}
	err := c.changePlan(ctx, actor, "plan.layout", func(tx *planTx) (string, string, error) {
		if err := run(tx); err != nil {
			return "", "", err
		}
		var names []string
		for i, p := range out.Pools {
			if p.ID == 0 {
				info, err := tx.add(p)
				if err != nil {
					return "", "", err
				}
				out.Pools[i] = info.Range
			}
			names = append(names, p.Prefix.String())
		}
		out.Done = true
		return "plan", "pools " + strings.Join(names, ", "), nil
	})
	return out, err
}

// check refuses what makes no plan, and fills in how many hosts a site has.
func (r *LayoutRequest) check() error {
	if r.Hosts == 0 {
		r.Hosts = defaultHosts
	}
	switch {
	case len(r.Pools) == 0 && r.Sites == 0 && !r.ULA:
		return provisioning.Errorf(provisioning.Invalid, "neither pools nor a number of sites were given").
			WithHint("say for how many sites the plan shall be, or name the pools")
	case r.Sites < 0 || r.Sites > maxSites:
		return provisioning.Errorf(provisioning.Invalid, "a plan is for 1 to %d sites, not %d", maxSites, r.Sites).WithHint("ask for less")
	case len(r.Regions) > maxRegions:
		return provisioning.Errorf(provisioning.Invalid, "there are %d regions, more than %d", len(r.Regions), maxRegions).
			WithHint("add the pools of some by hand")
	case len(r.Regions) > 0 && len(r.Pools) == 0 && r.Sites == 0:
		return provisioning.Errorf(provisioning.Invalid, "there are regions and no pool of IPv4 that they could be of").
			WithHint("say for how many sites the plan shall be, or name the pools")
	}
	if err := (Size{Hosts: r.Hosts}).check(); err != nil {
		return err
	}
	for i, label := range r.Regions {
		if err := provisioning.CheckName("region", label); err != nil {
			return err
		}
		if _, _, err := textsOf(label, ""); err != nil {
			return err
		}
		if slices.Contains(r.Regions[:i], label) {
			return provisioning.Errorf(provisioning.Invalid, "the region %s is named twice", label).WithHint("each needs a label of its own")
		}
	}
	for _, p := range r.Pools {
		if err := checkPool(p, r.Force); err != nil {
			return err
		}
	}
	return nil
}

// layOut decides on the pools and changes nothing. Those that are there already have a number.
func (tx *planTx) layOut(r LayoutRequest) (Layout, error) {
	pools := r.Pools
	if len(pools) == 0 && r.Sites > 0 {
		var err error
		if pools, err = tx.choosePools(r); err != nil {
			return Layout{}, err
		}
	}
	if r.ULA {
		p, err := tx.randomPool()
		if err != nil {
			return Layout{}, err
		}
		pools = append(slices.Clone(pools), p)
	}
	var out Layout
	taken := map[string]bool{}
	for _, p := range pools {
		top, err := tx.layPool(p, "")
		if err != nil {
			return Layout{}, err
		}
		out.Pools = append(out.Pools, top)
		regions, err := tx.regions(p, r.Regions, taken)
		if err != nil {
			return Layout{}, err
		}
		out.Pools = append(out.Pools, regions...)
		fits, err := tx.capacity(p, r.Hosts)
		if err != nil {
			return Layout{}, err
		}
		out.Capacity += fits
	}
	return out, nil
}

// layPool is the pool p as it is there, or as it would be.
func (tx *planTx) layPool(p netip.Prefix, label string) (provisioning.Range, error) {
	near, err := tx.Ranges().Overlapping(p)
	if err != nil {
		return provisioning.Range{}, fmt.Errorf("read the plan: %w", err)
	}
	i := slices.IndexFunc(near, func(o provisioning.Range) bool { return o.Kind == provisioning.RangePool && o.Prefix == p })
	if i >= 0 && (label == "" || near[i].Label == label) {
		return near[i], nil
	}
	r := provisioning.Range{Kind: provisioning.RangePool, Prefix: p, Label: label, Created: tx.at}
	if _, err := lookAround(tx, r); err != nil {
		return r, err
	}
	if err := labelIsFree(tx, label); err != nil {
		return r, err
	}
	return r, meetsFacts(tx, p)
}

// regions divides an IPv4 pool into equal parts, a power of two of them, and names the first. In the second pool that has a region of a
// name it is called "name-2".
func (tx *planTx) regions(pool netip.Prefix, labels []string, taken map[string]bool) ([]provisioning.Range, error) {
	if len(labels) == 0 || !pool.Addr().Is4() {
		return nil, nil
	}
	length := pool.Bits() + bits.Len(uint(len(labels)-1))
	if length > pool.Addr().BitLen() {
		return nil, provisioning.Errorf(provisioning.Invalid, "the pool %v has no room for %d regions", pool, len(labels)).WithHint("choose a wider pool")
	}
	space, err := ipam.NewSpace(pool)
	if err != nil {
		return nil, fmt.Errorf("divide the pool %v: %w", pool, err)
	}
	var out []provisioning.Range
	for _, label := range labels {
		name := label
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s-%d", label, n)
		}
		taken[name] = true
		p, err := space.Allocate(max(length, pool.Bits()+1))
		if err != nil {
			return nil, fmt.Errorf("divide the pool %v: %w", pool, err)
		}
		r, err := tx.layPool(p, name)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// capacity is how many sites have room in an IPv4 pool, whatever pools are in it.
func (tx *planTx) capacity(pool netip.Prefix, hosts int) (uint64, error) {
	if !pool.Addr().Is4() {
		return 0, nil
	}
	near, err := tx.Ranges().Overlapping(pool)
	if err != nil {
		return 0, fmt.Errorf("read the plan: %w", err)
	}
	space, err := ipam.NewSpace(pool)
	if err != nil {
		return 0, fmt.Errorf("measure the pool %v: %w", pool, err)
	}
	for _, r := range near {
		if r.Kind == provisioning.RangePool {
			continue
		}
		if err := space.Take(r.Prefix); err != nil {
			return 0, fmt.Errorf("measure the pool %v: %w", pool, err)
		}
	}
	length, err := ipam.PrefixFor(hosts, ipam.IPv4)
	if err != nil || length < pool.Bits() {
		return 0, nil //nolint:nilerr // none fits
	}
	return space.Fits(length), nil
}

// choosePools finds room for twice the sites asked for, in one pool or, if no room is as large, in several, away from all that is known.
func (tx *planTx) choosePools(r LayoutRequest) ([]netip.Prefix, error) {
	site, err := ipam.PrefixFor(r.Hosts, ipam.IPv4)
	if err != nil {
		return nil, provisioning.Errorf(provisioning.Invalid, "%s", err).WithHint("ask for less")
	}
	ten := netip.PrefixFrom(netip.AddrFrom4([4]byte{10}), 8)
	free, err := tx.unclaimed(ten)
	if err != nil {
		return nil, err
	}
	length := site - bits.Len(uint(2*r.Sites-1))
	for pieces := 1; pieces <= maxPieces; pieces *= 2 {
		if out, ok := takePieces(free, length+bits.Len(uint(pieces-1)), pieces); ok {
			return out, nil
		}
	}
	return nil, provisioning.Errorf(provisioning.Conflict, "%v has no room for twice %d sites of %d hosts: a /%d would be needed", ten, r.Sites, r.Hosts, length).
		WithHint("ask for less, or name the pools yourself")
}

// takePieces takes so many prefixes of a length, or nothing.
func takePieces(free *ipam.Space, length, pieces int) ([]netip.Prefix, bool) {
	if length <= free.Pool().Bits() {
		return nil, false
	}
	var out []netip.Prefix
	for range pieces {
		p, err := free.Allocate(length)
		if err != nil {
			for _, q := range out {
				_ = free.Release(q)
			}
			return nil, false
		}
		out = append(out, p)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out, true
}

// unclaimed is what nobody is known to use of a prefix.
func (tx *planTx) unclaimed(p netip.Prefix) (*ipam.Space, error) {
	near, err := tx.Ranges().Overlapping(p)
	if err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	nodes, err := tx.Nodes().List()
	if err != nil {
		return nil, fmt.Errorf("read the nodes: %w", err)
	}
	var claimed []netip.Prefix
	for _, h := range habits() {
		claimed = append(claimed, h.prefix)
	}
	for _, r := range near {
		claimed = append(claimed, r.Prefix)
	}
	for _, n := range nodes {
		for _, w := range believed(n) {
			if !tooWide(w.prefix) {
				claimed = append(claimed, w.prefix)
			}
		}
	}
	space, err := ipam.NewSpace(p, claimed...)
	if err != nil {
		return nil, fmt.Errorf("look for room in %v: %w", p, err)
	}
	return space, nil
}

// randomPool draws a unique local prefix that nothing known meets.
func (tx *planTx) randomPool() (netip.Prefix, error) {
	for {
		p, err := ipam.RandomULA(rand.Reader)
		if err != nil {
			return p, err
		}
		near, err := tx.Ranges().Overlapping(p)
		if err != nil || len(near) == 0 {
			return p, err
		}
		// A foreign fd00::/8 would be met for ever.
		if wide := near[0]; wide.Prefix.Bits() <= 8 {
			return p, provisioning.Errorf(provisioning.Conflict, "%s leaves no room for a pool of IPv6", describeRange(tx, wide)).
				WithHint("correct that range, or do without IPv6")
		}
	}
}
