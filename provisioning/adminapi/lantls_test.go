package adminapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning/adminapi"
	"github.com/towpath/towpath/provisioning/wire"
)

// exerciseLANTLS protects the LAN of praxis-nord, and takes it back.
func exerciseLANTLS(t *testing.T, c *adminapi.Client) {
	t.Helper()
	ctx := t.Context()
	if p := must(c.LANTLS(ctx, "praxis-nord"))(t); p.Policy != nil || p.Site != "praxis-nord" || p.Boxes == nil {
		t.Errorf("from the start: %+v", p)
	}
	policy := &wire.LANTLS{DICOMPort: 2762, HL7Port: 12575, ServerOnly: true, Ports: map[string]uint16{"lab-pacs": 2763}}
	if err := c.SetLANTLS(ctx, "praxis-nord", policy); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(30 * 24 * time.Hour).UTC().Truncate(time.Second)
	r := must(c.SetTransition(ctx, "praxis-nord", adminapi.NewTransition{Step: "start", Device: "192.168.1.40", Service: "lab-pacs", Until: until}))(t)
	if r.Device.String() != "192.168.1.40/32" || r.Service != "lab-pacs" || !r.Until.Equal(until) {
		t.Errorf("the rule is %+v", r)
	}
	p := must(c.LANTLS(ctx, "praxis-nord"))(t).Policy
	if p == nil || !p.ServerOnly || p.Port(wire.DICOM, "lab-pacs") != 2763 || p.Port(wire.DICOM, "other") != 2762 || len(p.Cleartext) != 1 {
		t.Fatalf("the policy is %+v", p)
	}
	if _, err := c.SetTransition(ctx, "praxis-nord", adminapi.NewTransition{Step: "start", Device: "CT1"}); err == nil || !strings.Contains(err.Error(), "no address") {
		t.Errorf("a device without an address: %v", err)
	}
	if err := c.SetLANTLS(ctx, "praxis-nord", nil); err != nil {
		t.Fatal(err)
	}
}
