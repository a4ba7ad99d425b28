package gateway

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
)

// TestDevicesCallAndAreDecided lets two devices call, decides on one by the plan, and restarts.
func TestDevicesCallAndAreDecided(t *testing.T) {
	b := newBox(t)
	r, err := dicom.NewRouter(dicom.RouterConfig{
		Queue: b.opt.Spool, Devices: b.devices,
		Routes: []dicom.Route{{Service: "pacs", Mode: dicom.Queued, QueueName: "dicom.pacs", Rules: dicom.Rules{Approved: true, Site: "north"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	target := serveDICOM(t, r)
	call := func(ae string) error {
		_, err := dicom.Echo(t.Context(), dicom.EchoConfig{Network: b.lan, Target: target, CallingAE: ae, CalledAE: "PACS"})
		return err
	}
	for _, ae := range []string{"CT1", "MR1"} {
		if err := call(ae); err == nil || !strings.Contains(err.Error(), "does not know our AE title") {
			t.Errorf("%s: %v", ae, err)
		}
	}
	m := b.m
	m.Uses = []wire.Use{{Service: "pacs", Protocol: wire.DICOM, DICOM: wire.DICOMOptions{Approved: true}}}
	now := time.Now()
	b.observeDevices(m, now)
	if got := b.conditionsOf(codeDevices); got[codeDevices] != health.Info {
		t.Errorf("conditions %v", got)
	}
	m.Devices = []wire.Device{{AETitle: "CT1", Address: netip.MustParseAddr("127.0.0.1")}, {AETitle: "MR1", Denied: true}}
	b.devices.Decide(decisionsOf(m))
	if err := call("CT1"); err != nil {
		t.Errorf("the approved device: %v", err)
	}
	if err := call("MR1"); err == nil {
		t.Error("the denied device got in")
	}
	b.observeDevices(m, now)
	if got := b.conditionsOf(codeDevices); len(got) != 0 {
		t.Errorf("all is decided, and there is %v", got)
	}
	if f := deviceFacts(b.devices.List()); len(f) != 2 || f[0].AETitle != "MR1" || len(f[0].Services) != 1 || f[0].First.IsZero() {
		t.Errorf("the coordinator hears %+v", f)
	}
	if l := openDevices(b.opt).List(); len(l) != 2 || l[0].AETitle != "CT1" || l[0].State != "unknown" {
		t.Errorf("after a restart: %+v", l)
	}
	if st := b.Status(t.Context()); len(st.Devices) != 2 || st.Devices[1].State != "denied" {
		t.Errorf("status %+v", st.Devices)
	}
}

func TestCommitmentConditions(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	c := reconcile.CommitmentCounts{Queue: "dicom.pacs", PledgeCounts: dicom.PledgeCounts{Waiting: 1, Untold: 2, Oldest: at, Problem: "PACS is busy"}}
	if s := commitmentText(c, at.Add(time.Hour)); !strings.Contains(s, "PACS is busy") || !strings.Contains(s, "2 outcomes") {
		t.Errorf("told is %q", s)
	}
	if s := commitmentText(c, at.Add(time.Minute)); s != "" {
		t.Errorf("after a minute: %q", s)
	}
	c.Problem = ""
	if s := commitmentText(c, at.Add(time.Hour)); s != "" {
		t.Errorf("without a problem: %q", s)
	}
}
