package provisioning_test

import (
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

func TestQueueOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		mode wire.Mode
		o    wire.QueueOptions
		ok   bool
	}{
		"none":         {wire.PassThrough, wire.QueueOptions{}, true},
		"both":         {wire.Queued, wire.QueueOptions{MaxBytes: 16 << 20, MaxItems: 1}, true},
		"not queued":   {wire.PassThrough, wire.QueueOptions{MaxItems: 1}, false},
		"too small":    {wire.Queued, wire.QueueOptions{MaxBytes: 16<<20 - 1}, false},
		"less than 0":  {wire.Queued, wire.QueueOptions{MaxBytes: -1}, false},
		"minus 1 item": {wire.Queued, wire.QueueOptions{MaxItems: -1}, false},
	} {
		s := provisioning.Service{
			ID: provisioning.NewServiceID(), Site: provisioning.NewSiteID(), Name: "pacs", Protocol: wire.DICOM, AETitle: "PACS", Mode: tc.mode,
			Target: "192.0.2.1:104", Port: 11112, Queue: tc.o, Created: time.Now(),
		}
		if err := s.Validate(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
