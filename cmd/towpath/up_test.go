package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestUpShowsWhatChanges(t *testing.T) {
	pacs := []localapi.Service{
		{Name: "pacs", Address: "[::1]:11112", Protocol: "dicom", AETitle: "PACS", Mode: "pass-through"},
		{Name: "pacs", Address: "127.0.0.1:11112", Protocol: "dicom", AETitle: "PACS", Mode: "pass-through"},
	}
	ris := localapi.Service{Name: "ris", Address: "127.0.0.1:2575", Protocol: "hl7", Mode: "queued"}
	trouble := health.Condition{Code: "peer/center", Severity: health.Error, Message: "site center has not answered since noon"}
	busy := append([]localapi.Service(nil), pacs...)
	busy[0].Live = 3
	var b bytes.Buffer
	v := &upView{w: &b}
	for i, c := range []struct {
		status localapi.Status
		says   []string // none: nothing
		never  string
	}{
		{localapi.Status{}, []string{"Connected as n of site s", "No service is allowed"}, "HERE AT"},
		{localapi.Status{}, nil, ""},
		{localapi.Status{Services: pacs}, []string{"pacs     127.0.0.1:11112  dicom     PACS        pass-through", `"        [::1]:11112`}, "Connected"},
		{localapi.Status{Services: busy}, nil, ""},
		{localapi.Status{Services: busy, Conditions: []health.Condition{{Severity: health.Info, Code: "x", Message: "whatever"}}}, nil, ""},
		{localapi.Status{Services: pacs, Conditions: []health.Condition{trouble}}, []string{"problem: site center has not"}, "127.0.0.1"},
		{localapi.Status{Services: pacs}, []string{"All is well again."}, "127.0.0.1"},
		{localapi.Status{Services: append(pacs[:2:2], ris)}, []string{"ris      127.0.0.1:2575   hl7       -           queued"}, "Connected"},
		{localapi.Status{}, []string{"No service is allowed"}, "127.0.0.1"},
	} {
		b.Reset()
		c.status.Site, c.status.Node = "s", "n"
		if err := v.show(c.status); err != nil {
			t.Fatal(err)
		}
		if c.says == nil && b.Len() > 0 {
			t.Errorf("%d: it says %q though nothing changed", i, &b)
		}
		for _, s := range c.says {
			if !strings.Contains(b.String(), s) {
				t.Errorf("%d: %q does not say %q", i, &b, s)
			}
		}
		if c.never != "" && strings.Contains(b.String(), c.never) {
			t.Errorf("%d: %q says %q", i, &b, c.never)
		}
	}
}

func TestUpInJSON(t *testing.T) {
	var b bytes.Buffer
	v := &upView{w: &b, json: true}
	s := localapi.Status{Site: "s", Node: "n", Services: []localapi.Service{{Name: "pacs", Address: "127.0.0.1:11112", Protocol: "dicom", AETitle: "PACS"}}}
	for range 2 {
		if err := v.show(s); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(b.String(), "\n") != 1 {
		t.Errorf("%q, want one line", &b)
	}
	var got upState
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got.Site != "s" || len(got.Services) != 1 || got.Services[0].At[0] != "127.0.0.1:11112" || got.Services[0].Name != "PACS" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPersonalState(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	for set, want := range map[string]string{
		"": "/home/ann/.local/state/towpath", "/var/ann": "/var/ann/towpath",
		"relative": "/home/ann/.local/state/towpath", // to be ignored, says the specification
	} {
		t.Setenv("XDG_STATE_HOME", set)
		if got, err := personalState(); err != nil || got != want {
			t.Errorf("XDG_STATE_HOME=%s: %s, %v; want %s", set, got, err, want)
		}
	}
}

// A token of a gateway for "towpath up" is refused, stays good for "towpath enroll", and the state of one kind is not run as another.
func TestKindsAreNotMixedUp(t *testing.T) {
	l := newProxyLab(t, "http")
	l.token.URLs = []string{l.origin.URL}
	d := stateDir(t)
	_, err := enroll(t.Context(), d, l.token.Reveal(), enrollOptions{Kind: wire.Workstation})
	var refused *wire.Refusal
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "this token is a gateway's, and not a workstation's") || !strings.Contains(refused.Hint, "towpath enroll") {
		t.Fatalf("a gateway's token: %v", err)
	}
	if _, err := d.Identity(); !errors.Is(err, state.ErrNotEnrolled) {
		t.Errorf("the computer is enrolled all the same: %v", err)
	}
	if _, err := enroll(t.Context(), d, l.token.Reveal(), enrollOptions{Kind: wire.Gateway}); err != nil {
		t.Fatalf("the token is used up: %v", err)
	}
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = up(ctx, d, gatewayOptions{Backend: "netstack", Kind: wire.Workstation}, &upView{w: new(bytes.Buffer)}, log)
	var said *ui.Error
	if !errors.As(err, &said) || !strings.Contains(err.Error(), "the state directory is a gateway's") || !strings.Contains(said.Hint, "towpath gateway") {
		t.Errorf("up with a gateway's state: %v", err)
	}
	if err := runGateway(ctx, d, gatewayOptions{Backend: "netstack", LAN: netip.MustParseAddr("127.0.0.1")}, log); err != nil {
		t.Errorf("gateway with a gateway's state: %v", err)
	}
	if _, err := os.Stat(filepath.Join(d.Path(state.SpoolDir))); err != nil {
		t.Errorf("it has no queue: %v", err)
	}
}
