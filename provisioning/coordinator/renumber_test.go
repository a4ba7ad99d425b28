package coordinator_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

// moving is a network with a center and a clinic that offers a service of its box, with the last host number of its range.
func moving(t *testing.T, now func() time.Time) (*provisioningtest.Network, *provisioningtest.Node) {
	t.Helper()
	n := newNetwork(t, provisioningtest.Options{Now: now})
	n.Center(t, "lab", "192.0.2.1:51820") // 10.201.0.16/28
	n.Clinic(t, "nord")                   // 10.201.0.32/28
	_, token, err := n.CreateToken(context.Background(), "test", coordinator.NewToken{Site: "nord", Address: netip.MustParseAddr("10.201.0.46")})
	if err != nil {
		t.Fatal(err)
	}
	n.Node(t, "lab")
	box := n.Box(t)
	if err := box.Enroll(context.Background(), token, wire.Facts{Hostname: "nord-box"}); err != nil {
		t.Fatal(err)
	}
	n.DICOM(t, "nord", "nord-pacs", "NORD")
	n.Grant(t, "nord-pacs", "lab")
	return n, box
}

func TestRenumber(t *testing.T) {
	clock := time.Now().UTC()
	n, box := moving(t, func() time.Time { return clock })
	ctx := context.Background()
	before := version(t, n)
	ask := coordinator.RenumberRequest{Site: "nord", Keep: 48 * time.Hour, Size: coordinator.Size{Hosts: 30}}
	dry := ask
	dry.DryRun = true
	preview, err := n.Renumber(ctx, "test", dry)
	if err != nil {
		t.Fatal(err)
	}
	want := coordinator.Renumbering{
		Site: "nord", Old: []netip.Prefix{prefix("10.201.0.32/28")}, New: prefix("10.201.0.64/27"), Until: clock.Add(48 * time.Hour),
		Nodes: []coordinator.MovedNode{{
			Node: box.ID, Hostname: "nord-box", Old: netip.MustParseAddr("10.201.0.46"), New: netip.MustParseAddr("10.201.0.78"),
		}},
		Services: []coordinator.MovedService{{
			Service: "nord-pacs", Protocol: "dicom", AETitle: "NORD", Users: []string{"lab"},
			Old: netip.MustParseAddrPort("10.201.0.46:11112"), New: netip.MustParseAddrPort("10.201.0.78:11112"),
		}},
	}
	if diff := cmp.Diff(want, preview, equateNet); diff != "" {
		t.Errorf("the preview (-want +got):\n%s", diff)
	}
	if after := version(t, n); after != before {
		t.Errorf("the preview changed something: %v to %v", before, after)
	}
	got, err := n.Renumber(ctx, "test", ask)
	if err != nil {
		t.Fatal(err)
	}
	want.Done = true
	if diff := cmp.Diff(want, got, equateNet); diff != "" {
		t.Errorf("what was done (-want +got):\n%s", diff)
	}
	if e := lastEvent(t, n); e.Action != "site.renumber" || e.Subject != "nord" {
		t.Errorf("the trail says %+v", e)
	}
	if i := nodeInfo(t, n, box.ID); i.Address != want.Nodes[0].New || i.Former != want.Nodes[0].Old {
		t.Errorf("the box has %v and %v", i.Address, i.Former)
	}
	for _, a := range []string{"10.201.0.46", "10.201.0.78"} {
		if id, err := n.NodeAt(ctx, netip.MustParseAddr(a)); err != nil || id != box.ID {
			t.Errorf("at %s is %s (%v)", a, id, err)
		}
	}
	wantCode(t, reason(n.Renumber(ctx, "test", ask)), provisioning.Conflict, "being renumbered", "--end")
	wantCode(t, reason(n.Release(ctx, "test", "10.201.0.32/28", false)), provisioning.Conflict, "of nord until", "--end")
	wantCode(t, reason(n.Grow(ctx, "test", "10.201.0.32/28", coordinator.Size{Bits: 26})), provisioning.Conflict, "being renumbered")
	wantCode(t, reason(n.CreateSite(ctx, "test", coordinator.NewSite{Name: "x", Kind: wire.Clinic, Prefix: prefix("10.201.0.32/28")})), provisioning.Conflict, "of nord until")
	if r, err := n.Reserve(ctx, "test", coordinator.NewReservation{Site: "nord", Size: coordinator.Size{Bits: 27}}); err != nil || r.Prefix != prefix("10.201.0.96/27") {
		t.Errorf("beside the new range is %v (%v)", r.Prefix, err)
	}

	clock = clock.Add(48*time.Hour - time.Second)
	before = version(t, n)
	if err := n.Tend(ctx); err != nil || version(t, n) != before {
		t.Errorf("a second too early something ended (%v)", err)
	}
	clock = clock.Add(time.Second)
	if err := n.Tend(ctx); err != nil {
		t.Fatal(err)
	}
	if after := version(t, n); after[0] != before[0]+1 {
		t.Errorf("the end made generation %d of %d", after[0], before[0])
	}
	if i := nodeInfo(t, n, box.ID); i.Address != want.Nodes[0].New || i.Former.IsValid() {
		t.Errorf("after the end the box has %v and %v", i.Address, i.Former)
	}
	if e := lastEvent(t, n); e.Action != "site.renumbered" || e.Actor != "time" || e.Detail != "from 10.201.0.32/28 to 10.201.0.64/27" {
		t.Errorf("the trail says %+v", e)
	}
	history := []string{
		"test: created allocation 10.201.0.32/28 nord", "test: ending allocation 10.201.0.32/28 nord", "time: released allocation 10.201.0.32/28 nord",
	}
	if got := happened(t, n, "10.201.0.32/28"); !slices.Equal(got, history) {
		t.Errorf("the history is %q, want %q", got, history)
	}
	wantCode(t, reason(n.EndRenumbering(ctx, "test", "nord")), provisioning.Conflict, "not being renumbered")
}

