package adminapi_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// exercisePlan calls every operation on the plan once, in the order of a plan's life.
func exercisePlan(t *testing.T, c *adminapi.Client, n *provisioningtest.Network) {
	t.Helper()
	ctx := t.Context()
	dry := must(c.LayOut(ctx, adminapi.NewLayout{Pools: []string{"10.64.0.0/16"}, Regions: []string{"nord", "sued"}, DryRun: true}))(t)
	if dry.Done || len(dry.Pools) != 3 || len(must(c.Plan(ctx))(t).Pools) != 1 {
		t.Errorf("the dry run of a layout is %+v", dry)
	}
	if l := must(c.LayOut(ctx, adminapi.NewLayout{Pools: []string{"10.64.0.0/16"}, Regions: []string{"nord", "sued"}}))(t); !l.Done || len(l.Pools) != 3 {
		t.Errorf("the layout is %+v", l)
	}
	site := must(c.CreateSite(ctx, adminapi.NewSite{Name: "west", Kind: "clinic", Pool: "nord", LAN: "192.168.178.0/24", Hosts: 14}))(t)
	if site.Prefixes[0] != prefix("10.64.0.0/28") {
		t.Errorf("the site in the region is %+v", site)
	}
	plan := must(c.Plan(ctx))(t)
	i := slices.IndexFunc(plan.Pools, func(p adminapi.Pool) bool { return p.Label == "nord" })
	if i < 0 || plan.Pools[i].Parent != prefix("10.64.0.0/16") || plan.Pools[i].Depth != 1 || len(plan.Pools[i].Strip) != 64 || plan.Pools[i].Strip[0] <= 0 ||
		plan.QuarantineSeconds != 30*24*3600 {
		t.Errorf("the pools are %+v", plan.Pools)
	}
	m := must(c.Map(ctx, "west", adminapi.NewMapping{LAN: "192.168.178.0/24", Pool: "nord", Note: "ward"}))(t)
	if m.Maps != prefix("192.168.178.0/24") || m.Prefix != prefix("10.64.1.0/24") || m.Purpose != "mapped" || m.Owner != "west" || m.Pool != prefix("10.64.0.0/17") {
		t.Errorf("the mapping is %+v", m)
	}
	a := must(c.Allocate(ctx, adminapi.NewAllocation{Site: "west", Purpose: "services", Hosts: 6, Pool: "sued", Label: "west-svc"}))(t)
	if a.Purpose != "services" || a.Prefix.Bits() != 29 || a.Label != "west-svc" || a.State != "active" || a.Kind != "allocation" {
		t.Errorf("the allocation is %+v", a)
	}
	svc := must(c.CreateService(ctx, adminapi.NewService{
		Site: "west", Name: "west-pacs", Protocol: "dicom", AETitle: "WEST", Target: "192.168.178.20:104", FixedAddress: true,
	}))(t)
	if !a.Prefix.Contains(svc.Address) {
		t.Errorf("the service with a fixed address is %+v", svc)
	}
	tok := must(c.CreateToken(ctx, adminapi.NewToken{Site: "west", TTLSeconds: 3600, Address: netip.MustParseAddr("10.64.0.9")}))(t)
	if tok.Address != netip.MustParseAddr("10.64.0.9") {
		t.Errorf("the token is %+v", tok)
	}
	box := n.Box(t)
	if err := box.Enroll(ctx, must(wire.ParseToken(tok.Text))(t), wire.Facts{Hostname: "west-box", LANs: []netip.Prefix{prefix("192.168.178.0/24")}}); err != nil {
		t.Fatal(err)
	}
	p := must(c.SitePlan(ctx, "west"))(t)
	if p.Site != "west" || p.Kind != "clinic" || len(p.Ranges) != 5 || len(p.Nodes) != 1 || p.Nodes[0].Address != netip.MustParseAddr("10.64.0.9") ||
		p.Nodes[0].Hostname != "west-box" || len(p.Services) != 1 || !p.Services[0].At.IsValid() || p.Services[0].At.Addr() != svc.Address ||
		len(p.Mappings) != 1 || p.Mappings[0].Text != "192.168.178.0/24 appears as 10.64.1.0/24: .20 is 10.64.1.20" {
		t.Errorf("the plan of the site is %+v", p)
	}
	exerciseChanges(t, c)
	if r := must(c.Unmap(ctx, "west", "192.168.178.0/24"))(t); r.State != "quarantined" || r.Prefix != m.Prefix {
		t.Errorf("the ended mapping is %+v", r)
	}
	exerciseImport(t, c)
}

