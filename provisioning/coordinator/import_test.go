package coordinator_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

// sheet reads a spreadsheet.
func sheet(t testing.TB, text string) plandoc.Document {
	t.Helper()
	d, problems, err := plandoc.ReadCSV(strings.NewReader(text))
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	return d
}

// exported is the plan of a network as a document.
func exported(t testing.TB, n *provisioningtest.Network) plandoc.Document {
	t.Helper()
	names := map[string]string{"": "", "hub": "hub"}
	sites, err := n.Sites(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sites {
		names[string(s.ID)] = s.Name
	}
	plan, err := n.Plan(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var all []provisioning.Range
	for _, p := range plan.Pools {
		all = append(all, p.Range)
	}
	for _, r := range plan.Ranges {
		all = append(all, r.Range)
	}
	var d plandoc.Document
	for _, r := range all {
		d.Entries = append(d.Entries, plandoc.Entry{
			Kind: plandoc.Kind(r.Kind), Prefix: r.Prefix, Owner: names[r.Owner], Purpose: string(r.Purpose), Label: r.Label, Maps: r.Maps,
			Note: r.Note, Until: r.Until,
		})
	}
	return d.Sorted()
}

func mustImport(t testing.TB, n *provisioningtest.Network, d plandoc.Document, o coordinator.ImportOptions) coordinator.ImportResult {
	t.Helper()
	r, err := n.Import(context.Background(), "test", d, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestImportASpreadsheet(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "praxis-nord") // 10.201.0.16/28
	d := sheet(t, `site,range,comment,kind,label
Praxis Dr. Müller,10.201.4.0/24,first floor,,mueller
praxis-nord,10.201.5.0/28,,,
Praxis Dr. Müller,192.168.178.0/24,,lan,
,10.77.0.0/16,,pool,south
,10.201.6.0/24,printers,,
Röntgen am Markt,10.77.0.0/28,,,
`)
	before := version(t, n)
	dry := mustImport(t, n, d, coordinator.ImportOptions{CreateSites: true, DryRun: true})
	if dry.Done || len(dry.Problems) != 0 || len(dry.Changes) != 6 || version(t, n) != before {
		t.Errorf("the dry run is %+v, version %v of %v", dry, version(t, n), before)
	}
	if got, want := dry.Changes[0].String(), "+ the pool 10.77.0.0/16, label south"; got != want {
		t.Errorf("the first change is %q, want %q", got, want)
	}
	got := mustImport(t, n, d, coordinator.ImportOptions{CreateSites: true})
	if want := []string{"praxis-dr-mueller", "roentgen-am-markt"}; !got.Done || !slices.Equal(got.Sites, want) || !slices.Equal(dry.Sites, want) {
		t.Errorf("it is %+v, want the sites %q", got, want)
	}
	if version(t, n)[0] != before[0]+1 {
		t.Errorf("the import made generation %d of %d", version(t, n)[0], before[0])
	}
	if e := lastEvent(t, n); e.Action != "plan.import" || e.Detail != "6 ranges, 2 sites" {
		t.Errorf("the trail says %+v", e)
	}
	p, err := n.SitePlan(t.Context(), "praxis-dr-mueller")
	if err != nil || p.Site.Title != "Praxis Dr. Müller" || p.Site.Kind != wire.Clinic || len(p.Ranges) != 2 || p.Ranges[0].Label != "mueller" || p.Ranges[0].Note != "first floor" {
		t.Errorf("the new site is %+v (%v)", p, err)
	}
	if got, want := happened(t, n, "10.201.4.0/24"), []string{"test: created allocation 10.201.4.0/24 praxis-dr-mueller"}; !slices.Equal(got, want) {
		t.Errorf("the history is %q, want %q", got, want)
	}
	before = version(t, n)
	again := mustImport(t, n, d, coordinator.ImportOptions{CreateSites: true})
	if !again.Done || len(again.Changes) != 0 || len(again.Sites) != 0 || version(t, n) != before {
		t.Errorf("once more it is %+v", again)
	}
}

func TestImportListsEveryProblem(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Site(t, coordinator.NewSite{Name: "praxis-nord", Kind: wire.Clinic, Title: "Praxis Nord, Kiel"})
	n.Clinic(t, "sued") // 10.201.0.32/28
	mustAdd(t, n, provisioning.RangePool, "10.77.0.0/16", "north")
	box := n.Box(t)
	if err := box.Enroll(t.Context(), n.Token(t, "sued"), wire.Facts{LANs: []netip.Prefix{prefix("10.88.1.0/24")}}); err != nil {
		t.Fatal(err)
	}
	d := sheet(t, `site,range,comment,kind,label,purpose,maps
sued,10.201.0.32/28,,,,services,
Praxis Ost,10.201.4.0/24,,,,,
praxis ost,10.201.5.0/24,,,,,
Praxis Nord,10.201.6.0/24,,,,,
west,10.201.4.128/25,,,,,
,192.168.0.0/16,,pool,,,
,10.88.0.0/16,,pool,,,
sued,10.201.7.0/24,,,north,,
sued,10.201.8.0/24,,,Zweiter Stock,,
hub,192.168.1.0/24,,lan,,,
sued,0.0.0.0/1,,lan,,,
sued,10.201.16.0/24,,,,mapped,192.168.5.0/24
sued,10.201.17.0/25,,,,mapped,192.168.5.0/25
sued,10.201.18.0/24,,,,mapped,10.201.99.0/24
Ж,10.201.19.0/24,,,,,
`)
	before := version(t, n)
	r := mustImport(t, n, d, coordinator.ImportOptions{CreateSites: true})
	if r.Done || version(t, n) != before {
		t.Errorf("it was done: %v, %v of %v", r.Done, version(t, n), before)
	}
	found := map[int]string{}
	for _, p := range r.Problems {
		found[p.Line] += p.Text + fmt.Sprintf(" (%d); ", p.With)
	}
	for line, words := range map[int][]string{
		2:  {`in the plan with another purpose, "overlay"`},
		4:  {`"praxis ost" and "Praxis Ost" would both be the site praxis-ost`, "(3)"},
		5:  {`is "Praxis Nord" the site praxis-nord`, "Kiel"},
		6:  {"10.201.4.128/25 of west overlaps 10.201.4.0/24 of praxis-ost in line 3", "(3)"},
		7:  {"routers"},
		8:  {"10.88.0.0/16", "10.88.1.0/24"},
		9:  {"north", "10.77.0.0/16"},
		10: {"Zweiter Stock", "typed everywhere", "zweiter-stock"},
		11: {"the hub is no site"},
		12: {"too wide"},
		13: {"mapped twice"},
		14: {"mapped twice"},
		15: {"10.201.99.0/24", "the pool 10.201.0.0/16"},
		16: {`no site can be made of "Ж"`},
	} {
		for _, w := range words {
			if !strings.Contains(found[line], w) {
				t.Errorf("of line %d it says %q, not %q", line, found[line], w)
			}
		}
		delete(found, line)
	}
	if len(found) > 0 {
		t.Errorf("it says more: %v", found)
	}
	if !slices.IsSortedFunc(r.Problems, func(a, b plandoc.Problem) int { return a.Line - b.Line }) {
		t.Error("the problems are not in the order of the lines")
	}

	unknown := mustImport(t, n, sheet(t, "west,10.201.4.0/24,\nwest,10.201.5.0/24,\n"), coordinator.ImportOptions{})
	if unknown.Done || len(unknown.Problems) != 1 || unknown.Problems[0].Line != 1 || !strings.Contains(unknown.Problems[0].Text, `no site "west"`) {
		t.Errorf("of an unknown site it says %+v", unknown.Problems)
	}
	forced := mustImport(t, n, sheet(t, "range,kind\n192.168.0.0/16,pool\n"), coordinator.ImportOptions{Force: true})
	if !forced.Done {
		t.Errorf("a forced pool: %+v", forced)
	}
	wantCode(t, reason(n.Import(t.Context(), "test", plandoc.Document{Entries: make([]plandoc.Entry, plandoc.MaxEntries+1)}, coordinator.ImportOptions{})),
		provisioning.Invalid, "500001")
}

func TestImportRoundTrip(t *testing.T) {
	clock := time.Date(2026, 5, 1, 12, 0, 0, 123, time.UTC)
	o := provisioningtest.Options{Now: func() time.Time { return clock }}
	n := newNetwork(t, o)
	ctx := t.Context()
	n.Clinic(t, "nord")
	n.Clinic(t, "sued")
	n.Clinic(t, "gone")
	mustAdd(t, n, provisioning.RangePool, "10.201.128.0/17", "north")
	mustAdd(t, n, provisioning.RangeForeign, "10.201.9.0/24", "")
	mustAdd(t, n, provisioning.RangeForeign, "10.201.9.0/24", "") // known twice
	if _, err := n.AddRange(ctx, "test", coordinator.NewRange{Kind: provisioning.RangeLAN, Prefix: prefix("192.168.178.0/24"), Site: "nord", Note: "Erdgeschoß"}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Reserve(ctx, "test", coordinator.NewReservation{Site: "nord", Size: coordinator.Size{Hosts: 14}, Label: "later"}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Map(ctx, "test", coordinator.NewMapping{Site: "nord", LAN: prefix("192.168.178.0/25")}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Renumber(ctx, "test", coordinator.RenumberRequest{Site: "sued"}); err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveSite(ctx, "test", "gone"); err != nil {
		t.Fatal(err)
	}
	box := n.Box(t)
	if err := box.Enroll(ctx, n.Token(t, "nord"), wire.Facts{LANs: []netip.Prefix{prefix("192.168.178.0/24")}}); err != nil {
		t.Fatal(err)
	}
	d := exported(t, n)
	before := version(t, n)
	if r := mustImport(t, n, d, coordinator.ImportOptions{}); !r.Done || len(r.Changes) != 0 || len(r.Problems) != 0 || version(t, n) != before {
		t.Errorf("its own export: %+v", r)
	}
	other := newNetwork(t, o)
	if r := mustImport(t, other, d, coordinator.ImportOptions{CreateSites: true}); !r.Done || !slices.Equal(r.Sites, []string{"nord", "sued"}) {
		t.Fatalf("into another network: %+v", r)
	}
	want := plandoc.Document{Entries: slices.DeleteFunc(slices.Clone(d.Entries), func(e plandoc.Entry) bool { return e.Kind == plandoc.Reported })}
	if len(want.Entries) == len(d.Entries) {
		t.Error("the export has nothing that a box reported")
	}
	if diff := plandoc.Diff(want, exported(t, other)); len(diff) > 0 {
		t.Errorf("the other network differs: %v", diff)
	}
	// Weeks later the quarantine in the export is over and the renumbering has ended.
	clock = clock.Add(40 * 24 * time.Hour)
	late := newNetwork(t, o)
	if r := mustImport(t, late, d, coordinator.ImportOptions{CreateSites: true}); !r.Done {
		t.Fatalf("late: %+v", r)
	}
	if err := late.Tend(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, e := range exported(t, late).Entries {
		if e.Owner == "" && e.Kind == plandoc.Allocation && !e.Until.After(clock) || e.Owner != "" && !e.Until.IsZero() {
			t.Errorf("what should be over is there: %v until %v", e, e.Until)
		}
	}
}
