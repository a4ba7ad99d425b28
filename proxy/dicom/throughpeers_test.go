package dicom_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/spool"
)

// routed runs a Router with one route to a target of the loopback interface.
func routed(t *testing.T, cfg dicom.RouterConfig, route dicom.Route) (address string, results <-chan proxy.Result) {
	t.Helper()
	if route.Mode == dicom.PassThrough {
		route.Network = loopback{}
	}
	cfg.Routes = []dicom.Route{route}
	r, err := dicom.NewRouter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, loopback{}, r)
}

// studyAt stores a phantom's study through us and returns its UID.
func studyAt(t *testing.T, address, called string, slices int) string {
	t.Helper()
	cfg := dicom.StoreConfig{Network: loopback{}, Target: address, CalledAE: called}
	if _, err := dicom.Store(t.Context(), cfg, study(t, slices, 64), nil); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "findscu", "-v", "-S", "-aec", called, "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID",
		"127.0.0.1", port(t, address))
	_, uid, ok := strings.Cut(out, "(0020,000d) UI [")
	if err != nil || !ok {
		t.Fatalf("findscu: %v\n%s", err, out)
	}
	uid, _, _ = strings.Cut(uid, "]")
	return strings.TrimRight(uid, "\x00 ")
}

// TestDcmtkMovesThroughUs has a workstation move a study: the request goes to the archive through one route, and the archive's
// sub-operations come back through others, one passed through and one queued, where the move's originator must be kept.
func TestDcmtkMovesThroughUs(t *testing.T) {
	workstation, dir := storescp(t)
	back, _ := routed(t, dicom.RouterConfig{}, dicom.Route{AETitle: "WS1", Mode: dicom.PassThrough, Target: workstation})
	q := &memoryQueue{}
	queued, _ := routed(t, dicom.RouterConfig{Queue: q}, dicom.Route{AETitle: "WS2", Mode: dicom.Queued, QueueName: "q"})
	archive, _ := qrscp(t, map[string]string{"WS1": port(t, back), "WS2": port(t, queued)})
	address, results := routed(t, dicom.RouterConfig{}, dicom.Route{AETitle: "QRPACS", Mode: dicom.PassThrough, Target: archive})
	uid := studyAt(t, address, "QRPACS", 3)
	for _, destination := range []string{"WS1", "WS2", "NOBODY"} {
		out, err := run(t, "movescu", "-v", "-S", "-aet", "WS1", "-aec", "QRPACS", "-aem", destination, "-k", "QueryRetrieveLevel=STUDY",
			"-k", "StudyInstanceUID="+uid, "127.0.0.1", port(t, address))
		if failed := err != nil || !strings.Contains(out, "Success"); failed != (destination == "NOBODY") {
			t.Errorf("movescu to %s: %v\n%s", destination, err, out)
		}
		if destination == "NOBODY" && !strings.Contains(out, "Destination") {
			t.Errorf("a destination that nobody knows is answered with\n%s", out)
		}
	}
	if got := len(digests(t, dir)); got != 3 {
		t.Errorf("%d objects arrived at the workstation", got)
	}
	items, _ := q.state()
	for _, it := range items {
		if it.Meta.Attributes[dicom.AttrMoveOriginatorAE] != "WS1" {
			t.Errorf("the originator is %q", it.Meta.Attributes[dicom.AttrMoveOriginatorAE])
		}
	}
	if len(items) != 3 {
		t.Errorf("%d objects were queued", len(items))
	}
	for len(results) > 0 {
		if res := <-results; res.Outcome != proxy.OutcomeDone {
			t.Errorf("result %+v", res)
		}
	}
}

// TestDcmtkCancelsThroughUs cancels a query after its first match.
func TestDcmtkCancelsThroughUs(t *testing.T) {
	archive, _ := qrscp(t, nil)
	address, _ := routed(t, dicom.RouterConfig{}, dicom.Route{AETitle: "QRPACS", Mode: dicom.PassThrough, Target: archive})
	uid := studyAt(t, address, "QRPACS", 3)
	out, err := run(t, "findscu", "-d", "-S", "--cancel", "1", "-aec", "QRPACS", "-k", "QueryRetrieveLevel=SERIES", "-k", "StudyInstanceUID="+uid,
		"-k", "SeriesInstanceUID", "127.0.0.1", port(t, address))
	if err != nil || !strings.Contains(out, "Cancel") {
		t.Errorf("findscu --cancel: %v\n%s", err, out)
	}
}

// plannedEntry is one planned examination as a dump of dcmtk's.
const plannedEntry = `(0008,0050) SH [ACC1]
(0010,0010) PN [PHANTOM^PLANNED]
(0010,0020) LO [P1]
(0020,000d) UI [1.2.3.4]
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [CT]
(0040,0001) AE [CT1]
(0040,0002) DA [20260101]
(0040,0003) TM [080000]
(0040,0009) SH [S1]
(fffe,e00d) -
(fffe,e0dd) -
(0040,1003) SH [STAT]
`

