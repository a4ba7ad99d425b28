package coordinator_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// version is what a dry run may not change: the plan and the network's intent.
func version(t testing.TB, n *provisioningtest.Network) [2]uint64 {
	t.Helper()
	var out [2]uint64
	if err := n.Store.View(t.Context(), func(tx store.Tx) error {
		var err error
		if out[0], err = tx.Generation(); err != nil {
			return err
		}
		out[1], err = tx.Ranges().Revision()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// happened is the history of a prefix in words, but for the pools around it.
func happened(t testing.TB, n *provisioningtest.Network, p string) []string {
	t.Helper()
	events, err := n.History(t.Context(), prefix(p), 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		if e.Range.Kind == provisioning.RangePool {
			continue
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s: %s %s %v %s", e.Actor, e.Action, e.Range.Kind, e.Range.Prefix, e.OwnerName)))
	}
	return out
}

func mustAdd(t testing.TB, n *provisioningtest.Network, kind provisioning.RangeKind, p, label string) provisioning.Range {
	t.Helper()
	r, err := n.AddRange(t.Context(), "test", coordinator.NewRange{Kind: kind, Prefix: prefix(p), Label: label})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAllocationsGoToTheOutermostPoolFirst(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{Init: coordinator.InitOptions{Pools: []netip.Prefix{prefix("10.64.0.0/25")}}})
	mustAdd(t, n, provisioning.RangePool, "10.64.0.64/26", "north")
	mustAdd(t, n, provisioning.RangePool, "10.70.0.0/27", "")
	for i, want := range []string{"10.64.0.16/28", "10.64.0.32/28", "10.64.0.48/28", "10.70.0.0/28", "10.70.0.16/28", "10.64.0.64/28"} {
		if s := n.Clinic(t, fmt.Sprint("clinic-", i)); s.Prefixes[0] != prefix(want) {
			t.Errorf("clinic %d has %v, want %s", i, s.Prefixes[0], want)
		}
	}
	for _, ref := range []string{"north", "10.64.0.64/26"} {
		s, err := n.CreateSite(t.Context(), "test", coordinator.NewSite{Name: "in-" + ref[:2] + "x", Kind: wire.Clinic, Hosts: 6, Pool: ref})
		if err != nil || !prefix("10.64.0.64/26").Contains(s.Prefixes[0].Addr()) {
			t.Errorf("in %s: %v %v", ref, s.Prefixes, err)
		}
	}
	create := func(s coordinator.NewSite) error {
		s.Name, s.Kind = "x", wire.Clinic
		return reason(n.CreateSite(t.Context(), "test", s))
	}
	wantCode(t, create(coordinator.NewSite{Pool: "south"}), provisioning.NotFound, `"south"`)
	wantCode(t, create(coordinator.NewSite{Pool: "north", Hosts: 60}), provisioning.Conflict, "no room for 60 hosts", "10.64.0.64/26")
	wantCode(t, create(coordinator.NewSite{Pool: "north", Hosts: 200}), provisioning.Conflict, "from /26 to /32")
	wantCode(t, create(coordinator.NewSite{Pool: "north", Prefix: prefix("10.64.0.112/28")}), provisioning.Invalid, "size or pool besides")
	wantCode(t, create(coordinator.NewSite{LAN: prefix("10.64.0.0/16")}), provisioning.Conflict, "10.64.0.0/25 (pool)")
	wantCode(t, create(coordinator.NewSite{LAN: prefix("0.0.0.0/0")}), provisioning.Invalid, "too wide")
}

func TestASiteWithItsLAN(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	lan := prefix("192.168.178.0/24")
	for _, name := range []string{"nord", "sued"} {
		n.Site(t, coordinator.NewSite{Name: name, Kind: wire.Clinic, LAN: lan})
	}
	p, err := n.SitePlan(t.Context(), "nord")
	if err != nil || len(p.Ranges) != 2 || p.Ranges[1].Prefix != lan || p.Ranges[1].Kind != provisioning.RangeLAN || p.Ranges[0].Pool != prefix("10.201.0.0/16") {
		t.Fatalf("the plan of the site is %+v (%v)", p, err)
	}
	wantCode(t, reason(n.AddRange(t.Context(), "test", coordinator.NewRange{Kind: provisioning.RangePool, Prefix: prefix("192.168.176.0/21"), Force: true})),
		provisioning.Conflict, "LAN of site nord", "LAN of site sued")
	wantCode(t, reason(n.AddRange(t.Context(), "test", coordinator.NewRange{Kind: provisioning.RangeLAN, Prefix: lan, Site: "nord"})), provisioning.Conflict, "LAN of site nord")
	wantCode(t, reason(n.SitePlan(t.Context(), "west")), provisioning.NotFound, "west")
	if err := n.RemoveSite(t.Context(), "test", "nord"); err != nil {
		t.Fatal(err)
	}
	want := []string{"test: created lan 192.168.178.0/24 nord", "test: created lan 192.168.178.0/24 sued", "test: removed lan 192.168.178.0/24 nord"}
	if got := happened(t, n, lan.String()); !slices.Equal(got, want) {
		t.Errorf("the history of the LAN is %q, want %q", got, want)
	}
}

func TestReserveAllocateGrowRelease(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Clinic(t, "nord") // 10.201.0.16/28
	n.Clinic(t, "sued") // 10.201.0.32/28
	r, err := n.Reserve(ctx, "test", coordinator.NewReservation{Site: "sued", Size: coordinator.Size{Hosts: 14}, Label: "growth", Note: "for  the\nsecond floor"})
	if err != nil || r.Prefix != prefix("10.201.0.48/28") || r.OwnerName != "sued" || r.Note != "for  the second floor" {
		t.Fatalf("reserved beside is %+v (%v)", r, err)
	}
	if e := lastEvent(t, n); e.Action != "range.reserve" || e.Subject != r.Prefix.String() || e.Detail != "sued" {
		t.Errorf("the trail says %+v", e)
	}
	wantCode(t, reason(n.Grow(ctx, "test", "nord", coordinator.Size{Bits: 27})), provisioning.Conflict, "10.201.0.0/28 (allocated to hub)", "renumber nord")
	wantCode(t, reason(n.Grow(ctx, "test", "sued", coordinator.Size{Bits: 26})), provisioning.Conflict, "allocated to hub", "allocated to nord")
	wantCode(t, reason(n.Allocate(ctx, "test", coordinator.NewAllocation{Site: "nord", Purpose: provisioning.PurposeOverlay, Prefix: prefix("10.201.0.48/29")})),
		provisioning.Conflict, "reserved for sued", "plan free")
	part, err := n.Allocate(ctx, "test", coordinator.NewAllocation{Site: "sued", Purpose: provisioning.PurposeServices, Prefix: prefix("10.201.0.52/31")})
	if err != nil || part.Prefix != prefix("10.201.0.52/31") {
		t.Fatalf("of its own reservation: %+v (%v)", part, err)
	}
	p, err := n.SitePlan(ctx, "sued")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, q := range p.Ranges {
		if q.Kind == provisioning.RangeReserved {
			left = append(left, q.Prefix.String()+" "+q.Label)
		}
	}
	if want := []string{"10.201.0.48/30 ", "10.201.0.54/31 ", "10.201.0.56/29 growth"}; !slices.Equal(left, want) {
		t.Errorf("what stays reserved is %q, want %q", left, want)
	}
	wantCode(t, reason(n.Grow(ctx, "test", "10.201.0.32/28", coordinator.Size{Bits: 27})), provisioning.Conflict, "10.201.0.52/31 (allocated to sued)")
	if _, err := n.Release(ctx, "test", "10.201.0.52/31", true); err != nil {
		t.Fatal(err)
	}
	box := n.Node(t, "sued")
	g, err := n.Grow(ctx, "test", "sued", coordinator.Size{Hosts: 30})
	if err != nil || g.Before.Prefix != prefix("10.201.0.32/28") || g.After.Prefix != prefix("10.201.0.32/27") || g.After.OwnerName != "sued" {
		t.Fatalf("it grew %+v (%v)", g, err)
	}
	if a := nodeInfo(t, n, box.ID).Address; a != netip.MustParseAddr("10.201.0.33") {
		t.Errorf("growing moved the box to %v", a)
	}
	got := happened(t, n, "10.201.0.56/32")
	if want := []string{
		"test: created reserved 10.201.0.48/28 sued", "test: removed reserved 10.201.0.48/28 sued", "test: created reserved 10.201.0.56/29 sued",
		"test: removed reserved 10.201.0.56/29 sued", "test: grown allocation 10.201.0.32/27 sued",
	}; !slices.Equal(got, want) {
		t.Errorf("the history is %q, want %q", got, want)
	}
	wantCode(t, reason(n.Release(ctx, "test", "10.201.0.32/27", false)), provisioning.Conflict, string(box.ID), "10.201.0.33", "renumber sued")
	wantCode(t, reason(n.Release(ctx, "test", "10.201.0.0/28", false)), provisioning.Conflict, "the hub (10.201.0.1)")
}

func TestPlanRefusals(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Clinic(t, "nord")
	mustAdd(t, n, provisioning.RangeReserved, "10.201.9.0/24", "later")
	foreign := mustAdd(t, n, provisioning.RangeForeign, "10.201.10.0/24", "")
	if _, err := n.Release(ctx, "test", "later", false); err != nil {
		t.Fatal(err)
	}
	before := version(t, n)
	size := coordinator.Size{Hosts: 6}
	allocate := func(a coordinator.NewAllocation) error { return reason(n.Allocate(ctx, "test", a)) }
	reserve := func(r coordinator.NewReservation) error { return reason(n.Reserve(ctx, "test", r)) }
	add := func(r coordinator.NewRange) error { return reason(n.AddRange(ctx, "test", r)) }
	overlay := provisioning.PurposeOverlay
	for name, tc := range map[string]struct {
		err   error
		code  provisioning.Code
		words []string
	}{
		"purpose":         {allocate(coordinator.NewAllocation{Site: "nord", Purpose: "wan", Size: size}), provisioning.Invalid, []string{`"wan"`, "workstation"}},
		"mapped":          {allocate(coordinator.NewAllocation{Site: "nord", Purpose: provisioning.PurposeMapped, Size: size}), provisioning.Invalid, []string{"plan map"}},
		"no size":         {allocate(coordinator.NewAllocation{Site: "nord", Purpose: overlay}), provisioning.Invalid, []string{"neither a range nor a size"}},
		"two sizes":       {allocate(coordinator.NewAllocation{Site: "nord", Purpose: overlay, Size: coordinator.Size{Hosts: 3, Bits: 28}}), provisioning.Invalid, nil},
		"range and size":  {allocate(coordinator.NewAllocation{Site: "nord", Purpose: overlay, Size: size, Prefix: prefix("10.201.8.0/28")}), provisioning.Invalid, nil},
		"bits":            {allocate(coordinator.NewAllocation{Site: "nord", Purpose: overlay, Size: coordinator.Size{Bits: 129}}), provisioning.Invalid, []string{"129"}},
		"negative":        {allocate(coordinator.NewAllocation{Site: "nord", Purpose: overlay, Size: coordinator.Size{Bits: -1}}), provisioning.Invalid, nil},
		"unknown site":    {allocate(coordinator.NewAllocation{Site: "west", Purpose: overlay, Size: size}), provisioning.NotFound, []string{"west"}},
		"no IPv6":         {allocate(coordinator.NewAllocation{Site: "nord", Purpose: overlay, Size: coordinator.Size{Bits: 64}}), provisioning.Conflict, []string{"a /64"}},
		"quarantined":     {reserve(coordinator.NewReservation{Prefix: prefix("10.201.9.0/28")}), provisioning.Conflict, []string{"quarantined until"}},
		"foreign":         {allocate(coordinator.NewAllocation{Site: "nord", Purpose: overlay, Prefix: prefix("10.201.10.16/28")}), provisioning.Conflict, []string{"10.201.10.0/24 (foreign)"}},
		"long note":       {reserve(coordinator.NewReservation{Size: size, Note: strings.Repeat("x", 1001)}), provisioning.Invalid, []string{"1001 bytes"}},
		"label":           {reserve(coordinator.NewReservation{Size: size, Label: "Zweiter Stock"}), provisioning.Invalid, []string{"zweiter-stock"}},
		"label of digits": {reserve(coordinator.NewReservation{Size: size, Label: "42"}), provisioning.Invalid, []string{"number"}},
		"label of a LAN":  {add(coordinator.NewRange{Kind: provisioning.RangeLAN, Site: "nord", Prefix: prefix("192.168.1.0/24"), Label: "x"}), provisioning.Invalid, []string{"no label"}},
		"site of a pool":  {add(coordinator.NewRange{Kind: provisioning.RangePool, Site: "nord", Prefix: prefix("10.7.0.0/16")}), provisioning.Invalid, []string{"no site"}},
		"LAN of nobody":   {add(coordinator.NewRange{Kind: provisioning.RangeLAN, Prefix: prefix("192.168.1.0/24")}), provisioning.NotFound, nil},
		"reported":        {add(coordinator.NewRange{Kind: provisioning.RangeReported, Prefix: prefix("192.168.1.0/24")}), provisioning.Invalid, nil},
		"pool in a site":  {add(coordinator.NewRange{Kind: provisioning.RangePool, Prefix: prefix("10.201.0.16/29")}), provisioning.Conflict, []string{"allocated to nord"}},
		"release nothing": {reason(n.Release(ctx, "test", "10.201.77.0/28", false)), provisioning.NotFound, []string{"10.201.77.0/28"}},
		"release a pool":  {reason(n.Release(ctx, "test", "10.201.0.0/16", false)), provisioning.NotFound, nil},
		"release again":   {reason(n.Release(ctx, "test", "10.201.9.0/24", false)), provisioning.Conflict, []string{"quarantined until", "number"}},
		"release text":    {reason(n.Release(ctx, "test", "10.201.9/24", false)), provisioning.Invalid, nil},
		"release foreign": {reason(n.Release(ctx, "test", fmt.Sprint(foreign.ID), false)), provisioning.NotFound, nil},
		"grow nothing":    {reason(n.Grow(ctx, "test", "west", size)), provisioning.NotFound, []string{"west"}},
		"grow quarantine": {reason(n.Grow(ctx, "test", "10.201.9.0/24", coordinator.Size{Bits: 23})), provisioning.Conflict, []string{"cannot grow"}},
		"grow to less":    {reason(n.Grow(ctx, "test", "nord", size)), provisioning.Invalid, []string{"room for 6 hosts already"}},
		"grow to nothing": {reason(n.Grow(ctx, "test", "nord", coordinator.Size{})), provisioning.Invalid, nil},
		"grow to all":     {reason(n.Grow(ctx, "test", "nord", coordinator.Size{Bits: 12})), provisioning.Conflict, []string{"10.201.0.0/16"}},
		"quarantine":      {n.SetQuarantine(ctx, "test", -time.Second), provisioning.Invalid, nil},
		"quarantine long": {n.SetQuarantine(ctx, "test", 11*366*24*time.Hour), provisioning.Invalid, []string{"10 years"}},
		"history":         {reason(n.History(ctx, prefix("10.201.0.1/24"), 0)), provisioning.Invalid, []string{"10.201.0.0/24"}},
		"free":            {reason(n.Free(ctx, coordinator.FreeQuery{Pool: "later"})), provisioning.NotFound, []string{`"later"`}},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, tc.err, tc.code, tc.words...) })
	}
	if after := version(t, n); after != before {
		t.Errorf("refusals changed the plan: %v to %v", before, after)
	}
}

func TestALabelIsThereOnce(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	mustAdd(t, n, provisioning.RangePool, "10.77.0.0/16", "north")
	for name, err := range map[string]error{
		"reserve": reason(n.Reserve(t.Context(), "test", coordinator.NewReservation{Size: coordinator.Size{Hosts: 6}, Label: "north"})),
		"pool": reason(n.AddRange(t.Context(), "test", coordinator.NewRange{
			Kind: provisioning.RangePool, Prefix: prefix("10.78.0.0/16"), Label: "north",
		})),
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, err, provisioning.Conflict, "north", "10.77.0.0/16 (pool)") })
	}
}

