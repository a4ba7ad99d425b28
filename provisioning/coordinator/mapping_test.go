package coordinator_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

const fritzbox = "192.168.178.0/24"

// twins is a network with a center and two clinics with boxes on the same LAN, each of which offers the same machine to the center.
func twins(t *testing.T) (n *provisioningtest.Network, boxes map[string]*provisioningtest.Node) {
	t.Helper()
	n = newNetwork(t, provisioningtest.Options{})
	n.Center(t, "center", "192.0.2.9:51820")
	boxes = map[string]*provisioningtest.Node{"center": n.Node(t, "center")}
	for _, name := range []string{"nord", "sued"} {
		n.Clinic(t, name)
		box := n.Box(t)
		if err := box.Enroll(t.Context(), n.Token(t, name), wire.Facts{LANs: []netip.Prefix{prefix(fritzbox)}}); err != nil {
			t.Fatal(err)
		}
		boxes[name] = box
		if _, err := n.CreateService(t.Context(), "test", coordinator.NewService{
			Site: name, Name: name + "-pacs", Protocol: wire.DICOM, AETitle: strings.ToUpper(name), Target: "192.168.178.20:104", Mode: wire.PassThrough,
		}); err != nil {
			t.Fatal(err)
		}
		n.Grant(t, name+"-pacs", "center")
	}
	return n, boxes
}

