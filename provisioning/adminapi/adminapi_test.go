package adminapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/prove"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store/sqlite"
	"github.com/towpath/towpath/provisioning/wire"
)

// serve runs the API on a socket file and returns a client of it.
func serve(t *testing.T) (*adminapi.Client, *provisioningtest.Network, http.Handler, *requests) {
	t.Helper()
	st, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "coordinator.db"), sqlite.Options{})
	if err != nil {
		t.Fatalf("open the database: %v", err)
	}
	t.Cleanup(func() { st.Close() })
	n := provisioningtest.New(t, st, provisioningtest.Options{})
	h := adminapi.Handler(n.Coordinator, func(*http.Request) string { return "alice" }, nil)
	seen := &requests{}
	socket := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.add(r.Method + " " + r.URL.Path)
		h.ServeHTTP(w, r)
	}))
	srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	t.Cleanup(srv.Close)
	return adminapi.NewSocketClient(socket), n, h, seen
}

// requests remembers what was asked for.
type requests struct {
	mu  sync.Mutex
	all []string
}

func (r *requests) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, s)
}

// misses returns the operations of the description that were never asked for.
func (r *requests) misses(t *testing.T, h http.Handler) []string {
	t.Helper()
	var out []string
	for path, item := range describe(t, h).Paths {
		pattern := regexp.MustCompile("^" + regexp.MustCompile(`\\{\w+\\}`).ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")
		for method := range item {
			if !slices.ContainsFunc(r.all, func(s string) bool {
				m, p, _ := strings.Cut(s, " ")
				return m == strings.ToUpper(method) && pattern.MatchString(p)
			}) {
				out = append(out, method+" "+path)
			}
		}
	}
	return out
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestClientReachesEveryOperation(t *testing.T) {
	c, n, h, seen := serve(t)
	ctx := t.Context()

	if net := must(c.Network(ctx))(t); net.ID != n.Keys.NetworkID() || net.Hub.ControlPort != 8080 || len(net.Pools) != 1 ||
		net.Fingerprint != n.Identity().Fingerprint().String() || net.Hub.Address.String() != "10.201.0.1" || net.Generation != 1 {
		t.Errorf("the network is %+v", net)
	}
	center := must(c.CreateSite(ctx, adminapi.NewSite{Name: "lab", Kind: "center", Title: "Lab", Endpoint: "vpn.example.org:51820", Hosts: 30}))(t)
	if center.Endpoint != "vpn.example.org:51820" || center.Prefixes[0].Bits() != 27 || center.Title != "Lab" || center.Created.IsZero() {
		t.Errorf("the center is %+v", center)
	}
	clinic := must(c.CreateSite(ctx, adminapi.NewSite{Name: "praxis-nord", Kind: "clinic", Prefix: "10.201.9.0/28"}))(t)
	if clinic.Prefixes[0].String() != "10.201.9.0/28" || clinic.Kind != "clinic" {
		t.Errorf("the clinic is %+v", clinic)
	}
	if err := c.SetSiteEndpoint(ctx, "lab", "192.0.2.9:51820"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetSiteSpoolKey(ctx, "lab", "coordinator"); err != nil {
		t.Fatal(err)
	}
	if l := must(c.Sites(ctx))(t); len(l) != 2 || l[0].Name != "lab" || l[0].Endpoint != "192.0.2.9:51820" || l[0].SpoolKey != "coordinator" {
		t.Errorf("the sites are %+v", l)
	}

	pacs := must(c.CreateService(ctx, adminapi.NewService{Site: "lab", Name: "lab-pacs", Protocol: "dicom", AETitle: "LABPACS", Target: "192.168.1.10:104"}))(t)
	if pacs.Port != 11112 || pacs.Mode != "queued" || pacs.Site != "lab" || pacs.AETitle != "LABPACS" || pacs.Target != "192.168.1.10:104" {
		t.Errorf("the service is %+v", pacs)
	}
	options := adminapi.DICOMOptions{
		Hold: true, Callers: []string{"MR1", "CT 1"}, Sources: []string{"192.168.10.0/24"}, Rate: 30,
		UrgentCallers: []string{"ER CT", "CT1"}, UrgentClasses: []string{"1.2.840.10008.5.1.4.1.1.2"}, UrgentStat: true,
	}
	if err := c.SetServiceDICOM(ctx, "lab-pacs", options); err != nil {
		t.Fatal(err)
	}
	slices.Sort(options.Callers)
	slices.Sort(options.UrgentCallers)
	if l := must(c.Services(ctx))(t); len(l) != 1 || !reflect.DeepEqual(l[0].DICOM, &options) || l[0].Archive != nil {
		t.Errorf("the options are %+v", l[0].DICOM)
	}
	decide := adminapi.DeviceDecision{AETitle: "CT1", Address: netip.MustParseAddr("192.168.10.7"), State: "approved", Report: "192.168.10.7:104"}
	if err := c.DecideDevice(ctx, "praxis-nord", decide); err != nil {
		t.Fatal(err)
	}
	if l := must(c.Devices(ctx, "praxis-nord"))(t); len(l) != 1 || l[0].State != "approved" || l[0].AETitle != "CT1" || l[0].Report != decide.Report {
		t.Errorf("the devices are %+v", l)
	}
	his := must(c.CreateService(ctx, adminapi.NewService{
		Site: "praxis-nord", Name: "his", Protocol: "hl7", Receiver: "HIS^WARD", Target: "his.local:2575", Mode: "pass-through",
	}))(t)
	if his.Port != 2575 || his.Mode != "pass-through" || his.Receiver != "HIS^WARD" {
		t.Errorf("the service is %+v", his)
	}
	answers := adminapi.HL7Options{Types: []string{"ORM", "ORU^R01"}, Acks: true, AckTimeout: 20}
	if err := c.SetServiceHL7(ctx, "his", answers); err != nil {
		t.Fatal(err)
	}
	if l := must(c.Services(ctx))(t); !slices.ContainsFunc(l, func(s adminapi.Service) bool { return s.Name == "his" && reflect.DeepEqual(s.HL7, &answers) }) {
		t.Errorf("the services are %+v", l)
	}
	if g := must(c.Allow(ctx, "lab-pacs", "praxis-nord", 0))(t); g.LANPort != 11112 || g.Owner != "lab" || g.Site != "praxis-nord" || g.Service != "lab-pacs" {
		t.Errorf("the grant is %+v", g)
	}
	must(c.Allow(ctx, "his", center.ID, 4000))(t)
	if l := must(c.Grants(ctx))(t); len(l) != 2 || l[0].Service != "his" || l[0].LANPort != 4000 || l[0].Site != "lab" {
		t.Errorf("the grants are %+v", l)
	}
	if l := must(c.Services(ctx))(t); len(l) != 2 || !slices.Equal(l[1].Users, []string{"praxis-nord"}) {
		t.Errorf("the services are %+v", l)
	}

	exerciseLANTLS(t, c)
	tok := must(c.CreateToken(ctx, adminapi.NewToken{Site: "praxis-nord", TTLSeconds: 3600}))(t)
	if tok.State != "open" || tok.Site != "praxis-nord" || tok.Kind != "gateway" || tok.Expires.Sub(tok.Created) != time.Hour {
		t.Errorf("the token is %+v", tok)
	}
	parsed := must(wire.ParseToken(tok.Text))(t)
	box := n.Box(t)
	if err := box.Enroll(ctx, parsed, wire.Facts{Hostname: "box-7", Model: "M1"}); err != nil {
		t.Fatal(err)
	}
	export := must(c.Export(ctx))(t)
	if len(export.Input.Maps) != 1 || export.Input.Maps[0].Self.Site != "praxis-nord" || len(export.Input.Grants) != 2 || export.Generation == 0 {
		t.Errorf("the export has generation %d, %d maps, %d grants", export.Generation, len(export.Input.Maps), len(export.Input.Grants))
	}
	if cert, err := prove.Prove(export.Input, prove.Stamp{Tool: "test", Generation: export.Generation}); err != nil || cert.Counts.Clinics != 1 {
		t.Errorf("what was exported cannot be proven: %+v, %v", cert.Counts, err)
	}
	if err := box.Report(ctx, wire.Report{
		Format: 1, Applied: 3, ApplyError: "no route", Facts: wire.Facts{Hostname: "box-7"},
		Conditions: []wire.Condition{{Code: "disk.full", Severity: "error", Message: "the disk is full"}},
		Queues:     []wire.Queue{{Name: "lab-pacs", Queued: 4, Delivered: 9}},
	}); err != nil {
		t.Fatal(err)
	}
	nodes := must(c.Nodes(ctx))(t)
	if len(nodes) != 1 {
		t.Fatalf("the nodes are %+v", nodes)
	}
	v := nodes[0]
	if v.ID != string(box.ID) || v.Site != "praxis-nord" || v.Address.String() != "10.201.9.1" || v.Hostname != "box-7" || v.Applied != 3 || v.ApplyError != "no route" ||
		len(v.Conditions) != 1 || v.Conditions[0].Code != "disk.full" || len(v.Queues) != 1 || v.Queues[0].Queued != 4 || v.LastSeen.IsZero() || v.Online {
		t.Errorf("the node is %+v", v)
	}
	spare := must(c.CreateToken(ctx, adminapi.NewToken{Site: "lab"}))(t)
	if err := c.RevokeToken(ctx, spare.ID); err != nil {
		t.Fatal(err)
	}
	if l := must(c.Tokens(ctx))(t); len(l) != 2 || l[0].State != "revoked" || l[1].State != "used" || len(l[1].Uses) != 1 || l[1].Uses[0].Node != string(box.ID) {
		t.Errorf("the tokens are %+v", l)
	}

	exerciseMembers(t, c, n, box)
	reserved := must(c.AddRange(ctx, adminapi.NewRange{Kind: "reserved", Prefix: "10.201.8.0/24", Note: "printers"}))(t)
	plan := must(c.Plan(ctx))(t)
	if len(plan.Pools) != 1 || plan.Pools[0].Taken <= 0 || len(plan.Ranges) != 6 || plan.Ranges[0].Owner != "hub" {
		t.Errorf("the plan is %+v", plan)
	}
	if err := c.RemoveRange(ctx, reserved.ID); err != nil {
		t.Fatal(err)
	}

	poll := adminapi.Poll{Target: "192.168.1.20:104", CalledAE: "OLDPACS", Since: "2026-11-22", Hours: "22:00-06:00", Modalities: []string{"MR", "CT", "MR"}}
	if g := must(c.SetPoll(ctx, "lab-pacs", "praxis-nord", poll))(t); g.Poll == nil || g.Poll.CalledAE != "OLDPACS" || !slices.Equal(g.Poll.Modalities, []string{"CT", "MR"}) {
		t.Errorf("the grant is %+v", g)
	}
	if err := c.EndPoll(ctx, "lab-pacs", "praxis-nord"); err != nil {
		t.Fatal(err)
	}
	if e, ok := refusal(c.EndPoll(ctx, "lab-pacs", "praxis-nord")); !ok || e.Code != provisioning.NotFound {
		t.Errorf("polling is ended twice: %v", e)
	}
	for _, err := range []error{
		c.Disallow(ctx, "lab-pacs", "praxis-nord"), c.Disallow(ctx, "his", "lab"),
		c.RemoveService(ctx, "lab-pacs"), c.RemoveService(ctx, "his"),
		c.RemoveNode(ctx, v.ID), c.RemoveSite(ctx, "praxis-nord"), c.RemoveSite(ctx, "lab"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if plan = must(c.Plan(ctx))(t); len(plan.Ranges) != 4 || plan.Ranges[1].Until.IsZero() {
		t.Errorf("after removing all, the plan is %+v", plan)
	}
	events := must(c.Events(ctx, 0, 0))(t)
	if len(events) < 15 || events[1].Actor != "alice" || events[1].Action != "site.create" || events[1].Subject != "lab" {
		t.Errorf("the audit trail is %+v", events)
	}
	if tail := must(c.Events(ctx, events[len(events)-3].Seq, 1))(t); len(tail) != 1 || tail[0].Seq != events[len(events)-2].Seq {
		t.Errorf("a page of the audit trail is %+v", tail)
	}
	if v := must(c.VerifyEvents(ctx))(t); v.Broken != 0 {
		t.Errorf("the audit trail is broken at %d", v.Broken)
	}
	if err := c.SetReach(ctx, adminapi.Reach{HubEndpoints: []string{"new.example.org:51820"}, URLs: []string{"http://new.example.org"}}); err != nil {
		t.Fatal(err)
	}
	if net := must(c.Network(ctx))(t); net.PairKeys != "preferred" {
		t.Errorf("the policy for preshared keys begins with %q", net.PairKeys)
	}
	if err := c.SetPairKeys(ctx, "required"); err != nil {
		t.Fatal(err)
	}
	if net := must(c.Network(ctx))(t); net.PairKeys != "required" {
		t.Errorf("the policy for preshared keys is %q", net.PairKeys)
	}
	if err := c.SetPairKeys(ctx, "perhaps"); err == nil {
		t.Error("an unknown policy is taken")
	}
	if net := must(c.Network(ctx))(t); net.URLs[0] != "http://new.example.org" || net.Hub.Endpoints[0] != "new.example.org:51820" {
		t.Errorf("the network is %+v", net)
	}
	exercisePlan(t, c, n)
	exerciseKeys(t, c, n)
	if m := seen.misses(t, h); len(m) != 0 {
		t.Errorf("the client never asks for %v", m)
	}
}

func TestClientGetsRefusalsInTheCoordinatorsWords(t *testing.T) {
	c, n, _, _ := serve(t)
	ctx := t.Context()
	n.Clinic(t, "a")
	n.Clinic(t, "b")
	n.DICOM(t, "a", "svc", "AE")
	only := func(_ any, err error) error { return err }
	for name, tc := range map[string]struct {
		err  error
		code provisioning.Code
	}{
		"not found":       {c.RemoveSite(ctx, "nobody"), provisioning.NotFound},
		"odd name":        {c.RemoveSite(ctx, "no/bo dy?"), provisioning.NotFound},
		"conflict":        {only(c.CreateSite(ctx, adminapi.NewSite{Name: "a", Kind: "clinic"})), provisioning.Conflict},
		"denied":          {only(c.Allow(ctx, "svc", "b", 0)), provisioning.Denied},
		"invalid":         {only(c.CreateSite(ctx, adminapi.NewSite{Name: "A B", Kind: "clinic"})), provisioning.Invalid},
		"invalid prefix":  {only(c.CreateSite(ctx, adminapi.NewSite{Name: "x", Kind: "clinic", Prefix: "10.201.0.1/28"})), provisioning.Invalid},
		"invalid kind":    {only(c.CreateSite(ctx, adminapi.NewSite{Name: "x", Kind: "hospital"})), provisioning.Invalid},
		"invalid range":   {only(c.AddRange(ctx, adminapi.NewRange{Kind: "pool", Prefix: "nonsense"})), provisioning.Invalid},
		"framework's own": {only(c.AddRange(ctx, adminapi.NewRange{Kind: "allocation", Prefix: "10.0.0.0/8"})), provisioning.Invalid},
		"impossible ttl":  {only(c.CreateToken(ctx, adminapi.NewToken{Site: "a", TTLSeconds: -3600})), provisioning.Invalid},
		"endless ttl":     {only(c.ReplaceNode(ctx, "node_none", 1000*24*time.Hour)), provisioning.Invalid},
		"no key":          {only(c.AddPeer(ctx, adminapi.NewPeer{Site: "a", Name: "phone", PublicKey: "AAAA"})), provisioning.Invalid},
		"no node":         {only(c.Node(ctx, "node_none")), provisioning.NotFound},
		"impossible page": {only(c.Events(ctx, 0, 5000)), provisioning.Invalid},
		"long name":       {c.RemoveSite(ctx, strings.Repeat("x", 65)), provisioning.Invalid},
	} {
		e, ok := refusal(tc.err)
		if !ok {
			t.Errorf("%s: got %v (%T), want a *provisioning.Error", name, tc.err, tc.err)
			continue
		}
		if e.Code != tc.code || e.Message == "" || e.Hint == "" {
			t.Errorf("%s: got %+v, want code %s, a message and a hint", name, *e, tc.code)
		}
	}
}

func refusal(err error) (*provisioning.Error, bool) { return errors.AsType[*provisioning.Error](err) }

func TestClientSaysWhenNobodyAnswers(t *testing.T) {
	c := adminapi.NewSocketClient(filepath.Join(t.TempDir(), "none.sock"))
	_, err := c.Network(t.Context())
	if e, ok := errors.AsType[*provisioning.Error](err); !ok || e.Code != provisioning.Unavailable || !strings.Contains(e.Message, "none.sock") {
		t.Errorf("got %v", err)
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusTeapot) }))
	defer other.Close()
	_, err = adminapi.NewClient(other.URL+"/", other.Client()).Network(t.Context())
	if e, ok := errors.AsType[*provisioning.Error](err); !ok || e.Code != "internal" || !strings.Contains(e.Message, "418") {
		t.Errorf("got %v", err)
	}
}

func TestProblemsAreProblemJSON(t *testing.T) {
	_, n, h, _ := serve(t)
	n.Clinic(t, "a")
	for name, tc := range map[string]struct {
		method, target, body string
		status               int
	}{
		"the coordinator's": {"DELETE", "/v1/sites/nobody", "", 404},
		"unknown field":     {http.MethodPost, "/v1/sites", `{"name":"x","kind":"clinic","hue":"red"}`, 422},
		"missing field":     {http.MethodPost, "/v1/sites", `{"name":"x"}`, 422},
		"no JSON":           {http.MethodPost, "/v1/sites", `{`, 400},
		"no body":           {http.MethodPost, "/v1/sites", ``, 400},
		"unknown query":     {http.MethodGet, "/v1/sites?hue=red", ``, 422},
		"too long":          {http.MethodPost, "/v1/sites", `{"name":"` + strings.Repeat("x", 70<<10) + `","kind":"clinic"}`, 413},
	} {
		r := httptest.NewRequest(tc.method, tc.target, strings.NewReader(tc.body))
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		var p adminapi.Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
			t.Errorf("%s: %v in %s", name, err, rec.Body)
		}
		if rec.Code != tc.status || p.Status != tc.status || rec.Header().Get("Content-Type") != "application/problem+json" ||
			p.Code == "" || p.Detail == "" || p.Hint == "" || p.Title == "" {
			t.Errorf("%s: got status %d, type %q, %s; want status %d", name, rec.Code, rec.Header().Get("Content-Type"), rec.Body, tc.status)
		}
	}
}

func TestBrowsersOfOtherSitesAreRefused(t *testing.T) {
	_, _, h, _ := serve(t)
	r := httptest.NewRequest(http.MethodPost, "/v1/sites", strings.NewReader(`{"name":"x","kind":"clinic"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	if rec.Code != http.StatusForbidden {
		t.Errorf("got status %d", rec.Code)
	}
}

// description is what the tests read of the OpenAPI document.
type description struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string `json:"operationId"`
		Summary     string
		Responses   map[string]struct {
			Content map[string]any
		}
	}
	Components struct{ Schemas map[string]any }
	text       []byte
}

func describe(t *testing.T, h http.Handler) description {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	doc := description{text: rec.Body.Bytes()}
	if err := json.Unmarshal(doc.text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDescription(t *testing.T) {
	_, _, h, _ := serve(t)
	doc := describe(t, h)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("the description is OpenAPI %s", doc.OpenAPI)
	}
	operations := 0
	for path, item := range doc.Paths {
		for method, op := range item {
			operations++
			if op.OperationID == "" || op.Summary == "" {
				t.Errorf("%s %s has no id or summary", method, path)
			}
			if _, ok := op.Responses["default"].Content["application/problem+json"]; !ok {
				t.Errorf("%s %s does not describe its errors: %+v", method, path, op.Responses)
			}
			if len(op.Responses) != 2 {
				t.Errorf("%s %s describes %d answers, want success and problem", method, path, len(op.Responses))
			}
		}
	}
	if operations != 64 {
		t.Errorf("%d operations are described, want 64", operations)
	}
	if bytes.Contains(doc.text, []byte(`"null"`)) {
		t.Error("something may be null")
	}
	if doc.Components.Schemas["Problem"] == nil || doc.Components.Schemas["ErrorModel"] != nil {
		t.Errorf("the schemas are not ours: %v", doc.Components.Schemas)
	}
}
