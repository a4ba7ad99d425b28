package reconcile_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/filter"
)

func fenceMap() (reconcile.Desired, wire.NetMap) {
	m := wire.NetMap{
		Overlay: []netip.Prefix{netip.MustParsePrefix("10.201.0.0/16"), netip.MustParsePrefix("fd7a:10::/48")},
		Hub:     wire.Hub{Address: netip.MustParseAddr("10.99.0.1")},
		Offers: []wire.Offer{
			{Service: "pacs", Protocol: wire.DICOM, Port: 11118, Target: "pacs.lan:4242"},
			{Service: "files", Port: 2579, Target: "folder:x"},
			{Service: "web", Port: 11119, Target: "10.0.0.5:443"},
		},
		Uses: []wire.Use{{Service: "archive", LANPort: 10400, Address: netip.MustParseAddrPort("10.201.9.9:11115")}, {Service: "odd", LANPort: 8080}},
	}
	d := reconcile.Desired{Generation: 7, Listeners: []reconcile.Listener{
		{Side: reconcile.LAN, Address: ":10400"},
		{Side: reconcile.LAN, Address: "10.0.0.1:8080"},
		{Side: reconcile.Overlay, Address: "10.201.4.1:11118"},
		{Side: reconcile.Overlay, Address: "[fd7a:10::4]:11118"},
	}}
	return d, m
}

func TestFirewall(t *testing.T) {
	d, m := fenceMap()
	s := reconcile.Sides{
		LAN: []string{"lan0"}, Attached: []netip.Prefix{netip.MustParsePrefix("10.201.5.0/24"), netip.MustParsePrefix("192.168.1.0/24")},
		Also: []netip.Prefix{netip.MustParsePrefix("141.2.0.0/16")},
	}
	r := reconcile.Firewall(d, m, "tow0", s)
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []uint16{104, 2575, 2761, 2762, 11112, 11118, 4242, 2579, 10400, 11115} {
		if !slices.Contains(r.Ports, p) {
			t.Errorf("port %d is not barred", p)
		}
	}
	for _, p := range []uint16{443, 8080, 22, 0} {
		if slices.Contains(r.Ports, p) {
			t.Errorf("port %d is barred for everybody: the machine would be cut off", p)
		}
	}
	if !slices.Equal(r.Listen, []uint16{10400, 8080}) {
		t.Errorf("listens at %v", r.Listen)
	}
	if want := []netip.AddrPort{netip.MustParseAddrPort("10.201.4.1:11118"), netip.MustParseAddrPort("[fd7a:10::4]:11118")}; !slices.Equal(r.Open, want) {
		t.Errorf("open %v, want %v", r.Open, want)
	}
	if !slices.Contains(r.Overlay, netip.MustParsePrefix("10.99.0.1/32")) || len(r.Overlay) != 3 {
		t.Errorf("overlay %v has not all of the plan and the hub", r.Overlay)
	}
	if !slices.Equal(r.Keep, s.Attached[:1]) || !slices.Equal(r.LAN, s.LAN) || !slices.Equal(r.Also, s.Also) {
		t.Errorf("%+v", r)
	}
}

// wall is a Firewall and a Device that note who comes when.
type wall struct {
	tunnel.Device
	steps       []string
	rules       filter.Ruleset
	fail        error
	deviceFails error
	status      filter.Status
}

func (w *wall) Apply(_ context.Context, r filter.Ruleset) error {
	if w.fail != nil {
		return w.fail
	}
	w.steps, w.rules, w.status = append(w.steps, "firewall"), r, filter.Status{Loaded: true, Intact: true}
	return nil
}

func (w *wall) Status(context.Context) (filter.Status, error) { return w.status, w.fail }
func (w *wall) Remove(context.Context) error                  { return nil }
func (w *wall) Close() error                                  { return nil }

type stage struct {
	tunnel.Device
	w *wall
}

func (s stage) Configure(context.Context, tunnel.Config) error {
	s.w.steps = append(s.w.steps, "device")
	return s.w.deviceFails
}

