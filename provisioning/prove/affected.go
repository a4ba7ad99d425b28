package prove

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Affected returns, sorted, the ids of all Nodes whose maps may differ between two inputs, of which it does not look at the maps. Who
// proves one generation after another compiles the maps of these alone, and leaves those of all others as they are known: a Delta is
// Between the inputs without their maps, with the maps of the affected Nodes removed and added.
//
// A map may only differ for a Node of a Site that changed, or that a Grant of either input links with one; for every Node when the hub or a
// pool changed. A Site changes with its own name, kind, endpoint and place of keys, its Nodes, Services and allocations, and with those of others that
// claim the same name, key or address; a relay that is not in service, which nobody but the hub knows, changes alone. One in service is in
// many maps, and its own changes with any. The cost is that of comparing the inputs and of one look at each Grant.
func Affected(a, b Input) []string {
	a.Maps, b.Maps = nil, nil
	d := Between(a, b)
	all := (a.Hub == nil) != (b.Hub == nil) || d.Add.Hub != nil
	for _, e := range slices.Concat(d.Remove.Plan.Entries, d.Add.Plan.Entries) {
		all = all || e.Kind == plandoc.Pool
	}
	out := map[string]bool{}
	take := func(n Node, affected bool) {
		if affected {
			out[n.ID] = true
		}
	}
	var sites, relays map[string]bool
	if !all {
		sites, relays = affectedSites(a, b, d)
		all = relaysDiffer(a, b, relays)
	}
	serving := servingRelays(b)
	changes := len(sites) > 0
	for _, n := range slices.Concat(b.Nodes, d.Remove.Nodes) {
		_, serves := serving[n.ID]
		take(n, all || sites[n.Site] || relays[n.ID] || changes && serves)
	}
	return slices.Sorted(maps.Keys(out))
}

// touch is what changed between two inputs.
type touch struct {
	// sites changed, with all that is linked to them; direct are the sites of grants that changed, each for the other alone.
	sites, direct map[string]bool
	// relays are ids.
	relays    map[string]bool
	keys      map[wgkey.PublicKey]bool
	services  map[string]bool
	ranges    []netip.Prefix
	addresses []netip.Prefix
}

func affectedSites(a, b Input, d Delta) (sites, relays map[string]bool) {
	t := touch{
		sites: map[string]bool{}, direct: map[string]bool{}, relays: map[string]bool{}, keys: map[wgkey.PublicKey]bool{}, services: map[string]bool{},
	}
	t.changed(d.Remove)
	t.changed(d.Add)
	// Whatever is in a is in b or was removed.
	union := Input{
		Plan:  plandoc.Document{Entries: slices.Concat(b.Plan.Entries, d.Remove.Plan.Entries)},
		Nodes: slices.Concat(b.Nodes, d.Remove.Nodes), Services: slices.Concat(b.Services, d.Remove.Services),
		Grants: slices.Concat(b.Grants, d.Remove.Grants),
	}
	t.rivals(union)
	owners := newOwners(union.Services)
	t.grants(slices.Concat(d.Remove.Grants, d.Add.Grants), owners)

	out := maps.Clone(t.sites)
	maps.Copy(out, t.direct)
	users := maps.Clone(out)
	for _, g := range union.Grants {
		for owner := range owners.of(g.Service) {
			if t.sites[owner] || t.sites[g.Site] {
				out[owner], out[g.Site], users[g.Site] = true, true, true
			}
		}
	}
	// Where two grants have the same way in, whether one works depends on the other.
	disputed := disputes(a, users)
	maps.Copy(disputed, disputes(b, users))
	for _, g := range union.Grants {
		if disputed[g.Site] {
			for owner := range owners.of(g.Service) {
				out[owner] = true
			}
		}
	}
	return out, t.relays
}

