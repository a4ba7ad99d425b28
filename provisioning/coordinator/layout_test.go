package coordinator_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

func poolsOf(l coordinator.Layout) []string {
	var out []string
	for _, p := range l.Pools {
		out = append(out, p.Prefix.String()+" "+p.Label)
	}
	return out
}

func TestLayOut(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{Init: coordinator.InitOptions{Pools: []netip.Prefix{prefix("10.2.0.0/24")}}})
	ctx := t.Context()
	n.Site(t, coordinator.NewSite{Name: "nord", Kind: wire.Clinic, LAN: prefix("10.3.4.0/24")})
	n.Clinic(t, "sued")
	box := n.Box(t)
	if err := box.Enroll(ctx, n.Token(t, "sued"), wire.Facts{WANs: []netip.Prefix{prefix("10.4.0.0/16")}}); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, n, provisioning.RangeForeign, "10.5.0.0/16", "")
	before := version(t, n)
	ask := coordinator.LayoutRequest{Sites: 2000, Hosts: 14, Regions: []string{"north", "east", "south"}, DryRun: true}
	dry, err := n.LayOut(ctx, "test", ask)
	if err != nil {
		t.Fatal(err)
	}
	// Twice 2000 /28 are a /16. What is left of 10.2/16 and 10.3/16 has no room, 10.6/15 does, and 10.9/16, between two habits, is a
	// better fit.
	want := []string{"10.9.0.0/16 ", "10.9.0.0/18 north", "10.9.64.0/18 east", "10.9.128.0/18 south"}
	if got := poolsOf(dry); !slices.Equal(got, want) || dry.Capacity != 4096 || dry.Done {
		t.Errorf("the dry run has %q for %d sites, want %q", got, dry.Capacity, want)
	}
	if after := version(t, n); after != before {
		t.Errorf("the dry run changed something: %v to %v", before, after)
	}
	ask.DryRun = false
	done, err := n.LayOut(ctx, "test", ask)
	if err != nil || !done.Done || !slices.Equal(poolsOf(done), want) {
		t.Fatalf("it is %+v (%v)", done, err)
	}
	if e := lastEvent(t, n); e.Action != "plan.layout" || e.Detail != "pools 10.9.0.0/16, 10.9.0.0/18, 10.9.64.0/18, 10.9.128.0/18" {
		t.Errorf("the trail says %+v", e)
	}
	if s, err := n.CreateSite(ctx, "test", coordinator.NewSite{Name: "ost", Kind: wire.Clinic, Pool: "east"}); err != nil || s.Prefixes[0] != prefix("10.9.64.0/28") {
		t.Errorf("the first site of a region has %v (%v)", s.Prefixes, err)
	}
	again, err := n.LayOut(ctx, "test", coordinator.LayoutRequest{Pools: []netip.Prefix{prefix("10.9.0.0/16")}, Regions: ask.Regions, DryRun: true})
	if err != nil || !slices.Equal(poolsOf(again), want) || again.Pools[0].ID == 0 || again.Capacity != 4095 {
		t.Errorf("what is there already: %+v (%v)", again, err)
	}
}

func TestLayOutInPieces(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{Init: coordinator.InitOptions{Pools: []netip.Prefix{prefix("10.2.0.0/24")}}})
	for _, p := range []string{"10.64.0.0/10", "10.128.0.0/11", "10.192.0.0/11"} {
		mustAdd(t, n, provisioning.RangeForeign, p, "")
	}
	got, err := n.LayOut(t.Context(), "test", coordinator.LayoutRequest{Sites: 50_000, Hosts: 14, Regions: []string{"a", "b"}})
	want := []string{"10.160.0.0/11 ", "10.160.0.0/12 a", "10.176.0.0/12 b"}
	if err != nil || !slices.Equal(poolsOf(got), want) {
		t.Errorf("for 50,000 sites: %q (%v), want %q", poolsOf(got), err, want)
	}
	got, err = n.LayOut(t.Context(), "test", coordinator.LayoutRequest{Sites: 50_000, Hosts: 14, Regions: []string{"c", "d"}})
	want = []string{"10.16.0.0/12 ", "10.16.0.0/13 c", "10.24.0.0/13 d", "10.48.0.0/12 ", "10.48.0.0/13 c-2", "10.56.0.0/13 d-2"}
	if err != nil || !slices.Equal(poolsOf(got), want) || got.Capacity != 131072 {
		t.Errorf("where no room is as large: %q for %d (%v), want %q", poolsOf(got), got.Capacity, err, want)
	}
	for name, tc := range map[string]struct {
		r     coordinator.LayoutRequest
		code  provisioning.Code
		words []string
	}{
		"nothing":         {coordinator.LayoutRequest{}, provisioning.Invalid, []string{"how many sites"}},
		"negative":        {coordinator.LayoutRequest{Sites: -1}, provisioning.Invalid, nil},
		"too many sites":  {coordinator.LayoutRequest{Sites: 1_000_001}, provisioning.Invalid, []string{"1000000"}},
		"too large":       {coordinator.LayoutRequest{Sites: 1_000_000, Hosts: 1000}, provisioning.Conflict, []string{"10.0.0.0/8", "twice 1000000 sites"}},
		"hosts":           {coordinator.LayoutRequest{Sites: 1, Hosts: -1}, provisioning.Invalid, nil},
		"regions only":    {coordinator.LayoutRequest{Regions: []string{"x"}, ULA: true}, provisioning.Invalid, []string{"regions"}},
		"region twice":    {coordinator.LayoutRequest{Sites: 1, Regions: []string{"x", "x"}}, provisioning.Invalid, []string{"twice"}},
		"region no name":  {coordinator.LayoutRequest{Sites: 1, Regions: []string{""}}, provisioning.Invalid, []string{"no name"}},
		"region bad name": {coordinator.LayoutRequest{Sites: 1, Regions: []string{"Süd"}}, provisioning.Invalid, []string{"sued"}},
		"region taken":    {coordinator.LayoutRequest{Sites: 1, Regions: []string{"a"}}, provisioning.Conflict, []string{"10.160.0.0/12 (pool)"}},
		"bad pool":        {coordinator.LayoutRequest{Pools: []netip.Prefix{prefix("192.168.0.0/16")}}, provisioning.Conflict, []string{"force"}},
		"small pool":      {coordinator.LayoutRequest{Pools: []netip.Prefix{prefix("10.4.0.0/31")}, Regions: []string{"x", "y", "z"}}, provisioning.Invalid, []string{"no room for 3 regions"}},
	} {
		err := reason(n.LayOut(t.Context(), "test", tc.r))
		t.Run(name, func(t *testing.T) { wantCode(t, err, tc.code, tc.words...) })
	}
}

func TestLayOutDrawsAPoolOfIPv6(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	got, err := n.LayOut(t.Context(), "test", coordinator.LayoutRequest{ULA: true})
	if err != nil || len(got.Pools) != 1 || !got.Done {
		t.Fatalf("it is %+v (%v)", got, err)
	}
	if err := ipam.CheckPool(got.Pools[0].Prefix, false); err != nil || got.Pools[0].Prefix.Bits() != 48 {
		t.Errorf("the pool is %v (%v)", got.Pools[0].Prefix, err)
	}
	mustAdd(t, n, provisioning.RangeForeign, "fc00::/7", "")
	wantCode(t, reason(n.LayOut(t.Context(), "test", coordinator.LayoutRequest{ULA: true})), provisioning.Conflict, "fc00::/7")
}