// mapOf is the map that a Node would get now.
func mapOf(t *testing.T, n *provisioningtest.Network, b *provisioningtest.Node) wire.NetMap {
	t.Helper()
	_, m, err := n.NetMapFor(context.Background(), provisioning.NodeID(b.Map().Self.Node))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTwoClinicsWithOneLAN(t *testing.T) {
	n, boxes := twins(t)
	ctx := t.Context()
	mapped := map[string]netip.Prefix{}
	for _, name := range []string{"nord", "sued"} {
		r, err := n.Map(ctx, "test", coordinator.NewMapping{Site: name, LAN: prefix(fritzbox)})
		if err != nil {
			t.Fatal(err)
		}
		if r.Purpose != provisioning.PurposeMapped || r.Maps != prefix(fritzbox) || r.Prefix.Bits() != 24 || r.OwnerName != name {
			t.Errorf("the mapping of %s is %+v", name, r)
		}
		mapped[name] = r.Prefix
	}
	if mapped["nord"].Overlaps(mapped["sued"]) {
		t.Fatalf("both got %v", mapped)
	}
	center := mapOf(t, n, boxes["center"])
	for name, p := range mapped {
		device := netip.AddrPortFrom(netip.AddrFrom4([4]byte{p.Addr().As4()[0], p.Addr().As4()[1], p.Addr().As4()[2], 20}), 104)
		use := slices.IndexFunc(center.Uses, func(u wire.Use) bool { return u.Site == name })
		if use < 0 || center.Uses[use].Address != device {
			t.Errorf("the center finds the machine of %s at %+v, want %v", name, center.Uses, device)
		}
		peer := slices.IndexFunc(center.Peers, func(q wire.Peer) bool { return q.Site == name })
		if peer < 0 || !slices.Contains(center.Peers[peer].AllowedIPs, p) {
			t.Errorf("the center's peer of %s does not have %v: %+v", name, p, center.Peers)
		}
		own := mapOf(t, n, boxes[name])
		if len(own.Offers) != 1 || !slices.Contains(own.Offers[0].Also, device) {
			t.Errorf("the box of %s offers %+v, want it at %v", name, own.Offers, device)
		}
		if len(own.Peers) != 1 || own.Peers[0].Site != "center" {
			t.Errorf("the box of %s has peers %+v", name, own.Peers)
		}
	}
	proof, err := n.Proof(ctx)
	if err != nil || proof.Certificate == nil {
		t.Errorf("the network with mappings is not proven: %+v (%v)", proof, err)
	}
	plan, err := n.SitePlan(ctx, "nord")
	if err != nil || len(plan.Mappings) != 1 || !strings.HasPrefix(plan.Mappings[0].String(), fritzbox+" appears as "+mapped["nord"].String()) {
		t.Errorf("the plan of the site explains %+v (%v)", plan.Mappings, err)
	}

	wantCode(t, reason(n.Map(ctx, "test", coordinator.NewMapping{Site: "nord", LAN: prefix("192.168.178.0/25")})), provisioning.Conflict, "already", "unmap")
	r, err := n.Unmap(ctx, "test", "nord", fritzbox)
	if err != nil || r.Prefix != mapped["nord"] || !r.Quarantined() {
		t.Errorf("the ended mapping is %+v (%v)", r, err)
	}
	center = mapOf(t, n, boxes["center"])
	for _, u := range center.Uses {
		if mapped["nord"].Contains(u.Address.Addr()) {
			t.Errorf("after the end of the mapping the center still goes to %v", u.Address)
		}
	}
	wantCode(t, reason(n.Unmap(ctx, "test", "nord", fritzbox)), provisioning.NotFound, "no mapping")
	again, err := n.Map(ctx, "test", coordinator.NewMapping{Site: "nord", LAN: prefix(fritzbox)})
	if err != nil || again.Prefix == mapped["nord"] {
		t.Errorf("mapped again to %v, which is quarantined (%v)", again.Prefix, err)
	}
}

func TestMappingsRefused(t *testing.T) {
	n, _ := twins(t)
	try := func(m coordinator.NewMapping) error { return reason(n.Map(t.Context(), "test", m)) }
	for name, c := range map[string]struct {
		m     coordinator.NewMapping
		code  provisioning.Code
		words []string
	}{
		"no site":         {coordinator.NewMapping{Site: "west", LAN: prefix(fritzbox)}, provisioning.NotFound, []string{"west"}},
		"no prefix":       {coordinator.NewMapping{Site: "nord"}, provisioning.Invalid, nil},
		"not its LAN":     {coordinator.NewMapping{Site: "nord", LAN: prefix("192.168.1.0/24")}, provisioning.Conflict, []string{fritzbox, "plan lan nord"}},
		"wider":           {coordinator.NewMapping{Site: "nord", LAN: prefix("192.168.178.0/23")}, provisioning.Conflict, []string{fritzbox}},
		"the plan itself": {coordinator.NewMapping{Site: "nord", LAN: prefix("10.201.4.0/24")}, provisioning.Invalid, []string{"10.201.0.0/16"}},
		"other length": {
			coordinator.NewMapping{Site: "nord", LAN: prefix(fritzbox), To: prefix("10.201.8.0/25")}, provisioning.Invalid, []string{"/24"},
		},
		"outside": {coordinator.NewMapping{Site: "nord", LAN: prefix(fritzbox), To: prefix("10.55.8.0/24")}, provisioning.Invalid, []string{"pool"}},
		"taken":   {coordinator.NewMapping{Site: "nord", LAN: prefix(fritzbox), To: prefix("10.201.0.0/24")}, provisioning.Conflict, []string{"overlaps"}},
		"no pool": {coordinator.NewMapping{Site: "nord", LAN: prefix(fritzbox), Pool: "berlin"}, provisioning.NotFound, []string{"berlin"}},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, try(c.m), c.code, c.words...) })
	}
	if _, err := n.Map(t.Context(), "test", coordinator.NewMapping{Site: "nord", LAN: prefix("192.168.178.16/28"), To: prefix("10.201.9.16/28")}); err != nil {
		t.Errorf("a part of the LAN, to a certain range: %v", err)
	}
}

