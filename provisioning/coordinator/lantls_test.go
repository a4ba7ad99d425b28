package coordinator_test

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

// transitionNetwork has a clinic with a box, which may use a PACS and takes TLS, and a clock that the test moves.
func transitionNetwork(t *testing.T) (*provisioningtest.Network, *provisioningtest.Node, func(time.Duration) time.Time) {
	t.Helper()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	n := newNetwork(t, provisioningtest.Options{Now: func() time.Time { return now }})
	n.Center(t, "lab", "")
	n.Clinic(t, "nord")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.Grant(t, "pacs", "nord")
	box := n.Node(t, "nord")
	return n, box, func(d time.Duration) time.Time { now = now.Add(d); return now }
}

func TestSetLANTLS(t *testing.T) {
	n, _, _ := transitionNetwork(t)
	ctx := t.Context()
	if err := n.SetLANTLS(ctx, "test", "nord", &wire.LANTLS{DICOMPort: 2762, HL7Port: 12575, Cleartext: []wire.CleartextRule{{Until: time.Unix(1e9, 0)}}}); err != nil {
		t.Fatal(err)
	}
	info, err := n.LANTLS(ctx, "nord")
	if err != nil || info.Policy.DICOMPort != 2762 || info.Policy.Cleartext != nil {
		t.Errorf("%+v, %v: rules are the transition's", info.Policy, err)
	}
	one := netip.MustParsePrefix("192.168.1.40/32")
	for name, c := range map[string]struct {
		policy wire.LANTLS
		code   provisioning.Code
		says   string
	}{
		"a cleartext port":      {wire.LANTLS{DICOMPort: 11112}, provisioning.Conflict, "11112"},
		"one port for both":     {wire.LANTLS{DICOMPort: 2762, HL7Port: 2762}, provisioning.Invalid, "2762"},
		"a name":                {wire.LANTLS{Names: []string{"no name"}}, provisioning.Invalid, "no name"},
		"an authority":          {wire.LANTLS{Trust: "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"}, provisioning.Invalid, "no keys"},
		"a broken authority":    {wire.LANTLS{Trust: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"}, provisioning.Invalid, "cannot be read"},
		"a serial number":       {wire.LANTLS{Revoked: []string{"00AB"}}, provisioning.Invalid, "00AB"},
		"an older TLS for many": {wire.LANTLS{Legacy: []wire.LegacyTLS{{Device: netip.MustParsePrefix("192.168.1.0/24"), Profile: wire.LegacyTLS10}}}, provisioning.Invalid, "one device"},
		"an older TLS":          {wire.LANTLS{Legacy: []wire.LegacyTLS{{Device: one, Profile: "ssl3"}}}, provisioning.Invalid, "ssl3"},
		"a target elsewhere":    {wire.LANTLS{Targets: []wire.TLSTarget{{Service: "pacs", Verify: wire.VerifySite}}}, provisioning.Invalid, "own LAN"},
		"an unknown target":     {wire.LANTLS{Targets: []wire.TLSTarget{{Service: "ris", Verify: wire.VerifySite}}}, provisioning.NotFound, "ris"},
		"a pin":                 {wire.LANTLS{Targets: []wire.TLSTarget{{Service: "pacs", Verify: wire.VerifyPin, Pin: "12"}}}, provisioning.Invalid, "SHA-256"},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, n.SetLANTLS(ctx, "test", "nord", &c.policy), c.code, c.says) })
	}
	n.DICOM(t, "lab", "second", "SECOND")
	wantCode(t, reason(n.Allow(ctx, "test", "second", "nord", 2762)), provisioning.Conflict, "2762", "TLS")
	if err := n.SetLANTLS(ctx, "test", "lab", &wire.LANTLS{Targets: []wire.TLSTarget{{Service: "pacs", Verify: wire.VerifySite}}}); err != nil {
		t.Error("the target of its own service:", err)
	}
}