func exerciseChanges(t *testing.T, c *adminapi.Client) {
	t.Helper()
	ctx := t.Context()
	kept := must(c.Reserve(ctx, adminapi.NewReservation{Bits: 28, Site: "west", Label: "west-more", Note: "soon"}))(t)
	if kept.Prefix != prefix("10.64.0.16/28") || kept.Owner != "west" || kept.Kind != "reserved" || kept.Note != "soon" {
		t.Errorf("the reservation is %+v", kept)
	}
	free := must(c.Free(ctx, adminapi.FreeQuery{Pool: "nord", Hosts: 14}))(t)
	if len(free) != 1 || free[0].Bits != 28 || !free[0].Next.IsValid() || free[0].Fits == 0 || free[0].Total != len(free[0].Blocks) {
		t.Errorf("what is free is %+v", free)
	}
	g := must(c.Grow(ctx, adminapi.Growth{Range: "west", Hosts: 30}))(t)
	if g.Before.Prefix != prefix("10.64.0.0/28") || g.After.Prefix != prefix("10.64.0.0/27") {
		t.Errorf("the range grew %+v", g)
	}
	n := adminapi.NewRenumbering{Site: "west", Pool: "sued", Hosts: 14, KeepSeconds: 3600, DryRun: true}
	r := must(c.Renumber(ctx, n))(t)
	if r.Done || len(r.Nodes) != 1 || r.New.Bits() != 28 || r.Nodes[0].Old != netip.MustParseAddr("10.64.0.9") || !r.New.Contains(r.Nodes[0].New) {
		t.Errorf("the preview is %+v", r)
	}
	n.DryRun = false
	if done := must(c.Renumber(ctx, n))(t); !done.Done || done.New != r.New || done.Until.IsZero() {
		t.Errorf("the renumbering is %+v", done)
	}
	if nodes := must(c.Nodes(ctx))(t); !slices.ContainsFunc(nodes, func(v adminapi.Node) bool { return v.Former == netip.MustParseAddr("10.64.0.9") }) {
		t.Errorf("no node has its former address: %+v", nodes)
	}
	if p := must(c.SitePlan(ctx, "west"))(t); !slices.ContainsFunc(p.Ranges, func(r adminapi.Range) bool {
		return r.State == "ending" && r.Prefix == prefix("10.64.0.0/27") && r.Owner == "west" && !r.Until.IsZero()
	}) || p.Nodes[0].Former != netip.MustParseAddr("10.64.0.9") {
		t.Errorf("the site being renumbered is %+v", p)
	}
	if l := must(c.Findings(ctx))(t); !slices.ContainsFunc(l, func(f adminapi.Finding) bool {
		return f.Code == "renumbering" && f.Site == "west" && f.Severity == "info" && f.Proposal != "" && f.Prefix == prefix("10.64.0.0/27")
	}) {
		t.Errorf("the findings are %+v", l)
	}
	if e := must(c.EndRenumbering(ctx, "west"))(t); !slices.Contains(e.Old, prefix("10.64.0.0/27")) {
		t.Errorf("the end of the renumbering is %+v", e)
	}
	if err := c.SetQuarantine(ctx, 48*time.Hour); err != nil {
		t.Fatal(err)
	}
	extra := must(c.Allocate(ctx, adminapi.NewAllocation{Site: "west", Purpose: "workstation", Prefix: "10.64.200.0/24"}))(t)
	released := must(c.Release(ctx, adminapi.Release{Range: extra.Prefix.String()}))(t)
	if left := time.Until(released.Until); released.State != "quarantined" || left > 48*time.Hour || left < 47*time.Hour {
		t.Errorf("what was released is %+v", released)
	}
	h := must(c.History(ctx, prefix("10.64.200.0/24"), 2))(t)
	if len(h) != 2 || h[0].Action != "created" || h[1].Action != "released" || h[1].Range.Owner != "west" || h[0].Actor != "alice" {
		t.Errorf("the history is %+v", h)
	}
}