func TestReportedNetworksAreInThePlan(t *testing.T) {
	n, boxes := twins(t)
	ctx := t.Context()
	reported := func() (out []string) {
		t.Helper()
		plan, err := n.Plan(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range plan.Ranges {
			if r.Kind == provisioning.RangeReported {
				out = append(out, r.OwnerName+" "+string(r.Purpose)+" "+r.Prefix.String())
			}
		}
		slices.Sort(out)
		return out
	}
	tell := func(name string, f wire.Facts) {
		t.Helper()
		if err := boxes[name].Report(ctx, wire.Report{Facts: f}); err != nil {
			t.Fatal(err)
		}
	}
	tell("nord", wire.Facts{
		LANs: []netip.Prefix{prefix(fritzbox), prefix("10.201.99.0/24")}, WANs: []netip.Prefix{prefix("100.70.0.0/16"), prefix("10.0.0.0/7")},
		Containers: []netip.Prefix{prefix("172.17.0.0/16")},
	})
	want := []string{
		"nord container 172.17.0.0/16", "nord lan " + fritzbox, "nord wan 100.70.0.0/16", "sued lan " + fritzbox,
	}
	if got := reported(); !slices.Equal(got, want) {
		t.Errorf("in the plan are %q, want %q", got, want)
	}
	wantCode(t, reason(n.AddRange(ctx, "test", coordinator.NewRange{Kind: provisioning.RangePool, Prefix: prefix("100.70.0.0/15"), Force: true})),
		provisioning.Conflict, "nord", "100.70.0.0/16")
	tell("nord", wire.Facts{LANs: []netip.Prefix{prefix("192.168.1.0/24")}})
	if got, want := reported(), []string{"nord lan 192.168.1.0/24", "sued lan " + fritzbox}; !slices.Equal(got, want) {
		t.Errorf("after the LAN was renumbered the plan has %q, want %q", got, want)
	}
	n.Remove(t, provisioning.NodeID(boxes["nord"].Map().Self.Node))
	if got, want := reported(), []string{"sued lan " + fritzbox}; !slices.Equal(got, want) {
		t.Errorf("after the box was removed the plan has %q, want %q", got, want)
	}
}

func TestFindings(t *testing.T) {
	n, boxes := twins(t)
	ctx := t.Context()
	find := func(code string) (out []coordinator.Finding) {
		t.Helper()
		all, err := n.Findings(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.Proposal == "" || f.Message == "" {
				t.Errorf("%+v says nothing", f)
			}
			if f.Code == code {
				out = append(out, f)
			}
		}
		return out
	}
	tell := func(name string, lans ...string) {
		t.Helper()
		var f wire.Facts
		for _, l := range lans {
			f.LANs = append(f.LANs, prefix(l))
		}
		if err := boxes[name].Report(ctx, wire.Report{Facts: f}); err != nil {
			t.Fatal(err)
		}
	}
	if got := find(coordinator.FindingShared); len(got) != 2 || got[0].Proposal != "towpath plan map nord "+fritzbox {
		t.Errorf("of the shared LAN there is %+v", got)
	}
	if _, err := n.Map(ctx, "test", coordinator.NewMapping{Site: "nord", LAN: prefix(fritzbox)}); err != nil {
		t.Fatal(err)
	}
	if got := find(coordinator.FindingShared); len(got) != 1 || got[0].Site != "sued" {
		t.Errorf("with one mapping of two there is %+v", got)
	}
	tell("nord", "192.168.1.0/24")
	if got := find(coordinator.FindingStale); len(got) != 1 || got[0].Site != "nord" || got[0].Prefix != prefix(fritzbox) ||
		!strings.Contains(got[0].Proposal, "unmap nord "+fritzbox) || !strings.Contains(got[0].Proposal, "map nord 192.168.1.0/24") {
		t.Errorf("of the renumbered LAN there is %+v", got)
	}
	if got := find(coordinator.FindingOffLAN); len(got) != 1 || got[0].Site != "nord" || !strings.Contains(got[0].Message, "192.168.178.20:104") {
		t.Errorf("of the lost target there is %+v", got)
	}
	id := provisioning.NodeID(boxes["nord"].Map().Self.Node)
	codes := func() (out []string) {
		for _, c := range nodeInfo(t, n, id).Conditions {
			out = append(out, c.Code)
			if c.Since.IsZero() {
				t.Errorf("%+v is since never", c)
			}
		}
		return out
	}
	if got, want := codes(), []string{coordinator.FindingStale, coordinator.FindingOffLAN}; !slices.Equal(got, want) {
		t.Errorf("the node has the conditions %q, want %q", got, want)
	}
	if _, err := n.AddRange(ctx, "test", coordinator.NewRange{Kind: provisioning.RangeLAN, Site: "nord", Prefix: prefix(fritzbox)}); err != nil {
		t.Fatal(err)
	}
	if got := codes(); len(got) != 0 {
		t.Errorf("with the LAN entered by hand the node has the conditions %q", got)
	}
	tell("nord", "10.201.0.0/24")
	got := find(coordinator.FindingInPool)
	if len(got) != 1 || got[0].Severity != "error" || got[0].With != prefix("10.201.0.0/16") || got[0].Node != id {
		t.Errorf("of the LAN in the pool there is %+v", got)
	}
}

func TestFixedAddresses(t *testing.T) {
	n, _ := twins(t)
	ctx := t.Context()
	site := n.Site(t, coordinator.NewSite{Name: "west", Kind: wire.Clinic, Prefix: prefix("10.201.40.0/28")})
	fixed := netip.MustParseAddr("10.201.40.9")
	for name, bad := range map[string]string{"network": "10.201.40.0", "broadcast": "10.201.40.15", "elsewhere": "10.201.41.1", "other family": "fd00::1"} {
		_, _, err := n.CreateToken(ctx, "test", coordinator.NewToken{Site: site.Name, Address: netip.MustParseAddr(bad)})
		t.Run(name, func(t *testing.T) { wantCode(t, err, provisioning.Invalid, "10.201.40.0/28") })
	}
	_, token, err := n.CreateToken(ctx, "test", coordinator.NewToken{Site: site.Name, Address: fixed})
	if err != nil {
		t.Fatal(err)
	}
	box := n.Box(t)
	if err := box.Enroll(ctx, token, wire.Facts{}); err != nil {
		t.Fatal(err)
	}
	if got := box.Map().Self.Address; got != fixed {
		t.Errorf("the box has %v, want %v", got, fixed)
	}

	service := func(name string, want netip.Addr) (coordinator.ServiceInfo, error) {
		return n.CreateService(ctx, "test", coordinator.NewService{
			Site: "west", Name: name, Protocol: wire.DICOM, AETitle: "X", Target: "192.168.0.4:104", FixedAddress: true, Address: want,
		})
	}
	wantCode(t, reason(service("none", netip.Addr{})), provisioning.Conflict, "--purpose services")
	if _, err := n.Allocate(ctx, "test", coordinator.NewAllocation{
		Site: "west", Purpose: provisioning.PurposeServices, Prefix: prefix("10.201.50.0/29"),
	}); err != nil {
		t.Fatal(err)
	}
	first, err := service("first", netip.Addr{})
	if err != nil || first.Address != netip.MustParseAddr("10.201.50.1") {
		t.Errorf("the first service is at %v (%v)", first.Address, err)
	}
	wantCode(t, reason(service("same", first.Address)), provisioning.Conflict, "taken")
	wantCode(t, reason(service("outside", fixed)), provisioning.Conflict, "taken")
	n.Grant(t, "first", "center")
	own := mapOf(t, n, box)
	if place := netip.AddrPortFrom(first.Address, first.Port); len(own.Offers) != 1 || !slices.Contains(own.Offers[0].Also, place) {
		t.Errorf("the box offers %+v, want it at %v, too", own.Offers, place)
	}
	services, err := n.Services(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(services, func(s coordinator.ServiceInfo) bool { return s.Name == "first" })
	if services[i].At != netip.AddrPortFrom(first.Address, first.Port) {
		t.Errorf("the service is said to be at %v", services[i].At)
	}
}

func TestFullPoolsAreFindings(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{Init: coordinator.InitOptions{Pools: []netip.Prefix{prefix("10.201.0.0/26")}}})
	full := func() (out []netip.Prefix) {
		t.Helper()
		all, err := n.Findings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.Code == coordinator.FindingFull {
				out = append(out, f.Prefix)
			}
		}
		return out
	}
	if _, err := n.AddRange(t.Context(), "test", coordinator.NewRange{Kind: provisioning.RangePool, Prefix: prefix("10.201.0.32/27")}); err != nil {
		t.Fatal(err)
	}
	n.Site(t, coordinator.NewSite{Name: "a", Kind: wire.Clinic, Prefix: prefix("10.201.0.16/28")})
	if got := full(); len(got) != 0 {
		t.Errorf("a pool that is all given out, with room in the narrower one, counts as full: %v", got)
	}
	n.Site(t, coordinator.NewSite{Name: "b", Kind: wire.Clinic, Prefix: prefix("10.201.0.32/27")})
	if got := full(); !slices.Equal(got, []netip.Prefix{prefix("10.201.0.32/27")}) {
		t.Errorf("full are %v", got)
	}
}