func TestEndRenumbering(t *testing.T) {
	n, box := moving(t, nil)
	ctx := t.Context()
	if _, err := n.Renumber(ctx, "test", coordinator.RenumberRequest{Site: "nord", Prefix: prefix("10.201.7.0/30")}); err != nil {
		t.Fatal(err)
	}
	old, moved := netip.MustParseAddr("10.201.0.46"), netip.MustParseAddr("10.201.7.1")
	if i := nodeInfo(t, n, box.ID); i.Address != moved {
		t.Errorf("the box, whose number is not in the new range, has %v, want the first, %v", i.Address, moved)
	}
	got, err := n.EndRenumbering(ctx, "test", "nord")
	if err != nil {
		t.Fatal(err)
	}
	got.Until = time.Time{}
	want := coordinator.Renumbering{
		Site: "nord", Old: []netip.Prefix{prefix("10.201.0.32/28")}, New: prefix("10.201.7.0/30"), Done: true,
		Nodes: []coordinator.MovedNode{{Node: box.ID, Hostname: "nord-box", Old: old, New: moved}},
		Services: []coordinator.MovedService{{
			Service: "nord-pacs", Protocol: "dicom", AETitle: "NORD", Users: []string{"lab"},
			Old: netip.AddrPortFrom(old, 11112), New: netip.AddrPortFrom(moved, 11112),
		}},
	}
	if diff := cmp.Diff(want, got, equateNet); diff != "" {
		t.Errorf("what ended (-want +got):\n%s", diff)
	}
	plan, err := n.SitePlan(ctx, "nord")
	if err != nil || len(plan.Ranges) != 1 || plan.Ranges[0].Prefix != prefix("10.201.7.0/30") || len(plan.Nodes) != 1 || plan.Nodes[0].Former.IsValid() {
		t.Errorf("the site has %+v (%v)", plan, err)
	}
	if len(plan.Services) != 1 || plan.Services[0].Name != "nord-pacs" {
		t.Errorf("the services of the site are %+v", plan.Services)
	}
}