// changed notes what is in one half of a Delta.
func (t *touch) changed(in Input) {
	for _, e := range in.Plan.Entries {
		if e.Kind == plandoc.Allocation && e.Owner != "" {
			t.sites[e.Owner] = true
			t.ranges = append(t.ranges, e.Prefix)
		}
	}
	for _, s := range in.Sites {
		t.sites[s.Name] = true
	}
	for _, n := range in.Nodes {
		t.node(n)
		t.keys[n.PublicKey] = true
		if !n.NextKey.IsZero() {
			t.keys[n.NextKey] = true
		}
		t.addresses = append(t.addresses, n.own()...)
	}
	for _, v := range in.Services {
		t.sites[v.Site], t.services[v.Name] = true, true
		t.addresses = append(t.addresses, hosts(v.Address)...)
	}
}

func (t *touch) node(n Node) {
	if n.Kind == wire.Relay {
		t.relays[n.ID] = true
	} else {
		t.sites[n.Site] = true
	}
}

// rivals notes the sites that have something in common with what changed.
func (t *touch) rivals(in Input) {
	ranges, addresses := ipam.NewSet(t.ranges...), ipam.NewSet(t.addresses...)
	moved := make(map[netip.Prefix]bool, len(t.addresses))
	for _, q := range t.addresses {
		moved[q] = true
	}
	for _, e := range in.Plan.Entries {
		if e.Kind == plandoc.Allocation && e.Owner != "" && (ranges.Overlaps(e.Prefix) || e.Purpose == plandoc.Mapped && addresses.Overlaps(e.Prefix)) {
			t.sites[e.Owner] = true
		}
	}
	for _, n := range in.Nodes {
		if t.keys[n.PublicKey] || t.keys[n.NextKey] || moved[host(n.Address)] || n.Former.IsValid() && moved[host(n.Former)] {
			t.node(n)
		}
	}
	for _, v := range in.Services {
		if t.services[v.Name] || v.Address.IsValid() && moved[host(v.Address)] {
			t.sites[v.Site] = true
		}
	}
}

// grants notes the two sites of each.
func (t *touch) grants(changed []Grant, owners owners) {
	for _, g := range changed {
		t.direct[g.Site] = true
		for owner := range owners.of(g.Service) {
			t.direct[owner] = true
		}
	}
}

// owners are the sites of services by name, of which there should be one for each.
type owners struct {
	first map[string]string
	more  map[string][]string
}

func newOwners(services []Service) owners {
	o := owners{first: make(map[string]string, len(services)), more: map[string][]string{}}
	for _, v := range services {
		if other, ok := o.first[v.Name]; !ok {
			o.first[v.Name] = v.Site
		} else if other != v.Site {
			o.more[v.Name] = append(o.more[v.Name], v.Site)
		}
	}
	return o
}

func (o owners) of(service string) func(func(string) bool) {
	return func(yield func(string) bool) {
		if first, ok := o.first[service]; !ok || !yield(first) {
			return
		}
		for _, site := range o.more[service] {
			if !yield(site) {
				return
			}
		}
	}
}

// disputes are those of the sites on whose LAN two grants have the same way in.
func disputes(in Input, sites map[string]bool) map[string]bool {
	out := map[string]bool{}
	if len(sites) == 0 {
		return out
	}
	services := make(map[string][]Service, len(in.Services))
	for _, v := range in.Services {
		services[v.Name] = append(services[v.Name], v)
	}
	ways := map[string]doors{}
	for _, g := range in.Grants {
		if !sites[g.Site] {
			continue
		}
		if _, ok := ways[g.Site]; !ok {
			ways[g.Site] = newDoors()
		}
		for _, v := range services[g.Service] {
			use := wire.Use{Service: v.Name, Protocol: v.Protocol, LANPort: g.LANPort, AETitle: v.AETitle, Receiver: v.Receiver, HL7: v.HL7}
			if _, taken := ways[g.Site].enter(use); taken {
				out[g.Site] = true
			}
		}
	}
	return out
}
