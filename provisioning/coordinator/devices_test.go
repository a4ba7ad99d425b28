package coordinator_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

// TestDevicesAreListedAndDecided has a box tell of callers, an operator decide, and the box hear of it.
func TestDevicesAreListedAndDecided(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Center(t, "lab", "")
	n.Clinic(t, "nord")
	box := n.Node(t, "nord")
	ct, mr := netip.MustParseAddr("192.168.1.7"), netip.MustParseAddr("192.168.1.8")
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	called := []wire.DeviceFacts{
		{AETitle: "CT1", Address: ct, First: at, Last: at.Add(time.Hour), Services: []string{"pacs"}},
		{AETitle: "MR1", Address: mr, First: at, Last: at, Services: []string{"pacs"}},
		{AETitle: "", Address: mr},
		{AETitle: "X"},
	}
	if err := n.Report(ctx, deviceBox(box), wire.Report{Format: wire.Format, Facts: wire.Facts{Devices: called}}); err != nil {
		t.Fatal(err)
	}
	decide := func(site, ae string, addr netip.Addr, state coordinator.DeviceState) error {
		return n.DecideDevice(ctx, "test", site, wire.Device{AETitle: ae, Address: addr}, state)
	}
	states := func() map[string]coordinator.DeviceState {
		t.Helper()
		l, err := n.Devices(ctx, "nord")
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]coordinator.DeviceState{}
		for _, d := range l {
			out[d.AETitle+" "+d.Address.String()] = d.State
		}
		return out
	}
	want := map[string]coordinator.DeviceState{"CT1 192.168.1.7": "unknown", "MR1 192.168.1.8": "unknown"}
	if diff := cmp.Diff(want, states()); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	for _, err := range []error{
		decide("nord", "CT1", ct, coordinator.DeviceApproved), decide("nord", "MR1", netip.Addr{}, coordinator.DeviceDenied),
		decide("nord", "US1", netip.Addr{}, coordinator.DeviceApproved),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want = map[string]coordinator.DeviceState{"CT1 192.168.1.7": "approved", "MR1 invalid IP": "denied", "US1 invalid IP": "approved"}
	if diff := cmp.Diff(want, states()); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	devices := []wire.Device{{AETitle: "CT1", Address: ct}, {AETitle: "MR1", Denied: true}, {AETitle: "US1"}}
	m := deviceMap(t, n, box)
	if diff := cmp.Diff(devices, m.Devices, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("the box hears (-want +got):\n%s", diff)
	}
	if err := decide("nord", "MR1", netip.Addr{}, coordinator.DeviceUnknown); err != nil {
		t.Fatal(err)
	}
	if got := states()["MR1 192.168.1.8"]; got != coordinator.DeviceUnknown {
		t.Errorf("taken back, it is %q", got)
	}
	wantCode(t, decide("nord", "MR1", netip.Addr{}, coordinator.DeviceUnknown), provisioning.NotFound, "MR1")
	wantCode(t, decide("nobody", "MR1", netip.Addr{}, coordinator.DeviceApproved), provisioning.NotFound, "nobody")
	wantCode(t, decide("nord", "SEVENTEEN-LETTERS", netip.Addr{}, coordinator.DeviceApproved), provisioning.Invalid, "16")
	wantCode(t, decide("nord", "MR1", netip.MustParseAddr("fe80::1%eth0"), coordinator.DeviceApproved), provisioning.Invalid, "one address")
	wantCode(t, decide("nord", "MR1", ct, "maybe"), provisioning.Invalid, "maybe")
}

