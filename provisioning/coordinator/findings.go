package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// Finding is something about the plan that a person should know, with what to do about it.
type Finding struct {
	// Code is one of the constants below; with Site, Prefix and With it names the Finding.
	Code string
	// Severity is that of a wire.Condition: "info", "warning" or "error".
	Severity string
	// Site is the name, Node the id; empty where the whole plan is meant.
	Site string
	Node provisioning.NodeID
	// Prefix is what it is about, With the range it meets; the zero Prefix if there is none.
	Prefix, With netip.Prefix
	Message      string
	// Proposal is a command that would settle it, or a sentence where no command can; never empty.
	Proposal string
}

// The codes of Findings.
const (
	// FindingInPool: a box is connected to addresses of a pool.
	FindingInPool = "lan-in-pool"
	// FindingShared: the machine behind a Service has an address that one of another Site may have, too.
	FindingShared = "lan-shared"
	// FindingStale: a Mapping is of a LAN that the Site no longer has.
	FindingStale = "mapping-stale"
	// FindingOffLAN: the target of a Service is in none of the LANs that the Site has.
	FindingOffLAN = "target-off-lan"
	// FindingFull: a pool is nearly full.
	FindingFull = "pool-full"
	// FindingHeld: the map of a box is held back, because it is not proven to be safe; see Proof.
	FindingHeld = "map-held"
	// FindingEnding: a Site is being renumbered.
	FindingEnding = "renumbering"
	// FindingClone: two boxes have the same key.
	FindingClone = "clone"
	// FindingQuarantined: an operator has shut a Node out.
	FindingQuarantined = "quarantined"
	// FindingUnsigned: something waits for a signature by the network's offline key.
	FindingUnsigned = "unsigned"
	// FindingRotation: a Node is changing its key.
	FindingRotation = "key-change"
	// FindingRestored: a box has a newer map than the database can know.
	FindingRestored = "restored"
)

const (
	severityInfo    = "info"
	severityWarning = "warning"
	severityError   = "error"
)

// nearlyFull is the fraction from which on a pool is said to be nearly full.
const nearlyFull = 0.9

// Findings returns what is to be known about the plan as it is, the worst first.
func (c *Coordinator) Findings(ctx context.Context) ([]Finding, error) {
	plan, err := c.Plan(ctx)
	if err != nil {
		return nil, err
	}
	f, err := c.finder(ctx)
	if err != nil {
		return nil, err
	}
	divided := map[netip.Prefix]bool{}
	for _, p := range plan.Pools {
		divided[p.Parent] = true
	}
	for _, p := range plan.Pools {
		// What is given out to narrower pools is not used up.
		if !divided[p.Prefix] {
			f.pool(p)
		}
	}
	return f.find(), nil
}

// siteFindings are those that name a Site.
func (c *Coordinator) siteFindings(ctx context.Context, site string) ([]Finding, error) {
	f, err := c.finder(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(f.find(), func(x Finding) bool { return x.Site != site }), nil
}

// sinceWhen returns the Findings that name a Site as Conditions, by the name.
func (c *Coordinator) sinceWhen(ctx context.Context) (map[string][]wire.Condition, error) {
	f, err := c.finder(ctx)
	if err != nil {
		return nil, err
	}
	found, now := f.find(), c.stamp()
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := make(map[Finding]time.Time, len(found))
	out := map[string][]wire.Condition{}
	for _, x := range found {
		since, known := c.since[x]
		if !known {
			since = now
		}
		seen[x] = since
		if x.Code == FindingInPool {
			continue // the box tells itself, and also while the coordinator is away
		}
		out[x.Site] = append(out[x.Site], wire.Condition{
			Code: x.Code, Severity: x.Severity, Message: x.Message + " (" + x.Proposal + ")", Since: since,
		})
	}
	c.since = seen
	return out, nil
}

func (c *Coordinator) finder(ctx context.Context) (*finder, error) {
	x, err := c.newest(ctx)
	if err != nil {
		return nil, err
	}
	var f finder
	err = c.st.View(ctx, func(tx store.Tx) error {
		var err error
		f = finder{proof: x.proof}
		if f.s, err = snapshot(tx); err != nil {
			return err
		}
		f.membership(c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the network: %w", err)
	}
	return &f, nil
}

// finder looks for Findings in one picture of the network.
type finder struct {
	s     netmap.Snapshot
	proof Proof
	found []Finding
	names map[string]string
	// known are the LANs of a Site, reported or entered; maps are its Mappings in use.
	known map[string][]netip.Prefix
	maps  map[string][]provisioning.Range
	// reports tells which Sites have a box that has said what it is connected to.
	reports map[string]bool
	members membershipFacts
}

func (f *finder) find() []Finding {
	f.index()
	var pools []netip.Prefix
	for _, r := range f.s.Ranges {
		if r.Kind == provisioning.RangePool {
			pools = append(pools, r.Prefix)
		}
	}
	plan := ipam.NewSet(pools...)
	for _, n := range f.s.Nodes {
		f.node(n, plan)
	}
	for _, r := range f.s.Ranges {
		switch {
		case r.Kind != provisioning.RangeAllocation || r.Owner == "":
		case r.Maps.IsValid():
			f.mapping(r)
		case r.Ending():
			f.ending(r)
		}
	}
	f.services()
	f.held()
	f.memberFindings()
	rank := map[string]int{severityError: 0, severityWarning: 1, severityInfo: 2}
	slices.SortStableFunc(f.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank[a.Severity], rank[b.Severity]), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Site, b.Site),
			a.Prefix.Compare(b.Prefix), a.With.Compare(b.With), cmp.Compare(a.Message, b.Message))
	})
	return f.found
}

