package provisioning_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestValidateHL7Options(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*provisioning.Service)
		want   string // part of the message; empty for none
	}{
		"nothing": {func(*provisioning.Service) {}, ""},
		"all of it": {func(s *provisioning.Service) {
			s.HL7 = wire.HL7Options{Types: "ADT,ORM^O01,ORU", Copy: true, Behind: wire.Stop, Retries: 5, AckTimeout: 60, UrgentStat: true}
		}, ""},
		"folder": {func(s *provisioning.Service) { s.Target = "folder:findings" }, ""},
		"GDT": {func(s *provisioning.Service) {
			s.Target, s.HL7.GDT = "folder:results", wire.GDTOptions{Receiver: "PRAX_EDV", Procedure: "EKG01", Charset: 2}
		}, ""},
		"GDT, no folder":   {func(s *provisioning.Service) { s.HL7.GDT.Receiver = "PRAX_EDV" }, "the target is no folder"},
		"GDT, no receiver": {func(s *provisioning.Service) { s.Target, s.HL7.GDT.Charset = "folder:results", 3 }, "GDT-ID of the practice software"},
		"GDT, sender": {func(s *provisioning.Service) {
			s.Target, s.HL7.GDT = "folder:results", wire.GDTOptions{Receiver: "PRAX", Sender: "x"}
		}, "sender's GDT-ID"},
		"GDT, procedure": {func(s *provisioning.Service) {
			s.Target, s.HL7.GDT = "folder:results", wire.GDTOptions{Receiver: "PRAX", Procedure: "ekg"}
		}, "field 8402"},
		"GDT, charset": {func(s *provisioning.Service) {
			s.Target, s.HL7.GDT = "folder:results", wire.GDTOptions{Receiver: "PRAX", Charset: 1}
		}, "character set 1"},
		"urgent, answering": {func(s *provisioning.Service) { s.Mode, s.HL7.UrgentStat = wire.PassThrough, true }, "pass others"},
		"urgent, folder":    {func(s *provisioning.Service) { s.Target, s.HL7.UrgentStat = "folder:x", true }, "pass others"},
		"own types":         {func(s *provisioning.Service) { s.HL7.Types = "ZAB^Z01" }, ""},
		"lower case":        {func(s *provisioning.Service) { s.HL7.Types = "oru" }, `"oru" is no HL7 message type`},
		"structure":         {func(s *provisioning.Service) { s.HL7.Types = "ORU^R01^ORU_R01" }, "is no HL7 message type"},
		"empty trigger":     {func(s *provisioning.Service) { s.HL7.Types = "ORU^" }, "is no HL7 message type"},
		"empty type":        {func(s *provisioning.Service) { s.HL7.Types = "ORM,,ORU" }, "is no HL7 message type"},
		"contained":         {func(s *provisioning.Service) { s.HL7.Types = "ORU,ORU^R01" }, "contained"},
		"twice":             {func(s *provisioning.Service) { s.HL7.Types = "ORU,ORU" }, "twice"},
		"not sorted":        {func(s *provisioning.Service) { s.HL7.Types = "ORU,ORM" }, "not sorted"},
		"too many":          {func(s *provisioning.Service) { s.HL7.Types = strings.Repeat("ORU,", 70) + "ORU" }, "more than 64"},
		"of DICOM":          {func(s *provisioning.Service) { s.Protocol, s.AETitle, s.HL7.Copy = wire.DICOM, "A", true }, "no options of HL7"},
		"copy, answering":   {func(s *provisioning.Service) { s.Mode, s.HL7.Copy = wire.PassThrough, true }, "must be queued"},
		"behind":            {func(s *provisioning.Service) { s.HL7.Behind = "wait" }, `"wait"`},
		"stop, answering":   {func(s *provisioning.Service) { s.Mode, s.HL7.Behind = wire.PassThrough, wire.Stop }, "only a queued service"},
		"retries":           {func(s *provisioning.Service) { s.HL7.Retries = -1 }, "retries make no sense"},
		"retries no end":    {func(s *provisioning.Service) { s.HL7.Retries = 1001 }, "retries make no sense"},
		"time-out":          {func(s *provisioning.Service) { s.HL7.AckTimeout = 3601 }, "cannot take"},
		"folder of DICOM":   {func(s *provisioning.Service) { s.Protocol, s.AETitle, s.Target = wire.DICOM, "A", "folder:x" }, "only an HL7 service"},
		"folder answering":  {func(s *provisioning.Service) { s.Mode, s.Target = wire.PassThrough, "folder:x" }, "cannot answer"},
		"folder confirms":   {func(s *provisioning.Service) { s.HL7.CommitTarget, s.Target = true, "folder:x" }, "commit"},
		"folder outside":    {func(s *provisioning.Service) { s.Target = "folder:../x" }, "name"},
		"folder unnamed":    {func(s *provisioning.Service) { s.Target = "folder:" }, "no name"},
	} {
		s := provisioning.Service{
			ID: provisioning.NewServiceID(), Site: provisioning.NewSiteID(), Name: "orders", Protocol: wire.HL7, Mode: wire.Queued,
			Target: "192.168.1.9:2575", Port: 2575,
		}
		tc.change(&s)
		err := s.Validate()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		case err != nil:
			if e, ok := errors.AsType[*provisioning.Error](err); !ok || e.Code != provisioning.Invalid || e.Hint == "" {
				t.Errorf("%s: no hint", name)
			}
		}
	}
}