func TestTransitionSteps(t *testing.T) {
	n, box, pass := transitionNetwork(t)
	ctx := t.Context()
	do := func(tr coordinator.Transition) error { return reason(n.SetTransition(ctx, "test", "nord", tr)) }
	wantCode(t, do(coordinator.Transition{Step: coordinator.TransitionStart}), provisioning.Conflict, "towpath tls set nord")
	if err := n.SetLANTLS(ctx, "test", "nord", &wire.LANTLS{DICOMPort: 2762}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, do(coordinator.Transition{Step: coordinator.TransitionExtend}), provisioning.NotFound, "towpath transition start")
	wantCode(t, do(coordinator.Transition{Step: "stop"}), provisioning.Invalid, "rollback")
	wantCode(t, do(coordinator.Transition{Step: coordinator.TransitionStart, Until: pass(0)}), provisioning.Invalid, "has passed")
	wantCode(t, do(coordinator.Transition{Step: coordinator.TransitionStart, Service: "ris"}), provisioning.NotFound, "ris")

	now := pass(0)
	ct, us := netip.MustParsePrefix("192.168.1.40/32"), netip.MustParsePrefix("192.168.1.41/32")
	rules := func() []wire.CleartextRule {
		t.Helper()
		_, m, err := n.NetMapFor(ctx, box.ID)
		if err != nil {
			t.Fatal(err)
		}
		return m.LANTLS.Cleartext
	}
	for _, tr := range []coordinator.Transition{
		{Step: coordinator.TransitionStart},
		{Step: coordinator.TransitionStart, Device: us, Never: true},
		{Step: coordinator.TransitionStart, Device: ct, Until: now.Add(time.Hour)},
	} {
		if err := do(tr); err != nil {
			t.Fatal(err)
		}
	}
	want := []wire.CleartextRule{{Device: ct, Until: now.Add(time.Hour)}, {Device: us}, {Until: now.Add(14 * 24 * time.Hour)}}
	if got := rules(); !reflect.DeepEqual(got, want) {
		t.Errorf("the box has %v", got)
	}
	if err := do(coordinator.Transition{Step: coordinator.TransitionExtend}); err != nil {
		t.Fatal(err)
	}
	if got := rules()[2].Until; !got.Equal(now.Add(28 * 24 * time.Hour)) {
		t.Errorf("extended to %v", got)
	}

	// An early end is refused while somebody needs cleartext.
	now = pass(2 * time.Hour)
	report := wire.Report{Format: 1, Facts: wire.Facts{LANTLS: &wire.LANReport{Authority: "no certificate", Devices: []wire.LANDevice{
		{Source: us.Addr(), Calling: "US\x1b1", Service: "pacs", Protocol: wire.DICOM, Cleartext: 3, LastCleartext: now.Add(-time.Hour)},
		{Source: ct.Addr(), Calling: "CT1", Service: "pacs", Protocol: wire.DICOM, Cleartext: 3, LastCleartext: now.Add(-time.Hour), TLS: 1, LastTLS: now},
		{Source: netip.MustParseAddr("192.168.1.42"), Calling: "OLD", Service: "pacs", Protocol: wire.DICOM, Cleartext: 3, LastCleartext: now.Add(-8 * 24 * time.Hour)},
		{Calling: "NOWHERE"},
	}}}}
	if err := n.Report(ctx, box.ID, report); err != nil {
		t.Fatal(err)
	}
	info, err := n.LANTLS(ctx, "nord")
	if err != nil || len(info.Boxes) != 1 || len(info.Boxes[0].Devices) != 3 || info.Boxes[0].Devices[0].Calling != "US1" || info.Boxes[0].Authority != "" {
		t.Fatalf("%+v, %v", info, err)
	}
	err = do(coordinator.Transition{Step: coordinator.TransitionEnd})
	wantCode(t, err, provisioning.Conflict, "1 devices", "US1 192.168.1.41", "--force")
	if strings.Contains(err.Error(), "CT1") || strings.Contains(err.Error(), "OLD") {
		t.Error("it names devices that have moved:", err)
	}
	if err := do(coordinator.Transition{Step: coordinator.TransitionEnd, Device: ct}); err != nil {
		t.Error("the end for one that has moved:", err)
	}
	if err := do(coordinator.Transition{Step: coordinator.TransitionEnd, Force: true}); err != nil {
		t.Fatal(err)
	}
	want = []wire.CleartextRule{{Device: ct, Until: now}, {Device: us}, {Until: now}}
	if got := rules(); !reflect.DeepEqual(got, want) {
		t.Errorf("after the end the box has %v", got)
	}
	if err := do(coordinator.Transition{Step: coordinator.TransitionRollback}); err != nil {
		t.Fatal(err)
	}
	want = []wire.CleartextRule{{Device: us}, {Until: now.Add(14 * 24 * time.Hour)}}
	if got := rules(); !reflect.DeepEqual(got, want) {
		t.Errorf("after the rollback the box has %v", got)
	}

	events, err := n.Events(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{"lan-tls.set", "transition.start", "transition.extend", "transition.end", "transition.rollback"} {
		if !slices.ContainsFunc(events, func(e provisioning.Event) bool { return e.Action == action && e.Subject == "nord" && e.Detail != "" }) {
			t.Errorf("no event %s", action)
		}
	}
	if err := n.SetLANTLS(ctx, "test", "nord", nil); err != nil {
		t.Fatal(err)
	}
	if _, m, err := n.NetMapFor(ctx, box.ID); err != nil || m.LANTLS != nil {
		t.Error("switched off:", m.LANTLS, err)
	}
}