func TestQuarantine(t *testing.T) {
	clock := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	n := newNetwork(t, provisioningtest.Options{Now: func() time.Time { return clock }})
	ctx := context.Background()
	plan := func() coordinator.Plan {
		t.Helper()
		p, err := n.Plan(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if q := plan().Quarantine; q != 30*24*time.Hour {
		t.Errorf("the quarantine is %v", q)
	}
	if err := n.SetQuarantine(ctx, "test", time.Hour); err != nil || plan().Quarantine != time.Hour {
		t.Errorf("the quarantine is %v (%v)", plan().Quarantine, err)
	}
	if e := lastEvent(t, n); e.Action != "plan.quarantine" || e.Detail != "from 720h0m0s to 1h0m0s" {
		t.Errorf("the trail says %+v", e)
	}
	mustAdd(t, n, provisioning.RangeReserved, "10.201.9.0/24", "a")
	mustAdd(t, n, provisioning.RangeReserved, "10.201.10.0/24", "b")
	kept, err := n.Release(ctx, "test", "a", false)
	if err != nil || !kept.Until.Equal(clock.Add(time.Hour)) || kept.Owner != "" || kept.Label != "" {
		t.Errorf("released is %+v (%v)", kept, err)
	}
	if gone, err := n.Release(ctx, "test", "b", true); err != nil || !gone.Until.Equal(clock) {
		t.Errorf("released now is %+v (%v)", gone, err)
	}
	if err := n.SetQuarantine(ctx, "test", 0); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, n, provisioning.RangeReserved, "10.201.10.0/24", "b")
	if _, err := n.Release(ctx, "test", "b", false); err != nil {
		t.Fatal(err)
	}
	if p := plan(); len(p.Ranges) != 2 {
		t.Errorf("without quarantine there is %+v", p.Ranges)
	}
	clock = clock.Add(time.Hour)
	before := version(t, n)
	if err := n.Tend(ctx); err != nil {
		t.Fatal(err)
	}
	if p := plan(); len(p.Ranges) != 1 {
		t.Errorf("after the quarantine there is %+v", p.Ranges)
	}
	if after := version(t, n); after[0] != before[0] || after[1] == before[1] {
		t.Errorf("the end of a quarantine made generation and revision %v of %v", after, before)
	}
	want := []string{"test: created reserved 10.201.9.0/24", "test: released reserved 10.201.9.0/24", "time: freed reserved 10.201.9.0/24"}
	if got := happened(t, n, "10.201.9.0/24"); !slices.Equal(got, want) {
		t.Errorf("the history is %q, want %q", got, want)
	}
	if e := lastEvent(t, n); e.Action != "range.free" || e.Actor != "time" || e.Subject != "10.201.9.0/24" {
		t.Errorf("the trail says %+v", e)
	}
	before = version(t, n)
	if err := n.Tend(ctx); err != nil || version(t, n) != before {
		t.Errorf("with nothing to do, something was done (%v)", err)
	}
}

func TestPoolsNest(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	region := mustAdd(t, n, provisioning.RangePool, "10.201.128.0/17", "north")
	inner := mustAdd(t, n, provisioning.RangePool, "10.201.128.0/18", "")
	n.Site(t, coordinator.NewSite{Name: "nord", Kind: wire.Clinic, Pool: "north"})
	p, err := n.Plan(ctx)
	if err != nil || len(p.Pools) != 3 {
		t.Fatalf("the plan is %+v (%v)", p, err)
	}
	if q := p.Pools[1]; q.Parent != prefix("10.201.0.0/16") || q.Depth != 1 || q.Usage.Taken != 0.5+16./32768 || len(q.Strip) != 64 || q.Strip[0] != 1 || q.Strip[63] != 0 {
		t.Errorf("the region is %+v", q)
	}
	if q := p.Pools[2]; q.Parent != region.Prefix || q.Depth != 2 || q.Usage.Taken != 0 {
		t.Errorf("the pool in the region is %+v", q)
	}
	if i := slices.IndexFunc(p.Ranges, func(r coordinator.RangeInfo) bool { return r.OwnerName == "nord" }); p.Ranges[i].Pool != region.Prefix {
		t.Errorf("the site of the region is in %+v", p.Ranges[i])
	}
	free, err := n.Free(ctx, coordinator.FreeQuery{Size: coordinator.Size{Hosts: 30}})
	if err != nil || len(free) != 3 || free[0].Bits != 27 || free[0].Next != prefix("10.201.0.32/27") || free[1].Next != prefix("10.201.192.32/27") || free[2].Fits != 512 {
		t.Errorf("free is %+v (%v)", free, err)
	}
	free, err = n.Free(ctx, coordinator.FreeQuery{Pool: "north"})
	if err != nil || len(free) != 1 || free[0].Total != len(free[0].Blocks) || free[0].Bits != 0 || free[0].Next.IsValid() || !slices.Contains(free[0].Blocks, prefix("10.201.224.0/19")) {
		t.Errorf("free in the region is %+v (%v)", free, err)
	}
	wantCode(t, n.RemoveRange(ctx, "test", p.Pools[0].ID), provisioning.Conflict, "still holds", "allocated to hub")
	for _, r := range []provisioning.Range{region, inner} {
		if err := n.RemoveRange(ctx, "test", r.ID); err != nil {
			t.Errorf("remove %v, whose content the pool around it holds: %v", r.Prefix, err)
		}
	}
	wantCode(t, n.RemoveRange(ctx, "test", p.Pools[0].ID), provisioning.Conflict, "still holds", "allocated to nord")
	if e := lastEvent(t, n); e.Action != "range.remove" || e.Subject != "10.201.128.0/18" || e.Detail != "pool" {
		t.Errorf("the trail says %+v", e)
	}
}
