package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
)

const (
	defaultKeep = 7 * 24 * time.Hour
	minKeep     = time.Minute
	maxKeep     = 366 * 24 * time.Hour
)

// Renumber gives a Site new addresses, beside the old ones until these end. Without a range or size, the new range is as large as all the
// old ones together; it has the family of the first of these unless a pool is named.
func (c *Coordinator) Renumber(ctx context.Context, actor string, r RenumberRequest) (Renumbering, error) {
	r.Keep = cmp.Or(r.Keep, defaultKeep)
	if r.Keep < minKeep || r.Keep > maxKeep {
		return Renumbering{}, provisioning.Errorf(provisioning.Invalid, "old and new addresses cannot both work for %v", r.Keep).
			WithHint("choose from a minute to a year, such as 7 days: until everybody has the new ones")
	}
	if r.Prefix.IsValid() || r.Size != (Size{}) {
		if err := checkPlace(r.Prefix, r.Size, r.Pool); err != nil {
			return Renumbering{}, err
		}
	}
	var out Renumbering
	if r.DryRun {
		err := c.viewPlan(ctx, func(tx *planTx) error {
			m, err := tx.planMove(r)
			out = m.Renumbering
			return err
		})
		return out, err
	}
	err := c.changePlan(ctx, actor, "site.renumber", func(tx *planTx) (string, string, error) {
		m, err := tx.planMove(r)
		if err != nil {
			return "", "", err
		}
		if err := tx.move(m); err != nil {
			return "", "", err
		}
		out = m.Renumbering
		out.Done = true
		return out.Site, fmt.Sprintf("from %s to %v, both until %s", joinPrefixes(out.Old), out.New, out.Until.Format(time.DateTime)), nil
	})
	return out, err
}

// move is a Renumbering with what the database must be told.
type move struct {
	Renumbering
	site provisioning.Site
	olds []provisioning.Range
	// services are those with an address of their own that changes, as they will be.
	services []provisioning.Service
}

// planMove decides everything and changes nothing.
func (tx *planTx) planMove(r RenumberRequest) (move, error) {
	m := move{}
	var err error
	if m.site, err = siteNamed(tx, r.Site); err != nil {
		return m, err
	}
	if m.olds, err = tx.overlayOf(string(m.site.ID)); err != nil {
		return m, err
	}
	for _, o := range m.olds {
		if o.Ending() {
			return m, provisioning.Errorf(provisioning.Conflict, "site %s is being renumbered: %v works until %s", m.site.Name, o.Prefix,
				o.Until.Format(time.DateTime)).
				WithHint("wait, or \"towpath plan renumber %s --end\" if nobody needs the old addresses", m.site.Name)
		}
		m.Old = append(m.Old, o.Prefix)
	}
	if len(m.olds) == 0 {
		return m, provisioning.Errorf(provisioning.Conflict, "site %s has no addresses", m.site.Name).
			WithHint("give it some: \"towpath plan allocate %s --hosts N\"", m.site.Name)
	}
	m.Site, m.Until = m.site.Name, tx.at.Add(r.Keep)
	if m.New, err = tx.newHome(m, r); err != nil {
		return m, err
	}
	s, err := snapshot(tx)
	if err != nil {
		return m, fmt.Errorf("read the network: %w", err)
	}
	before := netmap.NewIndex(s)
	if s, err = m.readdress(s); err != nil {
		return m, err
	}
	s.Ranges = append(s.Ranges, provisioning.Range{
		Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeOverlay, Prefix: m.New, Owner: string(m.site.ID),
	})
	m.Services = movedServices(s, m.site.ID, before, netmap.NewIndex(s))
	return m, nil
}

// newHome decides on the new range.
func (tx *planTx) newHome(m move, r RenumberRequest) (netip.Prefix, error) {
	if r.Prefix.IsValid() {
		_, err := lookAround(tx, provisioning.Range{Kind: provisioning.RangeAllocation, Prefix: r.Prefix, Owner: string(m.site.ID)})
		return r.Prefix, err
	}
	family := ipam.FamilyOf(m.Old[0])
	size := r.Size
	if size == (Size{}) {
		size = Size{Bits: together(m.Old, family)}
	}
	if r.Pool == "" {
		return tx.near(m.Old[0], size, family)
	}
	pool, err := poolNamed(tx, r.Pool)
	if err != nil {
		return netip.Prefix{}, err
	}
	if r.Size == (Size{}) && ipam.FamilyOf(pool.Prefix) != family {
		return netip.Prefix{}, provisioning.Errorf(provisioning.Invalid, "the pool %v is of another family than %v", pool.Prefix, m.Old[0]).
			WithHint("say how many hosts the new range shall have room for")
	}
	return tx.choose(r.Pool, size)
}

// near finds room in the pool that a range is in, or else in any.
func (tx *planTx) near(old netip.Prefix, s Size, f ipam.Family) (netip.Prefix, error) {
	var pool netip.Prefix
	if err := tx.plan(func(p *ipam.Plan) error {
		pool = poolOf(p, old)
		return nil
	}); err != nil {
		return netip.Prefix{}, err
	}
	if p, err := tx.choose(pool.String(), s, f); err == nil {
		return p, nil
	}
	return tx.choose("", s, f)
}

// together is the length of a prefix as large as all of a family in the list.
func together(list []netip.Prefix, f ipam.Family) int {
	widest, sum := f.Width(), 0.
	for _, p := range list {
		if ipam.FamilyOf(p) == f {
			widest = min(widest, p.Bits())
		}
	}
	for _, p := range list {
		if ipam.FamilyOf(p) == f {
			sum += math.Ldexp(1, widest-p.Bits())
		}
	}
	return max(1, widest-bits.Len(uint(math.Ceil(sum))-1))
}

