package coordinator_test

import (
	"slices"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestServices(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Center(t, "lab", "")
	n.Center(t, "other", "")
	for i, want := range []uint16{11112, 11113, 11114} {
		if v := n.DICOM(t, "lab", "pacs-"+string(rune('a'+i)), "PACS"); v.Port != want || v.Mode != wire.Queued {
			t.Errorf("service %d has port %d and mode %s", i, v.Port, v.Mode)
		}
	}
	if err := n.RemoveService(ctx, "test", "pacs-b"); err != nil {
		t.Fatal(err)
	}
	if v := n.DICOM(t, "lab", "pacs-d", "D"); v.Port != 11113 {
		t.Errorf("the freed port was not taken: %d", v.Port)
	}
	if v := n.DICOM(t, "other", "elsewhere", "D"); v.Port != 11112 {
		t.Errorf("another site starts at port %d", v.Port)
	}
	hl7 := coordinator.NewService{Site: "lab", Name: "his", Protocol: wire.HL7, Receiver: " HIS^WARD ", Target: "his:2575"}
	if v, err := n.CreateService(ctx, "test", hl7); err != nil || v.Port != 2575 || v.Receiver != "HIS^WARD" {
		t.Errorf("the HL7 service is %+v (%v)", v, err)
	}
	good := coordinator.NewService{Site: "lab", Name: "x", Protocol: wire.DICOM, AETitle: "X", Target: "192.168.1.2:104"}
	for name, tc := range map[string]struct {
		edit func(*coordinator.NewService)
		code provisioning.Code
		says string
	}{
		"taken name":      {func(v *coordinator.NewService) { v.Name = "his" }, provisioning.Conflict, "his"},
		"no such site":    {func(v *coordinator.NewService) { v.Site = "nobody" }, provisioning.NotFound, "nobody"},
		"AE title":        {func(v *coordinator.NewService) { v.AETitle = "SEVENTEEN-LETTERS" }, provisioning.Invalid, "16"},
		"no AE title":     {func(v *coordinator.NewService) { v.AETitle = "" }, provisioning.Invalid, "AE title"},
		"receiver":        {func(v *coordinator.NewService) { v.Receiver = "HIS" }, provisioning.Invalid, "receiver"},
		"protocol":        {func(v *coordinator.NewService) { v.Protocol = "fhir" }, provisioning.Invalid, "fhir"},
		"mode":            {func(v *coordinator.NewService) { v.Mode = "both" }, provisioning.Invalid, "both"},
		"target":          {func(v *coordinator.NewService) { v.Target = "192.168.1.2" }, provisioning.Invalid, "104"},
		"target in pool":  {func(v *coordinator.NewService) { v.Target = "10.201.9.9:104" }, provisioning.Invalid, "10.201.0.0/16"},
		"mapped in pool":  {func(v *coordinator.NewService) { v.Target = "[::ffff:10.201.9.9]:104" }, provisioning.Invalid, "10.201.0.0/16"},
		"HL7 with a name": {func(v *coordinator.NewService) { v.Protocol = wire.HL7 }, provisioning.Invalid, "AE title"},
	} {
		v := good
		tc.edit(&v)
		err := reason(n.CreateService(ctx, "test", v))
		t.Run(name, func(t *testing.T) { wantCode(t, err, tc.code, tc.says) })
	}
	wantCode(t, n.RemoveService(ctx, "test", "nothing"), provisioning.NotFound, "nothing")
}

func TestGrants(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	ctx := t.Context()
	n.Center(t, "lab", "")
	n.Center(t, "radio", "")
	n.Clinic(t, "nord")
	n.Clinic(t, "sued")
	n.DICOM(t, "lab", "pacs", "PACS")
	n.DICOM(t, "radio", "twin", "pacs")
	n.DICOM(t, "radio", "archive", "ARCHIVE")
	n.DICOM(t, "nord", "nord-store", "NORD")
	for _, r := range []struct{ name, receiver string }{{"all", ""}, {"his", "HIS"}, {"ward", "HIS^WARD"}} {
		if _, err := n.CreateService(ctx, "test", coordinator.NewService{Site: "lab", Name: r.name, Protocol: wire.HL7, Receiver: r.receiver, Target: "h:2575"}); err != nil {
			t.Fatal(err)
		}
	}
	allow := func(service, site string, port uint16) error {
		return reason(n.Allow(ctx, "test", service, site, port))
	}
	for _, step := range []struct {
		service, site string
		port          uint16
		code          provisioning.Code
		says          string
	}{
		{"pacs", "nord", 0, "", ""},
		{"pacs", "nord", 999, provisioning.Conflict, "may use pacs already"},
		{"archive", "nord", 0, "", ""}, // another AE title behind the same port
		{"twin", "nord", 0, provisioning.Conflict, "AE title pacs"},
		{"twin", "nord", 104, "", ""},
		{"his", "nord", 11112, provisioning.Conflict, "hl7 beside dicom"},
		{"his", "nord", 0, "", ""},
		{"ward", "nord", 0, provisioning.Conflict, "receiver HIS^WARD"},
		{"all", "nord", 0, provisioning.Conflict, "takes every message"},
		{"all", "nord", 2576, "", ""},
		{"nord-store", "sued", 0, provisioning.Denied, "two clinics never meet"},
		{"nord-store", "nord", 0, "", ""},
		{"nord-store", "lab", 0, "", ""},
		{"pacs", "radio", 0, "", ""},
		{"nothing", "nord", 0, provisioning.NotFound, "nothing"},
		{"pacs", "nobody", 0, provisioning.NotFound, "nobody"},
	} {
		err := allow(step.service, step.site, step.port)
		switch {
		case step.code == "" && err != nil:
			t.Errorf("%s to %s: %v", step.service, step.site, err)
		case step.code != "":
			wantCode(t, err, step.code, step.says)
		}
	}
	grants, err := n.Grants(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range grants {
		got = append(got, g.ServiceName+" of "+g.OwnerName+" to "+g.SiteName)
	}
	want := []string{
		"all of lab to nord", "archive of radio to nord", "his of lab to nord", "nord-store of nord to lab", "nord-store of nord to nord", "pacs of lab to nord",
		"pacs of lab to radio", "twin of radio to nord",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the grants are %q", got)
	}
	wantCode(t, n.RemoveService(ctx, "test", "pacs"), provisioning.Conflict, "nord", "radio")
	if err := n.Disallow(ctx, "test", "pacs", "radio"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, n.Disallow(ctx, "test", "pacs", "radio"), provisioning.NotFound, "not allowed")
	if err := n.Disallow(ctx, "test", "pacs", "nord"); err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveService(ctx, "test", "pacs"); err != nil {
		t.Error(err)
	}
}