func (f *finder) index() {
	f.names, f.known = map[string]string{}, map[string][]netip.Prefix{}
	f.maps, f.reports = map[string][]provisioning.Range{}, map[string]bool{}
	for _, s := range f.s.Sites {
		f.names[string(s.ID)] = s.Name
	}
	for _, n := range f.s.Nodes {
		f.known[string(n.Site)] = append(f.known[string(n.Site)], n.Facts.LANs...)
		f.reports[string(n.Site)] = f.reports[string(n.Site)] || len(n.Facts.LANs) > 0
	}
	for _, r := range f.s.Ranges {
		switch {
		case r.Kind == provisioning.RangeLAN:
			f.known[r.Owner] = append(f.known[r.Owner], r.Prefix)
		case r.Kind == provisioning.RangeAllocation && r.Maps.IsValid() && r.Owner != "":
			f.maps[r.Owner] = append(f.maps[r.Owner], r)
		}
	}
}

func (f *finder) add(x Finding) { f.found = append(f.found, x) }

func (f *finder) pool(p PoolInfo) {
	if p.Usage.Taken < nearlyFull {
		return
	}
	f.add(Finding{
		Code: FindingFull, Severity: severityWarning, Prefix: p.Prefix,
		Message:  fmt.Sprintf("the pool %v is full to %.0f per cent", p.Prefix, 100*p.Usage.Taken),
		Proposal: "towpath plan pool PREFIX",
	})
}

// node finds networks of a box that are in the plan. Enrolment refuses these, so the LAN was renumbered, or the box moved.
func (f *finder) node(n provisioning.Node, plan *ipam.Set) {
	site := f.names[string(n.Site)]
	for _, w := range networksOf(n.Facts) {
		for pool := range plan.Overlapping(w.prefix) {
			f.add(Finding{
				Code: FindingInPool, Severity: severityError, Site: site, Node: n.ID, Prefix: w.prefix, With: pool,
				Message:  fmt.Sprintf("the box of site %s is connected to %s, which overlaps %v of the plan: it cannot reach what has an address in both", site, w, pool),
				Proposal: fmt.Sprintf("at site %s: %s", site, wayOut(w)),
			})
			break
		}
	}
}

func (f *finder) mapping(r provisioning.Range) {
	site := f.names[r.Owner]
	if !f.reports[r.Owner] || covers(f.known[r.Owner], r.Maps) {
		return
	}
	proposal := fmt.Sprintf("towpath plan unmap %s %v", site, r.Maps)
	if next := f.likely(r.Owner, r.Maps.Bits()); next.IsValid() {
		proposal += fmt.Sprintf(" && towpath plan map %s %v", site, next)
	}
	f.add(Finding{
		Code: FindingStale, Severity: severityWarning, Site: site, Prefix: r.Maps, With: r.Prefix,
		Message:  fmt.Sprintf("%v stands for the LAN %v of site %s, which its box is not connected to any more", r.Prefix, r.Maps, site),
		Proposal: proposal,
	})
}

