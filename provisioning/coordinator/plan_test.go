package coordinator_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestRanges(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	add := func(kind provisioning.RangeKind, p string, force bool) error {
		return reason(n.AddRange(ctx, "test", coordinator.NewRange{Kind: kind, Prefix: prefix(p), Force: force}))
	}
	n.Clinic(t, "a")
	box := n.Box(t)
	if err := box.Enroll(ctx, n.Token(t, "a"), wire.Facts{LANs: []netip.Prefix{prefix("10.44.1.0/24")}}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, add(provisioning.RangePool, "10.44.0.0/16", true), provisioning.Conflict, "10.44.1.0/24", "LAN of the box of site a")
	wantCode(t, add(provisioning.RangePool, "192.168.0.0/16", false), provisioning.Conflict, "force")
	wantCode(t, add(provisioning.RangePool, "10.201.0.0/16", false), provisioning.Conflict, "10.201.0.0/16 (pool)")
	wantCode(t, add(provisioning.RangeAllocation, "10.201.9.0/24", false), provisioning.Invalid)
	wantCode(t, add(provisioning.RangeReserved, "10.201.0.0/24", false), provisioning.Conflict, "allocated to a")
	wantCode(t, add(provisioning.RangeForeign, "10.201.0.0/20", false), provisioning.Conflict, "allocated to a")
	for kind, p := range map[provisioning.RangeKind]string{
		provisioning.RangePool: "10.77.0.0/16", provisioning.RangeReserved: "10.201.4.0/24", provisioning.RangeForeign: "10.201.5.0/24",
	} {
		if err := add(kind, p, false); err != nil {
			t.Errorf("%s %s: %v", kind, p, err)
		}
	}
	for _, p := range []string{"10.201.4.0/28", "10.201.5.0/28"} {
		wantCode(t, reason(n.CreateSite(ctx, "test", coordinator.NewSite{Name: "b", Kind: wire.Clinic, Prefix: prefix(p)})), provisioning.Conflict, p)
	}
	if s := n.Site(t, coordinator.NewSite{Name: "c", Kind: wire.Clinic, Prefix: prefix("10.77.3.0/28")}); len(s.Prefixes) != 1 {
		t.Errorf("the site in the new pool is %+v", s)
	}
	plan, err := n.Plan(ctx)
	if err != nil || len(plan.Pools) != 2 {
		t.Fatalf("the plan is %+v (%v)", plan, err)
	}
	for _, p := range plan.Pools {
		if p.Usage.Taken <= 0 || p.Usage.Taken >= 1 {
			t.Errorf("the pool %v is taken to %f", p.Prefix, p.Usage.Taken)
		}
		wantCode(t, n.RemoveRange(ctx, "test", p.ID), provisioning.Conflict, "still holds")
	}
	for _, r := range plan.Ranges {
		err := n.RemoveRange(ctx, "test", r.ID)
		switch {
		case r.Kind == provisioning.RangeAllocation:
			wantCode(t, err, provisioning.Conflict, "is allocated to "+r.OwnerName)
		case r.Kind == provisioning.RangeReported:
			wantCode(t, err, provisioning.Conflict, "LAN of the box of site a")
		case err != nil:
			t.Errorf("remove %v: %v", r.Prefix, err)
		}
	}
	wantCode(t, n.RemoveRange(ctx, "test", 12345), provisioning.NotFound, "12345")
	if err := n.RemoveSite(ctx, "test", "c"); err != nil {
		t.Fatal(err)
	}
	plan, err = n.Plan(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(plan.Ranges, func(r coordinator.RangeInfo) bool { return r.Prefix == prefix("10.77.3.0/28") })
	for _, id := range []int64{plan.Ranges[i].ID, plan.Pools[0].ID} {
		if err := n.RemoveRange(ctx, "test", id); err != nil {
			t.Errorf("end the quarantine, then remove the pool: %v", err)
		}
	}
}
