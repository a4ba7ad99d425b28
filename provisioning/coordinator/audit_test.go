package coordinator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestReportIsCleanedAndBounded(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Clinic(t, "a")
	box := n.Node(t, "a")
	long := strings.Repeat("ä", 4000)
	r := wire.Report{Format: 1, Applied: 9, ApplyError: "bad\x1b[31m\nthing" + long, Facts: wire.Facts{Hostname: "h\u202egnp"}}
	for range 1000 {
		r.Conditions = append(r.Conditions, wire.Condition{Code: "c", Severity: "catastrophe", Message: long})
		r.Queues = append(r.Queues, wire.Queue{Name: "q", Queued: -1, Bytes: -5})
	}
	if err := n.Report(t.Context(), box.ID, r); err != nil {
		t.Fatal(err)
	}
	i := nodeInfo(t, n, box.ID)
	if i.Applied != 9 || len(i.ApplyError) > 512 || !strings.HasPrefix(i.ApplyError, "bad[31m thingää") || i.LastSeen.IsZero() || i.Facts.Hostname != "hgnp" {
		t.Errorf("stored: applied %d, %d bytes of error %.30q, hostname %q", i.Applied, len(i.ApplyError), i.ApplyError, i.Facts.Hostname)
	}
	if len(i.Conditions) != 64 || i.Conditions[0].Severity != "warning" || len(i.Conditions[0].Message) > 512 {
		t.Errorf("stored: %d conditions, the first %+v", len(i.Conditions), i.Conditions[0])
	}
	if len(i.Queues) != 256 || i.Queues[0].Queued != 0 || i.Queues[0].Bytes != 0 {
		t.Errorf("stored: %d queues, the first %+v", len(i.Queues), i.Queues[0])
	}
	wantCode(t, n.Report(t.Context(), box.ID, wire.Report{Format: 99}), provisioning.Invalid, "99")
	n.Remove(t, box.ID)
	wantCode(t, n.Report(t.Context(), box.ID, r), provisioning.Denied, "removed")
}

func TestEveryChangeIsAudited(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	n.Center(t, "lab", "")
	n.Clinic(t, "nord")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.Grant(t, "pacs", "nord")
	box := n.Node(t, "nord")
	n.Remove(t, box.ID)
	ctx := t.Context()
	r, err := n.AddRange(ctx, "test", coordinator.NewRange{Kind: provisioning.RangeReserved, Prefix: prefix("10.201.7.0/24")})
	if err != nil {
		t.Fatal(err)
	}
	spare := n.Token(t, "nord")
	for _, err := range []error{
		n.RemoveRange(ctx, "test", r.ID), n.SetSiteEndpoint(ctx, "test", "lab", "h:1"), n.RevokeToken(ctx, "test", provisioning.TokenID(spare.ID)),
		n.Disallow(ctx, "test", "pacs", "nord"), n.RemoveService(ctx, "test", "pacs"), n.RemoveSite(ctx, "test\n", "lab"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	events, err := n.Events(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Action)
		if strings.HasPrefix(e.Actor, "test") && e.Actor != "test" {
			t.Errorf("the actor is %q", e.Actor)
		}
	}
	want := []string{
		"network.init", "site.create", "site.create", "service.create", "grant.allow", "token.create", "node.enroll", "node.remove", "range.add",
		"token.create", "range.remove", "site.endpoint", "token.revoke", "grant.disallow", "service.remove", "site.remove",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the trail is %q, want %q", got, want)
	}
	if broken, err := n.VerifyEvents(ctx); err != nil || broken != 0 {
		t.Errorf("the trail is broken at %d (%v)", broken, err)
	}
}
