package netmap_test

import (
	"net/netip"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// TestAChangeThatBreaksSomethingIsNotFollowed breaks a sound network in each way that a single row can, which random changes seldom do.
func TestAChangeThatBreaksSomethingIsNotFollowed(t *testing.T) {
	alloc := func(id int64, owner, prefix string) provisioning.Range {
		return provisioning.Range{ID: id, Kind: provisioning.RangeAllocation, Owner: owner, Prefix: netip.MustParsePrefix(prefix)}
	}
	box := func(id provisioning.NodeID, site provisioning.SiteID, key byte, at string) provisioning.Node {
		return provisioning.Node{ID: id, Site: site, Kind: wire.Gateway, PublicKey: wgkey.PublicKey{key}, Address: addr(at)}
	}
	offer := func(id provisioning.ServiceID, title string, port uint16) provisioning.Service {
		return provisioning.Service{ID: id, Site: "lab", Name: string(id), Protocol: wire.DICOM, AETitle: title, Mode: wire.Queued, Target: "t:1", Port: port}
	}
	far := box("n2", "nord", 2, "10.0.2.1")
	far.Former, far.Rotate, far.NextKey = addr("10.0.2.2"), wire.RotateWait, wgkey.PublicKey{9}
	s := netmap.Snapshot{
		Network: "net", Generation: 1, Hub: wire.Hub{PublicKey: wgkey.PublicKey{255}, Address: addr("10.0.0.1")},
		Sites:    []provisioning.Site{{ID: "lab", Name: "lab", Kind: wire.Center}, {ID: "nord", Name: "nord", Kind: wire.Clinic}},
		Nodes:    []provisioning.Node{box("n1", "lab", 1, "10.0.1.1"), far},
		Services: []provisioning.Service{offer("a", "A", 100), offer("b", "B", 101)},
		Grants:   []provisioning.Grant{{Service: "a", Site: "nord", LANPort: 1}, {Service: "b", Site: "nord", LANPort: 1}},
		Ranges: []provisioning.Range{
			{ID: 1, Kind: provisioning.RangePool, Prefix: netip.MustParsePrefix("10.0.0.0/16")}, alloc(2, "lab", "10.0.1.0/28"), alloc(3, "nord", "10.0.2.0/28"),
		},
	}
	x := netmap.NewIndex(s)
	if !x.Sound() {
		t.Fatal(x.Omissions())
	}
	node := func(edit func(*provisioning.Node)) func(netmap.Change) {
		return func(c netmap.Change) { n := s.Nodes[0]; edit(&n); c.Nodes[n.ID] = &n }
	}
	service := func(edit func(*provisioning.Service)) func(netmap.Change) {
		return func(c netmap.Change) { v := s.Services[1]; edit(&v); c.Services[v.ID] = &v }
	}
	space := func(r provisioning.Range) func(netmap.Change) { return func(c netmap.Change) { c.Ranges[r.ID] = &r } }
	mapped := alloc(4, "lab", "10.0.3.0/28")
	mapped.Purpose, mapped.Maps = provisioning.PurposeMapped, netip.MustParsePrefix("192.168.1.0/28")
	stray, onHub := mapped, mapped
	stray.Owner, onHub.Prefix = "nobody", netip.MustParsePrefix("10.0.0.0/28")
	for what, edit := range map[string]func(netmap.Change){
		"two services with one way in":    service(func(v *provisioning.Service) { v.AETitle = "A" }),
		"two services at one port":        service(func(v *provisioning.Service) { v.Port = 100 }),
		"two services with one name":      service(func(v *provisioning.Service) { v.Name = "a" }),
		"a service at a node's address":   service(func(v *provisioning.Service) { v.Address = addr("10.0.1.1") }),
		"a service at another's address":  service(func(v *provisioning.Service) { v.Address = addr("10.0.2.3") }),
		"a service without target":        service(func(v *provisioning.Service) { v.Target = "" }),
		"a service goes, its grant stays": func(c netmap.Change) { c.Services["b"] = nil },
		"another's key":                   node(func(n *provisioning.Node) { n.PublicKey = wgkey.PublicKey{2} }),
		"another's next key":              node(func(n *provisioning.Node) { n.PublicKey = wgkey.PublicKey{9} }),
		"the hub's key":                   node(func(n *provisioning.Node) { n.PublicKey = wgkey.PublicKey{255} }),
		"no key":                          node(func(n *provisioning.Node) { n.PublicKey = wgkey.PublicKey{} }),
		"the same next key":               node(func(n *provisioning.Node) { n.Rotate, n.NextKey = wire.RotateWait, wgkey.PublicKey{9} }),
		"another's key as the next":       node(func(n *provisioning.Node) { n.Rotate, n.NextKey = wire.RotateWait, wgkey.PublicKey{2} }),
		"the hub's key as the next":       node(func(n *provisioning.Node) { n.Rotate, n.NextKey = wire.RotateWait, wgkey.PublicKey{255} }),
		"a next key too early":            node(func(n *provisioning.Node) { n.NextKey = wgkey.PublicKey{8} }),
		"another's address":               node(func(n *provisioning.Node) { n.Address = addr("10.0.2.1") }),
		"another's former address":        node(func(n *provisioning.Node) { n.Address = addr("10.0.2.2") }),
		"an address of another site":      node(func(n *provisioning.Node) { n.Address = addr("10.0.2.3") }),
		"a former address elsewhere":      node(func(n *provisioning.Node) { n.Former = addr("10.0.2.3") }),
		"no such kind":                    node(func(n *provisioning.Node) { n.Kind = "printer" }),
		"no such site":                    node(func(n *provisioning.Node) { n.Site = "x" }),
		"room for a former address goes":  space(alloc(3, "nord", "10.0.2.0/31")),
		"room for nothing":                space(alloc(3, "nord", "10.0.9.0/28")),
		"what is not a prefix":            space(provisioning.Range{ID: 3, Kind: provisioning.RangeAllocation, Owner: "nord", Prefix: netip.MustParsePrefix("10.0.2.1/28")}),
		"mapped for nobody":               space(stray),
		"mapped over the hub":             space(onHub),
		"a site goes, all else stays":     func(c netmap.Change) { c.Sites["nord"] = nil },
		"the center is a clinic now": func(c netmap.Change) {
			c.Sites["lab"] = &provisioning.Site{ID: "lab", Name: "lab", Kind: wire.Clinic}
		},
		"a grant without port": func(c netmap.Change) {
			c.Grants[netmap.GrantID{Service: "b", Site: "nord"}] = &provisioning.Grant{Service: "b", Site: "nord"}
		},
	} {
		t.Run(what, func(t *testing.T) {
			c := newChange(2)
			edit(c)
			want := netmap.NewIndex(s.With(c))
			if want.Sound() {
				t.Fatal("it breaks nothing")
			}
			if x.Follow(c) {
				t.Error("it is followed")
			}
			sameIndex(t, x.Change(c), want)
		})
	}
}
