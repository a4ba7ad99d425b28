package provisioning_test

import (
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestCheckPoll(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*provisioning.Service, *wire.PollOptions)
		says   string
	}{
		"right": {func(*provisioning.Service, *wire.PollOptions) {}, ""},
		"all of it": {func(_ *provisioning.Service, o *wire.PollOptions) {
			*o = wire.PollOptions{Target: "pacs.local:104", CalledAE: "PACS", CallingAE: "BOX", Move: true, Since: "2026-11-22", Every: 60, Overlap: 3600, Settle: 1, Hours: "22:00-06:00", Modalities: "CT,MR"}
		}, ""},
		"none":            {func(_ *provisioning.Service, o *wire.PollOptions) { *o = wire.PollOptions{} }, ""},
		"HL7":             {func(s *provisioning.Service, _ *wire.PollOptions) { s.Protocol = wire.HL7 }, "queued DICOM services only"},
		"pass-through":    {func(s *provisioning.Service, _ *wire.PollOptions) { s.Mode = wire.PassThrough }, "queued DICOM services only"},
		"target":          {func(_ *provisioning.Service, o *wire.PollOptions) { o.Target = "pacs" }, "target"},
		"no title":        {func(_ *provisioning.Service, o *wire.PollOptions) { o.CalledAE = "" }, "AE title"},
		"calling title":   {func(_ *provisioning.Service, o *wire.PollOptions) { o.CallingAE = strings.Repeat("A", 17) }, "AE title"},
		"day":             {func(_ *provisioning.Service, o *wire.PollOptions) { o.Since = "22.11.2026" }, "day of the oldest study"},
		"too often":       {func(_ *provisioning.Service, o *wire.PollOptions) { o.Every = 9 }, "every 9 seconds"},
		"negative":        {func(_ *provisioning.Service, o *wire.PollOptions) { o.Settle = -1 }, "negative"},
		"hours":           {func(_ *provisioning.Service, o *wire.PollOptions) { o.Hours = "22:00-24:00" }, "no hours"},
		"signed hours":    {func(_ *provisioning.Service, o *wire.PollOptions) { o.Hours = "22:00--1:00" }, "no hours"},
		"same hours":      {func(_ *provisioning.Service, o *wire.PollOptions) { o.Hours = "06:00-06:00" }, "no hours"},
		"modality":        {func(_ *provisioning.Service, o *wire.PollOptions) { o.Modalities = "ct" }, "no modality"},
		"modality twice":  {func(_ *provisioning.Service, o *wire.PollOptions) { o.Modalities = "CT,CT" }, "sorted"},
		"modality, empty": {func(_ *provisioning.Service, o *wire.PollOptions) { o.Modalities = "CT,,MR" }, "no modality"},
	} {
		t.Run(name, func(t *testing.T) {
			s := provisioning.Service{Name: "archive", Protocol: wire.DICOM, Mode: wire.Queued}
			o := wire.PollOptions{Target: "10.0.0.1:104", CalledAE: "PACS", Since: "2026-11-22"}
			tt.change(&s, &o)
			err := provisioning.CheckPoll(s, o)
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}