func exerciseImport(t *testing.T, c *adminapi.Client) {
	t.Helper()
	ctx := t.Context()
	good := plandoc.Document{Entries: []plandoc.Entry{
		{Kind: plandoc.Allocation, Prefix: prefix("10.64.100.0/28"), Owner: "east", Purpose: plandoc.Overlay, Line: 2, Note: "new"},
		{Kind: plandoc.Foreign, Prefix: prefix("10.50.0.0/16"), Line: 9},
	}}
	bad := plandoc.Document{Entries: append(slices.Clone(good.Entries), plandoc.Entry{
		Kind: plandoc.Allocation, Prefix: prefix("10.64.100.8/29"), Owner: "east", Purpose: plandoc.Overlay, Line: 17,
	})}
	r := must(c.ImportPlan(ctx, bad, adminapi.ImportOptions{CreateSites: true}))(t)
	if r.Done || len(r.Problems) != 1 || r.Problems[0].Line != 17 || r.Problems[0].With != 2 || !strings.Contains(r.Problems[0].Text, "10.64.100.8/29") {
		t.Errorf("the import with a conflict is %+v", r)
	}
	if r = must(c.ImportPlan(ctx, good, adminapi.ImportOptions{}))(t); r.Done || len(r.Problems) != 1 || r.Problems[0].Line != 2 {
		t.Errorf("the import with an unknown site is %+v", r)
	}
	if r = must(c.ImportPlan(ctx, good, adminapi.ImportOptions{CreateSites: true, DryRun: true}))(t); r.Done || len(r.Problems) != 0 || len(r.Changes) != 2 {
		t.Errorf("the dry run of an import is %+v", r)
	}
	r = must(c.ImportPlan(ctx, good, adminapi.ImportOptions{CreateSites: true}))(t)
	if !r.Done || len(r.Changes) != 2 || !slices.Equal(r.Sites, []string{"east"}) || r.Changes[1].After == nil || r.Changes[1].After.Range != "10.64.100.0/28" ||
		r.Changes[1].After.Line != 2 || r.Changes[1].After.Comment != "new" || r.Changes[1].Before != nil || !strings.HasPrefix(r.Changes[1].Text, "+ ") {
		t.Errorf("the import is %+v", r)
	}
	if r = must(c.ImportPlan(ctx, good, adminapi.ImportOptions{}))(t); len(r.Changes) != 0 || len(r.Problems) != 0 {
		t.Errorf("the import of what is there is %+v", r)
	}
}

// TestImportTakesWhatExportWrites posts a document as it is in a file, without lines, and one that cannot be read.
func TestImportTakesWhatExportWrites(t *testing.T) {
	_, n, h, _ := serve(t)
	n.Clinic(t, "a")
	for name, tc := range map[string]struct {
		body   string
		status int
		want   []string
	}{
		"as exported": {
			`{"plan": {"format": "towpath-plan/1", "ranges": [{"kind":"foreign","range":"10.50.0.0/16"}, {"range":"10.201.64.0/20","comment":"x"}]}}`, 200,
			[]string{`"done":true`, `+ the foreign network 10.50.0.0/16`, `10.201.64.0/20`},
		},
		"number as line": {
			`{"plan": {"format": "towpath-plan/1", "ranges": [{"kind":"foreign","range":"10.51.0.0/16"}, {"range":"nonsense"}]}}`, 200,
			[]string{`"done":false`, `"line":2`, `nonsense`, `"changes":[]`},
		},
		"line of the file": {
			`{"plan": {"format": "towpath-plan/1", "ranges": [{"range":"nonsense","line":77}]}}`, 200, []string{`"line":77`},
		},
		"other format":  {`{"plan": {"format": "towpath-plan/9", "ranges": []}}`, 422, []string{`body.plan.format`}},
		"unknown field": {`{"plan": {"format": "towpath-plan/1", "ranges": [{"range":"10.52.0.0/16","hue":"red"}]}}`, 422, []string{`hue`}},
		"wrong option":  {`{"plan": {"format": "towpath-plan/1", "ranges": []}, "dryrun": true}`, 422, []string{`dryrun`}},
	} {
		req := httptest.NewRequest(http.MethodPost, "/v1/plan/import", strings.NewReader(tc.body))
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != tc.status {
			t.Errorf("%s: got status %d, want %d: %s", name, rec.Code, tc.status, rec.Body)
		}
		for _, want := range tc.want {
			if !strings.Contains(rec.Body.String(), want) {
				t.Errorf("%s: %q is not in %s", name, want, rec.Body)
			}
		}
	}
}