func TestRenumberMovesFixedAddressesInTheOldRange(t *testing.T) {
	n, _ := moving(t, nil)
	ctx := t.Context()
	if _, err := n.Allocate(ctx, "test", coordinator.NewAllocation{Site: "nord", Purpose: provisioning.PurposeServices, Prefix: prefix("10.201.50.0/28")}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.CreateService(ctx, "test", coordinator.NewService{
		Site: "nord", Name: "stays", Protocol: wire.DICOM, AETitle: "S", Target: "192.168.0.4:104", FixedAddress: true,
	}); err != nil {
		t.Fatal(err)
	}
	got, err := n.Renumber(ctx, "test", coordinator.RenumberRequest{Site: "nord"})
	if err != nil || len(got.Services) != 1 || got.Services[0].Service != "nord-pacs" {
		t.Errorf("a service in a range of its own was moved: %+v (%v)", got.Services, err)
	}
	if got.New != prefix("10.201.0.48/28") || got.Until.Before(time.Now().Add(6*24*time.Hour)) {
		t.Errorf("without a size it becomes %+v", got)
	}
}

func TestRenumberRefusals(t *testing.T) {
	n, _ := moving(t, nil)
	ctx := t.Context()
	mustAdd(t, n, provisioning.RangePool, "fd12:3456:789a::/48", "six")
	before := version(t, n)
	try := func(r coordinator.RenumberRequest) error {
		t.Helper()
		if r.Site == "" {
			r.Site = "nord"
		}
		err := reason(n.Renumber(ctx, "test", r))
		r.DryRun = true
		if dry := reason(n.Renumber(ctx, "test", r)); dry == nil || err == nil || dry.Error() != err.Error() {
			t.Errorf("the preview says %v, then it is %v", dry, err)
		}
		return err
	}
	for name, tc := range map[string]struct {
		r     coordinator.RenumberRequest
		code  provisioning.Code
		words []string
	}{
		"site":           {coordinator.RenumberRequest{Site: "west"}, provisioning.NotFound, []string{"west"}},
		"too short":      {coordinator.RenumberRequest{Keep: time.Second}, provisioning.Invalid, []string{"a minute to a year"}},
		"too long":       {coordinator.RenumberRequest{Keep: 400 * 24 * time.Hour}, provisioning.Invalid, []string{"a year"}},
		"taken":          {coordinator.RenumberRequest{Prefix: prefix("10.201.0.16/28")}, provisioning.Conflict, []string{"allocated to lab"}},
		"its own":        {coordinator.RenumberRequest{Prefix: prefix("10.201.0.32/27")}, provisioning.Conflict, []string{"allocated to nord"}},
		"outside":        {coordinator.RenumberRequest{Prefix: prefix("10.99.0.0/27")}, provisioning.Invalid, []string{"no pool"}},
		"pool":           {coordinator.RenumberRequest{Pool: "west"}, provisioning.NotFound, []string{"west"}},
		"other family":   {coordinator.RenumberRequest{Pool: "six"}, provisioning.Invalid, []string{"family"}},
		"range and pool": {coordinator.RenumberRequest{Pool: "six", Prefix: prefix("10.201.9.0/28")}, provisioning.Invalid, nil},
		"hub":            {coordinator.RenumberRequest{Site: "hub"}, provisioning.NotFound, nil},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, try(tc.r), tc.code, tc.words...) })
	}
	if after := version(t, n); after != before {
		t.Errorf("refusals changed something: %v to %v", before, after)
	}
	wantCode(t, reason(n.EndRenumbering(ctx, "test", "west")), provisioning.NotFound, "west")
	got, err := n.Renumber(ctx, "test", coordinator.RenumberRequest{Site: "nord", Pool: "six", Size: coordinator.Size{Hosts: 14}})
	if err != nil || got.New.Bits() != 124 || got.Nodes[0].New != got.New.Addr().Next() {
		t.Errorf("to the other family: %+v (%v)", got, err)
	}
}
