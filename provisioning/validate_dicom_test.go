package provisioning_test

import (
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestDICOMOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*provisioning.Service)
		why    string // empty for fine
	}{
		"none": {func(*provisioning.Service) {}, ""},
		"all": {func(s *provisioning.Service) {
			s.DICOM = wire.DICOMOptions{
				Hold: true, ProbeAE: "BOX", ReportPort: 104, Callers: `CT, 1\MR1`, Sources: `10.0.0.0/8\fd00::/64`, Classes: `1.2.3\1.2.4`, Rate: 60,
				Approved: true, FarEcho: true, UrgentCallers: `CT1\MR1`, UrgentClasses: "1.2.3", UrgentStat: true,
			}
		}, ""},
		"passed through": {func(s *provisioning.Service) {
			s.Mode, s.DICOM = wire.PassThrough, wire.DICOMOptions{ProbeAE: "BOX", Callers: "CT1", Sources: "10.0.0.0/8", Rate: 1, Approved: true}
		}, ""},
		"of HL7":                  {func(s *provisioning.Service) { s.Protocol, s.AETitle, s.DICOM.Hold = wire.HL7, "", true }, "no options of DICOM"},
		"hold, answering":         {func(s *provisioning.Service) { s.Mode, s.DICOM.Hold = wire.PassThrough, true }, "only a queued service"},
		"urgent, answering":       {func(s *provisioning.Service) { s.Mode, s.DICOM.UrgentCallers = wire.PassThrough, "CT1" }, "pass others"},
		"urgent class, answering": {func(s *provisioning.Service) { s.Mode, s.DICOM.UrgentClasses = wire.PassThrough, "1.2" }, "pass others"},
		"urgent stat, answering":  {func(s *provisioning.Service) { s.Mode, s.DICOM.UrgentStat = wire.PassThrough, true }, "pass others"},
		"urgent caller":           {func(s *provisioning.Service) { s.DICOM.UrgentCallers = "MUCH TOO LONG A TITLE" }, "AE title"},
		"urgent callers":          {func(s *provisioning.Service) { s.DICOM.UrgentCallers = `B\A` }, "urgent AE titles are not sorted"},
		"urgent class":            {func(s *provisioning.Service) { s.DICOM.UrgentClasses = "CT" }, "no UID"},
		"urgent classes":          {func(s *provisioning.Service) { s.DICOM.UrgentClasses = strings.Repeat(`1.2\`, 64) + "1.2" }, "urgent SOP classes are more than 64"},
		"port":                    {func(s *provisioning.Service) { s.DICOM.ReportPort = 65536 }, "no TCP port"},
		"rate":                    {func(s *provisioning.Service) { s.DICOM.Rate = -1 }, "make no sense"},
		"probe AE":                {func(s *provisioning.Service) { s.DICOM.ProbeAE = "MUCH TOO LONG A TITLE" }, "AE title"},
		"caller":                  {func(s *provisioning.Service) { s.DICOM.Callers = `A\` }, "AE title"},
		"callers unsorted":        {func(s *provisioning.Service) { s.DICOM.Callers = `B\A` }, "not sorted"},
		"callers twice":           {func(s *provisioning.Service) { s.DICOM.Callers = `A\A` }, "twice"},
		"source":                  {func(s *provisioning.Service) { s.DICOM.Sources = "10.0.0.1" }, "no prefix"},
		"host bits":               {func(s *provisioning.Service) { s.DICOM.Sources = "10.0.0.1/8" }, "no prefix"},
		"class":                   {func(s *provisioning.Service) { s.DICOM.Classes = "CT" }, "no UID"},
		"classes":                 {func(s *provisioning.Service) { s.DICOM.Classes = strings.Repeat(`1.2\`, 300) + "1.2" }, "more than"},
	} {
		s := provisioning.Service{
			ID: provisioning.NewServiceID(), Site: provisioning.NewSiteID(), Name: "pacs", Protocol: wire.DICOM, Mode: wire.Queued, AETitle: "PACS",
			Target: "192.168.1.9:104", Port: 11112,
		}
		tc.change(&s)
		err := s.Validate()
		if (err == nil) != (tc.why == "") || err != nil && !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%s: %v, want %q", name, err, tc.why)
		}
	}
}