func TestFirewallFirstAndLast(t *testing.T) {
	d, m := fenceMap()
	d.Listeners = nil
	sides := reconcile.Sides{LAN: []string{"lan0"}}
	d.Firewall = reconcile.Firewall(d, m, "tow0", sides)
	d.Firewall.Open = []netip.AddrPort{netip.MustParseAddrPort("10.201.4.1:104")}
	w, h := &wall{deviceFails: errors.New("no device")}, &health.Set{}
	r := reconcile.NewRunner(reconcile.RunnerConfig{Device: stage{w: w}, Firewall: w, Health: h, Log: slog.New(slog.DiscardHandler)})
	if err := r.Guard(t.Context(), d.Firewall); err != nil || len(w.steps) > 0 {
		t.Errorf("before the first plan: %v, %v", w.steps, err)
	}
	if err := r.Apply(t.Context(), d); err == nil || strings.Join(w.steps, " ") != "firewall device" || len(w.rules.Open) != 0 {
		t.Errorf("without a device: %v, %v, open %v", err, w.steps, w.rules.Open)
	}
	w.deviceFails, w.steps = nil, nil
	if err := r.Apply(t.Context(), d); err != nil || strings.Join(w.steps, " ") != "firewall device firewall" || len(w.rules.Open) != 1 {
		t.Errorf("%v, %v, open %v", err, w.steps, w.rules.Open)
	}
	// The next plan takes the place away: not a moment longer is it open.
	w.steps = nil
	next := d
	next.Firewall.Open = nil
	w.deviceFails = errors.New("no device")
	if err := r.Apply(t.Context(), next); err == nil || len(w.rules.Open) != 0 {
		t.Errorf("%v, open %v", err, w.rules.Open)
	}
	if rules, ok := r.Rules(); !ok || len(rules.Open) != 1 {
		t.Errorf("in force: %v, %v", rules.Open, ok)
	}
	// A firewall that cannot be set keeps the device from being configured; one that does not exist does not.
	w.fail, w.steps, w.deviceFails = errors.New("busy"), nil, nil
	if err := r.Apply(t.Context(), d); err == nil || len(w.steps) != 0 || !h.Has(reconcile.CodeFirewall) {
		t.Errorf("a firewall that fails: %v, %v", err, w.steps)
	}
	w.fail = filter.ErrUnavailable
	if err := r.Apply(t.Context(), d); err != nil || strings.Join(w.steps, " ") != "device" || !h.Has(reconcile.CodeFirewall) {
		t.Errorf("no firewall: %v, %v", err, w.steps)
	}
	w.fail, w.steps = nil, nil
	if err := r.Guard(t.Context(), d.Firewall); err != nil || len(w.steps) != 0 {
		t.Errorf("without a firewall there is nothing to guard: %v, %v", w.steps, err)
	}
	if err := r.Apply(t.Context(), d); err != nil || h.Has(reconcile.CodeFirewall) {
		t.Errorf("again: %v", err)
	}
	for name, c := range map[string]struct {
		status filter.Status
		rules  filter.Ruleset
		want   int
	}{
		"nothing new":       {filter.Status{Loaded: true, Intact: true}, d.Firewall, 0},
		"somebody's hand":   {filter.Status{Loaded: true}, d.Firewall, 1},
		"flushed":           {filter.Status{}, d.Firewall, 1},
		"another interface": {filter.Status{Loaded: true, Intact: true}, reconcile.Firewall(d, m, "tow0", reconcile.Sides{LAN: []string{"lan0", "lan1"}}), 1},
	} {
		w.status = filter.Status{Loaded: true, Intact: true}
		if err := r.Guard(t.Context(), d.Firewall); err != nil { // what the case before has changed
			t.Fatal(err)
		}
		w.status, w.steps = c.status, nil
		if err := r.Guard(t.Context(), c.rules); err != nil || len(w.steps) != c.want {
			t.Errorf("%s: %v, %v", name, w.steps, err)
		}
	}
}

// TestNoSide: a box whose devices cannot come in anywhere says so.
func TestNoSide(t *testing.T) {
	d, m := fenceMap()
	w, h := &wall{}, &health.Set{}
	r := reconcile.NewRunner(reconcile.RunnerConfig{Device: stage{w: w}, Firewall: w, Health: h, Log: slog.New(slog.DiscardHandler)})
	for _, c := range []struct {
		sides reconcile.Sides
		want  bool
	}{{reconcile.Sides{}, true}, {reconcile.Sides{LAN: []string{"lan0"}}, false}, {reconcile.Sides{Shared: []string{"eth0"}}, false}} {
		rules := reconcile.Firewall(d, m, "tow0", c.sides)
		if err := r.Apply(t.Context(), reconcile.Desired{Firewall: rules}); err != nil || h.Has(reconcile.CodeFirewall) != c.want {
			t.Errorf("%+v: %v, %v", c.sides, err, h.List())
		}
	}
}