// TestDcmtkWorklistThroughUs asks dcmtk's worklist server for what is planned. What it calls urgent is.
func TestDcmtkWorklistThroughUs(t *testing.T) {
	tool(t, "wlmscpfs")
	dir := worklist(t)
	p := freePort(t)
	ris := start(t, "WL", p, "wlmscpfs", "-dfp", dir, "-dfr", p)
	orders := dicom.NewOrders()
	address, results := routed(t, dicom.RouterConfig{Orders: orders}, dicom.Route{AETitle: "WL", Mode: dicom.PassThrough, Target: ris})
	out, err := run(t, "findscu", "-v", "-W", "-aet", "CT1", "-aec", "WL", "-k", "PatientName", "-k", "(0040,0100)[0].Modality=CT",
		"-k", "StudyInstanceUID", "-k", "RequestedProcedurePriority",
		"127.0.0.1", port(t, address))
	if err != nil || !strings.Contains(out, "PHANTOM^PLANNED") {
		t.Errorf("findscu -W: %v\n%s", err, out)
	}
	if res := <-results; res.Outcome != proxy.OutcomeDone {
		t.Errorf("result %+v", res)
	}
	q := &memoryQueue{}
	for study, want := range map[string]int{"1.2.3.4": spool.Urgent, "1.2.3.5": 0} {
		w, err := dicom.Urgency{Orders: orders}.Queue(q).Create(spool.Meta{Attributes: map[string]string{dicom.AttrStudyInstance: study}})
		if err != nil {
			t.Fatal(err)
		}
		if it, err := w.Commit(); err != nil || it.Meta.Priority != want {
			t.Errorf("an object of study %s has priority %d, %v", study, it.Meta.Priority, err)
		}
	}
}

// TestOrthancCommitsThroughUs has a modality ask Orthanc for storage commitment of an object that it has and one that it has not. The
// report comes back on an association of Orthanc's, through a route in the other direction.
func TestOrthancCommitsThroughUs(t *testing.T) {
	tool(t, "Orthanc")
	reports := make(chan string, 1)
	modality, _ := serve(t, loopback{}, proxy.HandlerFunc(func(ctx context.Context, c net.Conn) proxy.Result {
		reports <- takeReport(ctx, c)
		return proxy.Result{}
	}))
	back, _ := routed(t, dicom.RouterConfig{}, dicom.Route{AETitle: "CT1", Mode: dicom.PassThrough, Target: modality})
	target := orthanc(t, "CT1", port(t, back))
	address, _ := routed(t, dicom.RouterConfig{}, dicom.Route{AETitle: "ORTHANC", Mode: dicom.PassThrough, Target: target})
	it, data := phantomItem(t, 0)
	sink := dicom.NewSink(dicom.SinkConfig{Network: loopback{}, Target: address, CalledAE: "ORTHANC"})
	if _, err := sink.Deliver(t.Context(), it, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	sink.Idle()

	class, instance := it.Meta.Attributes[dicom.AttrSOPClass], it.Meta.Attributes[dicom.AttrSOPInstance]
	refer := func(instance string) []byte {
		return implicitEl(0xFFFE, 0xE000, append(implicitUI(0x0008, 0x1150, class), implicitUI(0x0008, 0x1155, instance)...))
	}
	ask := append(implicitUI(0x0008, 0x1195, "2.25.4711"), implicitEl(0x0008, 0x1199, append(refer(instance), refer("1.2.3.4.5")...))...)
	a := associate(t, loopback{}, address, "ORTHANC", context1(dicom.StorageCommitment, implicit))
	rq := dimse.ActionRQ{MessageID: 1, SOPClass: dicom.StorageCommitment, SOPInstance: "1.2.840.10008.1.20.1.1", Action: 1}
	if resp := call(t, a, 1, rq.Set(), bytes.NewReader(ask)); resp.Status != dimse.Success {
		t.Fatalf("answered with %s", resp.Status)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
	report := <-reports
	_, lists, _ := strings.Cut(report, "\x08\x00\x98\x11") // the failed ones come first in the order of tags
	lacking, having, _ := strings.Cut(lists, "\x08\x00\x99\x11")
	if !strings.Contains(report, "2.25.4711") || !strings.Contains(lacking, "1.2.3.4.5") || strings.Contains(lacking, instance) ||
		!strings.Contains(having, instance) {
		t.Errorf("the report is %q", report)
	}
}

// takeReport accepts an association as the user of storage commitment, takes one report and confirms it.
func takeReport(ctx context.Context, c net.Conn) string {
	report, err := func() (string, error) {
		in, err := ul.Receive(ctx, c, ul.Config{})
		if err != nil {
			return "", err
		}
		in.Roles = in.RQ.UserInfo.Roles
		var contexts []pdu.AcceptedContext
		for _, pc := range in.RQ.Contexts {
			contexts = append(contexts, pdu.AcceptedContext{ID: pc.ID, TransferSyntax: implicit})
		}
		a, err := in.Accept(ctx, contexts)
		if err != nil {
			return "", err
		}
		id, b, err := a.Receive(ctx)
		if err != nil {
			return "", err
		}
		set, err := dimse.Decode(b)
		if err != nil {
			return "", err
		}
		data, err := io.ReadAll(a.Data(ctx, id))
		if err != nil {
			return "", err
		}
		answer := dimse.Respond(&set, dimse.Success, "").Set()
		if _, err := a.Send(ctx, id, answer.Encode(), nil); err != nil {
			return "", err
		}
		_, _, _ = a.Receive(ctx) // the release
		return string(data), nil
	}()
	if err != nil {
		return fmt.Sprint("no report: ", err)
	}
	return report
}