// likely is a LAN of a Site that has no Mapping yet and the given length or a shorter one.
func (f *finder) likely(site string, bits int) netip.Prefix {
	for _, lan := range f.known[site] {
		mapped := slices.ContainsFunc(f.maps[site], func(r provisioning.Range) bool { return r.Maps.Overlaps(lan) })
		if !mapped && lan.Bits() <= bits {
			return netip.PrefixFrom(lan.Addr(), bits)
		}
	}
	return netip.Prefix{}
}

func (f *finder) ending(r provisioning.Range) {
	site := f.names[r.Owner]
	f.add(Finding{
		Code: FindingEnding, Severity: severityInfo, Site: site, Prefix: r.Prefix,
		Message:  fmt.Sprintf("site %s is being renumbered: its old addresses %v work until %s", site, r.Prefix, r.Until.Format(time.DateTime)),
		Proposal: fmt.Sprintf("towpath plan renumber %s --end", site),
	})
}

// held tells of every map that was not proven to be safe.
func (f *finder) held() {
	if f.proof.HeldAll {
		f.add(Finding{
			Code: FindingHeld, Severity: severityError,
			Message:  fmt.Sprintf("generation %d is not proven to be safe: every box keeps the map it has", f.proof.Generation),
			Proposal: "towpath plan prove",
		})
		return
	}
	for _, n := range f.s.Nodes {
		if f.proof.Holds(n.ID) {
			f.add(Finding{
				Code: FindingHeld, Severity: severityError, Site: f.names[string(n.Site)], Node: n.ID,
				Message: fmt.Sprintf("the map of the box of site %s is not proven to be safe in generation %d: it keeps the one it has",
					f.names[string(n.Site)], f.proof.Generation),
				Proposal: "towpath plan prove",
			})
		}
	}
}

// services finds targets that the LANs of their Sites do not explain.
func (f *finder) services() {
	sharers := map[netip.Prefix]map[string]bool{}
	for site, lans := range f.known {
		for _, l := range lans {
			if sharers[l] == nil {
				sharers[l] = map[string]bool{}
			}
			sharers[l][site] = true
		}
	}
	told := map[Finding]bool{}
	for _, v := range f.s.Services {
		target, err := netip.ParseAddrPort(v.Target)
		if err != nil || v.Address.IsValid() || target.Addr().IsLoopback() {
			continue
		}
		f.target(v, target.Addr().Unmap(), sharers, told)
	}
}

func (f *finder) target(v provisioning.Service, target netip.Addr, sharers map[netip.Prefix]map[string]bool, told map[Finding]bool) {
	owner, site := string(v.Site), f.names[string(v.Site)]
	i := slices.IndexFunc(f.known[owner], func(l netip.Prefix) bool { return l.Contains(target) })
	if i < 0 {
		if f.reports[owner] {
			f.add(Finding{
				Code: FindingOffLAN, Severity: severityWarning, Site: site, Prefix: netip.PrefixFrom(target, target.BitLen()),
				Message: fmt.Sprintf("the target %s of service %s is in no LAN of site %s, whose box is connected to %s",
					v.Target, v.Name, site, joinPrefixes(f.known[owner])),
				Proposal: fmt.Sprintf("correct the target, or, if that network is routed there: towpath plan lan %s PREFIX", site),
			})
		}
		return
	}
	lan := f.known[owner][i]
	mapped := slices.ContainsFunc(f.maps[owner], func(r provisioning.Range) bool { return r.Maps.Contains(target) })
	if mapped || len(sharers[lan]) < 2 {
		return
	}
	x := Finding{
		Code: FindingShared, Severity: severityInfo, Site: site, Prefix: lan,
		Message: fmt.Sprintf("site %s offers machines on the LAN %v, which %d other sites have, too: only a mapping gives them addresses of their own",
			site, lan, len(sharers[lan])-1),
		Proposal: fmt.Sprintf("towpath plan map %s %v", site, lan),
	}
	if !told[x] {
		told[x] = true
		f.add(x)
	}
}

// covers reports whether one of the prefixes holds p.
func covers(list []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(list, func(l netip.Prefix) bool { return l.Bits() <= p.Bits() && l.Contains(p.Addr()) })
}