// TestServiceOptionsReachTheUsers changes the options of a service, and shows what its archive was found to accept.
func TestServiceOptionsReachTheUsers(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Center(t, "lab", "")
	n.Clinic(t, "nord")
	n.DICOM(t, "lab", "pacs", "PACS")
	if _, err := n.Allow(ctx, "test", "pacs", "nord", 0); err != nil {
		t.Fatal(err)
	}
	if err := n.SetServiceDICOM(ctx, "test", "pacs", wire.DICOMOptions{Hold: true, Callers: `MR1\CT1\MR1`, UrgentCallers: `MR1\CT1`, UrgentClasses: `1.3\1.2\1.3`, UrgentStat: true}); err != nil {
		t.Fatal(err)
	}
	lab := n.Node(t, "lab")
	want := wire.DICOMOptions{Hold: true, Callers: `CT1\MR1`, UrgentCallers: `CT1\MR1`, UrgentClasses: `1.2\1.3`, UrgentStat: true}
	if m := deviceMap(t, n, n.Node(t, "nord")); len(m.Uses) != 1 || m.Uses[0].DICOM != want {
		t.Errorf("the user hears %+v", m.Uses)
	}
	if m := deviceMap(t, n, lab); len(m.Offers) != 1 || m.Offers[0].DICOM != want {
		t.Errorf("the owner hears %+v", m.Offers)
	}
	facts := wire.ArchiveFacts{Service: "pacs", Probed: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), Software: "X", Classes: 3, Pairs: 9}
	if err := n.Report(ctx, deviceBox(lab), wire.Report{Format: wire.Format, Facts: wire.Facts{Archives: []wire.ArchiveFacts{facts}}}); err != nil {
		t.Fatal(err)
	}
	l, err := n.Services(ctx)
	if err != nil || len(l) != 1 || l[0].Archive == nil || *l[0].Archive != facts {
		t.Errorf("%+v, %v", l, err)
	}
	wantCode(t, n.SetServiceDICOM(ctx, "test", "pacs", wire.DICOMOptions{Rate: -1}), provisioning.Invalid, "make no sense")
	wantCode(t, n.SetServiceDICOM(ctx, "test", "none", want), provisioning.NotFound, "none")
	wantCode(t, n.SetServiceHL7(ctx, "test", "pacs", wire.HL7Options{Acks: true}), provisioning.Invalid, "speaks no HL7")
}

// TestHL7OptionsReachTheUsers changes the options of an HL7 service, which may not come into the way of another one.
func TestHL7OptionsReachTheUsers(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Center(t, "lab", "")
	n.Clinic(t, "nord")
	for name, types := range map[string]string{"orders": "ORM", "results": "ORU"} {
		s := coordinator.NewService{Site: "lab", Name: name, Protocol: wire.HL7, Target: "192.168.1.10:2575", HL7: wire.HL7Options{Types: types}}
		if _, err := n.CreateService(ctx, "test", s); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Allow(ctx, "test", name, "nord", 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.SetServiceHL7(ctx, "test", "results", wire.HL7Options{Types: "ORU,ADT", UrgentStat: true, Behind: wire.Stop}); err != nil {
		t.Fatal(err)
	}
	n.Node(t, "lab")
	nord := n.Node(t, "nord")
	want := wire.HL7Options{Types: "ADT,ORU", UrgentStat: true, Behind: wire.Stop}
	heard := func() bool {
		return slices.ContainsFunc(deviceMap(t, n, nord).Uses, func(u wire.Use) bool { return u.Service == "results" && u.HL7 == want })
	}
	if !heard() {
		t.Errorf("the user hears %+v", deviceMap(t, n, nord).Uses)
	}
	for _, o := range []wire.HL7Options{{}, {Types: "ORM^O01,ORU"}} {
		wantCode(t, n.SetServiceHL7(ctx, "test", "results", o), provisioning.Conflict, "orders")
	}
	if err := n.SetServiceHL7(ctx, "test", "results", wire.HL7Options{Copy: true}); err != nil {
		t.Errorf("what takes copies is in nobody's way: %v", err)
	}
	if err := n.SetServiceHL7(ctx, "test", "results", want); err != nil || !heard() {
		t.Errorf("back again: %v", err)
	}
	wantCode(t, n.SetServiceHL7(ctx, "test", "results", wire.HL7Options{Retries: -1}), provisioning.Invalid, "make no sense")
	wantCode(t, n.SetServiceHL7(ctx, "test", "none", want), provisioning.NotFound, "none")
	wantCode(t, n.SetServiceDICOM(ctx, "test", "results", wire.DICOMOptions{Hold: true}), provisioning.Invalid, "speaks no DICOM")
}

func deviceBox(b *provisioningtest.Node) provisioning.NodeID {
	return provisioning.NodeID(b.Map().Self.Node)
}

func deviceMap(t *testing.T, n *provisioningtest.Network, b *provisioningtest.Node) wire.NetMap {
	t.Helper()
	_, m, err := n.NetMapFor(t.Context(), deviceBox(b))
	if err != nil {
		t.Fatal(err)
	}
	return m
}
