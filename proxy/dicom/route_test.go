package dicom_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/proxytest"
)

func TestUnknownAETitle(t *testing.T) {
	q := newQueued(t, dicom.Limits{}, "PACS_MAIN", "STORE1")
	for called, hint := range map[string]string{
		"pacs_main": `"PACS_MAIN" is known and upper and lower case count`,
		"PACSMAIN":  `"PACS_MAIN" is known and differs only in blanks`,
		"Pacs Main": `"PACS_MAIN" is known and differs only in blanks`,
		"ELSEWHERE": "known are: PACS_MAIN, STORE1",
	} {
		_, err := dicom.Echo(t.Context(), dicom.EchoConfig{Network: q.network, Target: q.address, CalledAE: called})
		rj, ok := errors.AsType[*ul.RejectedError](err)
		if !ok || rj.RJ != (pdu.AssociateRJ{Result: 1, Source: 1, Reason: 7}) {
			t.Errorf("%q: %v", called, err)
		}
		res := <-q.results
		if res.Outcome != proxy.OutcomeRefused || !strings.Contains(res.Detail, hint) || res.Called != called {
			t.Errorf("%q: %+v", called, res)
		}
	}
	if _, err := dicom.Echo(t.Context(), dicom.EchoConfig{Network: q.network, Target: q.address, CalledAE: "STORE1"}); err != nil {
		t.Error(err)
	}
}

func TestNewRouterChecksRoutes(t *testing.T) {
	n := proxytest.NewNetwork()
	q := &memoryQueue{}
	good := dicom.Route{Service: "s", AETitle: "A", Mode: dicom.Queued, QueueName: "q"}
	for name, cfg := range map[string]dicom.RouterConfig{
		"no routes":           {Queue: q},
		"no queue":            {Routes: []dicom.Route{good}},
		"no queue name":       {Queue: q, Routes: []dicom.Route{{Mode: dicom.Queued}}},
		"no mode":             {Queue: q, Routes: []dicom.Route{{QueueName: "q"}}},
		"no network":          {Routes: []dicom.Route{{Mode: dicom.PassThrough, Target: "192.0.2.1:104"}}},
		"no port":             {Routes: []dicom.Route{{Mode: dicom.PassThrough, Network: n, Target: "pacs"}}},
		"bad AE title":        {Queue: q, Routes: []dicom.Route{{AETitle: "SEVENTEEN-LETTERS", Mode: dicom.Queued, QueueName: "q"}}},
		"AE title used twice": {Queue: q, Routes: []dicom.Route{good, good}},
	} {
		if _, err := dicom.NewRouter(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := dicom.NewRouter(dicom.RouterConfig{Queue: q, Routes: []dicom.Route{good}}); err != nil {
		t.Error(err)
	}
	if got := dicom.Queued.String() + " " + dicom.PassThrough.String(); got != "queued pass-through" {
		t.Errorf("modes print as %s", got)
	}
}
