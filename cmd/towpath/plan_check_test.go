package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/provisioning/adminapi"
)

// TestPlanCheckTellsMonitoring: exit code 3 is for errors alone.
func TestPlanCheckTellsMonitoring(t *testing.T) {
	for name, c := range map[string]struct {
		findings []adminapi.Finding
		want     int
	}{
		"nothing":   {[]adminapi.Finding{}, ui.ExitDone},
		"a warning": {[]adminapi.Finding{{Code: "pool-full", Severity: "warning", Message: "full", Proposal: "more"}}, ui.ExitDone},
		"an error": {[]adminapi.Finding{
			{Code: "lan-in-pool", Severity: "error", Site: "north", Message: "the LAN is in the plan", Proposal: "another LAN"},
			{Code: "renumbering", Severity: "info", Site: "north", Message: "moves", Proposal: "end it"},
		}, ui.ExitUnhealthy},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			answer(t, dir, map[string]any{"/v1/plan/findings": map[string]any{"findings": c.findings}})
			for _, args := range [][]string{{"towpath", "plan", "check", "--dir", dir}, {"towpath", "plan", "check", "--dir", dir, "--json"}} {
				if got := run(args); got != c.want {
					t.Errorf("%v ended with %d, want %d", args, got, c.want)
				}
			}
		})
	}
}

// TestRenumberDoesWhatWasShown: between preview and consent somebody else may take the next free range.
func TestRenumberDoesWhatWasShown(t *testing.T) {
	dir := t.TempDir()
	asked := answer(t, dir, map[string]any{"/v1/plan/renumberings": adminapi.Renumbering{
		Site: "north", Old: []netip.Prefix{pfx("10.201.0.32/28")}, New: pfx("10.201.0.64/27"), Until: noon(2026, 12, 1),
		Nodes: []adminapi.MovedNode{}, Services: []adminapi.MovedService{},
	}})
	if code := run([]string{"towpath", "plan", "renumber", "north", "--pool", "nord", "--hosts", "30", "--keep", "2d", "--yes", "--dir", dir}); code != ui.ExitDone {
		t.Fatalf("it ended with %d", code)
	}
	want := []string{
		`{"site":"north","hosts":30,"pool":"nord","keep_seconds":172800,"dry_run":true}`,
		`{"site":"north","prefix":"10.201.0.64/27","keep_seconds":172800}`,
	}
	if d := cmp.Diff(want, *asked); d != "" {
		t.Errorf("-want +asked:\n%s", d)
	}
}

// answer is a coordinator in dir that knows some answers by path. What it returns are the bodies of requests; read it when they are over.
func answer(t *testing.T, dir string, answers map[string]any) *[]string {
	t.Helper()
	var asked []string
	l, err := net.Listen("unix", filepath.Join(dir, adminSocket))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil {
			t.Error(err)
		} else if len(body) > 0 {
			asked = append(asked, string(body))
		}
		if err := json.NewEncoder(w).Encode(answers[r.URL.Path]); err != nil {
			t.Error(err)
		}
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return &asked
}