func TestPlanRefusals(t *testing.T) {
	c, n, _, _ := serve(t)
	ctx := t.Context()
	n.Clinic(t, "a")
	only := func(_ any, err error) error { return err }
	for name, tc := range map[string]struct {
		err  error
		code provisioning.Code
	}{
		"unknown site":        {only(c.SitePlan(ctx, "nobody")), provisioning.NotFound},
		"unknown pool":        {only(c.Free(ctx, adminapi.FreeQuery{Pool: "nowhere"})), provisioning.NotFound},
		"two sizes":           {only(c.Free(ctx, adminapi.FreeQuery{Hosts: 3, Bits: 28})), provisioning.Invalid},
		"negative size":       {only(c.Free(ctx, adminapi.FreeQuery{Hosts: -3})), provisioning.Invalid},
		"history of nothing":  {only(c.History(ctx, netip.Prefix{}, 0)), provisioning.Invalid},
		"endless history":     {only(c.History(ctx, prefix("10.0.0.0/8"), 1001)), provisioning.Invalid},
		"no prefix":           {only(c.Allocate(ctx, adminapi.NewAllocation{Site: "a", Purpose: "overlay", Prefix: "x"})), provisioning.Invalid},
		"no purpose":          {only(c.Allocate(ctx, adminapi.NewAllocation{Site: "a", Purpose: "mapped", Bits: 28})), provisioning.Invalid},
		"nothing to reserve":  {only(c.Reserve(ctx, adminapi.NewReservation{})), provisioning.Invalid},
		"no such range":       {only(c.Release(ctx, adminapi.Release{Range: "nothing"})), provisioning.NotFound},
		"no size":             {only(c.Grow(ctx, adminapi.Growth{Range: "a"})), provisioning.Invalid},
		"negative time":       {only(c.Renumber(ctx, adminapi.NewRenumbering{Site: "a", KeepSeconds: -1})), provisioning.Invalid},
		"no renumbering":      {only(c.EndRenumbering(ctx, "a")), provisioning.Conflict},
		"endless quarantine":  {c.SetQuarantine(ctx, 100*365*24*time.Hour), provisioning.Invalid},
		"mapping of nothing":  {only(c.Map(ctx, "a", adminapi.NewMapping{LAN: "192.168.1.1/24"})), provisioning.Invalid},
		"mapping of two ways": {only(c.Map(ctx, "a", adminapi.NewMapping{LAN: "192.168.1.0/24", To: "10.201.1.0/25"})), provisioning.Invalid},
		"no mapping":          {only(c.Unmap(ctx, "a", "192.168.1.0/24")), provisioning.NotFound},
		"bad pool":            {only(c.LayOut(ctx, adminapi.NewLayout{Pools: []string{"10.1.2.3/8"}})), provisioning.Invalid},
		"LAN of nobody":       {only(c.AddRange(ctx, adminapi.NewRange{Kind: "lan", Prefix: "192.168.1.0/24"})), provisioning.NotFound},
	} {
		e, ok := refusal(tc.err)
		if !ok || e.Code != tc.code || e.Message == "" || e.Hint == "" {
			t.Errorf("%s: got %v (%+v), want code %s, a message and a hint", name, tc.err, e, tc.code)
		}
	}
}