// readdress decides on the new addresses, and returns s with them.
func (m *move) readdress(s netmap.Snapshot) (netmap.Snapshot, error) {
	a := renumberer{olds: m.Old, to: m.New}
	s.Nodes, s.Services, s.Ranges = slices.Clone(s.Nodes), slices.Clone(s.Services), slices.Clone(s.Ranges)
	for i := range s.Nodes {
		if s.Nodes[i].Site == m.site.ID && a.isOld(s.Nodes[i].Address) {
			a.moving = append(a.moving, &s.Nodes[i].Address)
		}
	}
	for i, v := range s.Services {
		if v.Site == m.site.ID && a.isOld(v.Address) {
			a.moving = append(a.moving, &s.Services[i].Address)
		}
	}
	before := slices.Clone(s.Nodes)
	if err := a.run(); err != nil {
		return s, provisioning.Errorf(provisioning.Conflict, "site %s has %d addresses in use, and %v has no room for them", m.site.Name, len(a.moving), m.New).
			WithHint("ask for a larger range")
	}
	for i, n := range s.Nodes {
		if slices.Contains(a.moving, &s.Nodes[i].Address) {
			s.Nodes[i].Former = before[i].Address
			m.Nodes = append(m.Nodes, MovedNode{Node: n.ID, Hostname: n.Facts.Hostname, Old: before[i].Address, New: n.Address})
		}
	}
	for i, v := range s.Services {
		if slices.Contains(a.moving, &s.Services[i].Address) {
			m.services = append(m.services, v)
		}
	}
	return s, nil
}

// renumberer moves addresses: to the same host number where that is there and free, else to the next free address.
type renumberer struct {
	olds   []netip.Prefix
	to     netip.Prefix
	moving []*netip.Addr
}

func (r *renumberer) isOld(a netip.Addr) bool {
	return a.IsValid() && slices.ContainsFunc(r.olds, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (r *renumberer) run() error {
	slices.SortStableFunc(r.moving, func(a, b *netip.Addr) int { return a.Compare(*b) })
	var taken []netip.Addr
	var rest []*netip.Addr
	for _, a := range r.moving {
		same, ok := r.sameHost(*a)
		if !ok || !ipam.IsHost(r.to, same) || slices.Contains(taken, same) {
			rest = append(rest, a)
			continue
		}
		*a = same
		taken = append(taken, same)
	}
	for _, a := range rest {
		var err error
		if *a, err = ipam.FirstHost(r.to, taken...); err != nil {
			return err
		}
		taken = append(taken, *a)
	}
	return nil
}

// sameHost is the address of the same number in the new range.
func (r *renumberer) sameHost(a netip.Addr) (netip.Addr, bool) {
	i := slices.IndexFunc(r.olds, func(p netip.Prefix) bool { return p.Contains(a) })
	if i < 0 || a.BitLen() != r.to.Addr().BitLen() {
		return netip.Addr{}, false
	}
	host, out := a.AsSlice(), r.to.Addr().AsSlice()
	for bit := r.olds[i].Bits(); bit < a.BitLen(); bit++ {
		mask := byte(0x80) >> (bit % 8)
		switch {
		case host[bit/8]&mask == 0:
		case bit < r.to.Bits():
			return netip.Addr{}, false
		default:
			out[bit/8] |= mask
		}
	}
	return netip.AddrFromSlice(out)
}

// movedServices are those of a Site that users find at another place than before.
func movedServices(s netmap.Snapshot, site provisioning.SiteID, before, after *netmap.Index) []MovedService {
	names := map[provisioning.SiteID]string{}
	for _, v := range s.Sites {
		names[v.ID] = v.Name
	}
	users := map[provisioning.ServiceID][]string{}
	for _, g := range s.Grants {
		users[g.Service] = append(users[g.Service], names[g.Site])
	}
	var out []MovedService
	for _, v := range s.Services {
		o, n := before.At(v.ID), after.At(v.ID)
		if v.Site != site || o == n {
			continue
		}
		slices.Sort(users[v.ID])
		out = append(out, MovedService{Service: v.Name, Protocol: string(v.Protocol), AETitle: v.AETitle, Old: o, New: n, Users: users[v.ID]})
	}
	slices.SortFunc(out, func(a, b MovedService) int { return strings.Compare(a.Service, b.Service) })
	return out
}

// move does what was planned.
func (tx *planTx) move(m move) error {
	if _, err := tx.allocate(provisioning.Range{
		Kind: provisioning.RangeAllocation, Purpose: provisioning.PurposeOverlay, Prefix: m.New, Owner: string(m.site.ID),
	}, "", Size{}); err != nil {
		return err
	}
	for _, o := range m.olds {
		if err := tx.Ranges().End(o.ID, m.Until); err != nil {
			return fmt.Errorf("end %v: %w", o.Prefix, err)
		}
		o.Until = m.Until
		if err := recordRangeOf(tx, tx.at, tx.actor, provisioning.RangeEnding, o, m.Site); err != nil {
			return err
		}
	}
	for _, n := range m.Nodes {
		if err := tx.Nodes().Readdress(n.Node, n.New, n.Old); err != nil {
			return fmt.Errorf("give node %s the address %s: %w", n.Node, n.New, err)
		}
	}
	for _, v := range m.services {
		if err := tx.Services().Readdress(v.ID, v.Address); err != nil {
			return fmt.Errorf("give service %s the address %s: %w", v.Name, v.Address, err)
		}
	}
	return nil
}
