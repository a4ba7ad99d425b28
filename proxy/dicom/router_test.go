package dicom_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

const (
	ctStorage = "1.2.840.10008.5.1.4.1.1.2"
	explicit  = dicom.ExplicitLittleEndian
	implicit  = dicom.ImplicitLittleEndian
	jpeg2000  = "1.2.840.10008.1.2.4.90"
	findStudy = "1.2.840.10008.5.1.4.1.2.2.1"
)

// queued is a Router with one queued route and what it serves on.
type queued struct {
	queue   *memoryQueue
	network *proxytest.Network
	address string
	results <-chan proxy.Result
}

func newQueued(t *testing.T, limits dicom.Limits, titles ...string) *queued {
	t.Helper()
	limits.Close = 10 * time.Millisecond // the hand-made peers do not hang up after a goodbye
	q := &queued{queue: &memoryQueue{}, network: proxytest.NewNetwork()}
	var routes []dicom.Route
	for _, title := range titles {
		routes = append(routes, dicom.Route{Service: "images", AETitle: title, Mode: dicom.Queued, QueueName: "to-center"})
	}
	r, err := dicom.NewRouter(dicom.RouterConfig{Routes: routes, Queue: q.queue, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	q.address, q.results = serve(t, q.network, r)
	return q
}

// associate opens an association by hand, one context for each pair of abstract and transfer syntax.
func associate(t *testing.T, n proxy.Network, address, called string, contexts ...pdu.ProposedContext) *ul.Association {
	t.Helper()
	c, err := n.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for i := range contexts {
		contexts[i].ID = uint8(2*i + 1)
	}
	a, err := ul.Request(t.Context(), c, ul.Proposal{CallingAE: "CT1", CalledAE: called, Contexts: contexts}, ul.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func context1(abstract string, syntaxes ...string) pdu.ProposedContext {
	return pdu.ProposedContext{AbstractSyntax: abstract, TransferSyntaxes: syntaxes}
}

// call sends a command and returns the response.
func call(t *testing.T, a *ul.Association, id uint8, set dimse.Set, data io.Reader) dimse.Response {
	t.Helper()
	if _, err := a.Send(t.Context(), id, set.Encode(), data); err != nil {
		t.Fatal(err)
	}
	_, b, err := a.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	back, err := dimse.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := dimse.ParseResponse(&back)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func release(t *testing.T, a *ul.Association, results <-chan proxy.Result) proxy.Result {
	t.Helper()
	if err := a.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	return <-results
}

func TestQueuedStore(t *testing.T) {
	q := newQueued(t, dicom.Limits{}, "TOWPATH")
	a := associate(t, q.network, q.address, "TOWPATH", context1(ctStorage, explicit), context1(dicom.Verification, implicit))
	data := bytes.Repeat([]byte("pixels"), 100000)
	rq := dimse.StoreRQ{
		MessageID: 9, SOPClass: ctStorage, SOPInstance: "1.2.3.4", HasDataSet: true, MoveOriginatorAE: "WS1", MoveOriginatorMessage: 77,
	}
	resp := call(t, a, 1, rq.Set(), bytes.NewReader(data))
	want := dimse.Response{To: dimse.CStoreRQ, MessageID: 9, SOPClass: ctStorage, SOPInstance: "1.2.3.4"}
	if diff := cmp.Diff(want, resp); diff != "" {
		t.Error(diff)
	}
	echo := call(t, a, 3, dimse.EchoRQ{MessageID: 10, SOPClass: dicom.Verification}.Set(), nil)
	if echo.To != dimse.CEchoRQ || echo.Status != dimse.Success || echo.MessageID != 10 {
		t.Errorf("echo answered with %+v", echo)
	}
	res := release(t, a, q.results)
	if diff := cmp.Diff(proxy.Result{Outcome: proxy.OutcomeDone, Calling: "CT1", Called: "TOWPATH", Items: 1}, res); diff != "" {
		t.Error(diff)
	}
	items, open := q.queue.state()
	if len(items) != 1 || open != 0 {
		t.Fatalf("%d items, %d open writers", len(items), open)
	}
	if !bytes.Equal(items[0].payload, data) {
		t.Error("the data set was changed")
	}
	meta := spool.Meta{Queue: "to-center", Attributes: map[string]string{
		dicom.AttrSOPClass: ctStorage, dicom.AttrSOPInstance: "1.2.3.4", dicom.AttrTransferSyntax: explicit, dicom.AttrCallingAE: "CT1",
		dicom.AttrCalledAE: "TOWPATH", dicom.AttrMoveOriginatorAE: "WS1", dicom.AttrMoveOriginatorMessage: "77",
	}}
	got := items[0].Meta
	if got.Attributes[dicom.AttrSource] != "127.0.0.1" || len(got.Attributes[dicom.AttrAssociation]) != 13 {
		t.Errorf("it came from %q, association %q", got.Attributes[dicom.AttrSource], got.Attributes[dicom.AttrAssociation])
	}
	delete(got.Attributes, dicom.AttrSource)
	delete(got.Attributes, dicom.AttrAssociation)
	if diff := cmp.Diff(meta, got); diff != "" {
		t.Error(diff)
	}
}

func TestQueuedNegotiation(t *testing.T) {
	q := newQueued(t, dicom.Limits{}, "")
	accepted, noClass, noSyntax := pdu.ContextAccepted, pdu.ContextAbstractSyntax, pdu.ContextTransferSyntaxes
	for _, tc := range []struct {
		abstract string
		offered  []string
		result   pdu.ContextResult
		chosen   string
	}{
		{dicom.Verification, []string{implicit}, accepted, implicit},
		{ctStorage, []string{jpeg2000, implicit, explicit}, accepted, explicit},
		{ctStorage, []string{jpeg2000, implicit}, accepted, implicit},
		{ctStorage, []string{"1.2.3.4", jpeg2000, "1.2.840.10008.1.2.5"}, accepted, jpeg2000},
		{ctStorage, []string{"1.2.840.10008.1.2.1.99"}, accepted, "1.2.840.10008.1.2.1.99"},
		{ctStorage, []string{"1.2.840.113619.5.2"}, accepted, "1.2.840.113619.5.2"},
		{ctStorage, []string{"1.2.3.4"}, noSyntax, ""},
		{ctStorage, []string{"1.2.840.10008.1.2.4.94"}, noSyntax, ""}, // JPIP: the pixels are elsewhere
		{"1.2.840.10008.5.1.4.34.7", []string{explicit}, accepted, explicit},
		{"1.2.840.10008.5.1.4.34.10", []string{explicit}, accepted, explicit},
		{"1.2.840.10008.5.1.4.34.6.1", []string{explicit}, noClass, ""}, // unified procedure step
		{"1.2.840.10008.5.1.4.1.1.200.4", []string{explicit}, noClass, ""},
		{"1.2.840.10008.5.1.4.1.1.", []string{explicit}, noClass, ""},
		{"1.3.46.670589.11.0.0.12.1", []string{explicit}, accepted, explicit},
		{findStudy, []string{implicit}, noClass, ""},
		{"1.2.840.10008.1.20.1", []string{implicit}, noClass, ""}, // storage commitment is never faked
	} {
		a := associate(t, q.network, q.address, "ANY", context1(tc.abstract, tc.offered...))
		got := a.Accepted().Contexts[0]
		if got.Result != tc.result || tc.result == accepted && got.TransferSyntax != tc.chosen {
			t.Errorf("%s in %v: %s, %s", tc.abstract, tc.offered, got.Result, got.TransferSyntax)
		}
		release(t, a, q.results)
	}
}

// TestQueuedRefusals sends what cannot be taken, reads the status, and stores a good object on the same association afterwards:
// every data set must have been read to its end.
func TestQueuedRefusals(t *testing.T) {
	const small, big = 2000, 300000
	good := dimse.StoreRQ{SOPClass: ctStorage, SOPInstance: "1.2.3", HasDataSet: true}
	with := func(change func(*dimse.StoreRQ)) dimse.Set {
		rq := good
		change(&rq)
		return rq.Set()
	}
	fine := good.Set()
	for _, tc := range []struct {
		name    string
		faults  faults
		set     dimse.Set
		size    int // -1: no data set is sent
		status  dimse.Status
		comment string
	}{
		{"full", faults{createErr: spool.ErrFull}, fine, big, dimse.OutOfResources, "full"},
		{"closed", faults{createErr: spool.ErrClosed}, fine, small, dimse.OutOfResources, "stopping"},
		{"disk full while writing", faults{writeErr: syscall.ENOSPC}, fine, big, dimse.OutOfResources, "full"},
		{"disk broken while writing", faults{writeErr: syscall.EIO}, fine, big, dimse.ProcessingFailure, "again"},
		{"disk broken at the end", faults{commitErr: errors.New("fsync failed")}, fine, small, dimse.ProcessingFailure, "again"},
		{"too large", faults{}, fine, 500001, dimse.OutOfResources, "limit"},
		{
			"other class",
			faults{},
			with(func(m *dimse.StoreRQ) { m.SOPClass = "1.2.840.10008.5.1.4.1.1.4" }), small,
			dimse.SOPClassNotSupported, "differs",
		},
		{"no instance", faults{}, with(func(m *dimse.StoreRQ) { m.SOPInstance = "" }), small, dimse.InvalidInstance, "UID"},
		{
			"path as instance",
			faults{},
			with(func(m *dimse.StoreRQ) { m.SOPInstance = "../../etc/passwd" }), small,
			dimse.InvalidInstance, "UID",
		},
		{
			"long instance",
			faults{},
			with(func(m *dimse.StoreRQ) { m.SOPInstance = strings.Repeat("1", 65) }), small,
			dimse.InvalidInstance, "UID",
		},
		{"no data set", faults{}, with(func(m *dimse.StoreRQ) { m.HasDataSet = false }), -1, dimse.CannotProcess, "missing"},
		{"empty data set", faults{}, fine, 0, dimse.CannotProcess, "missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := newQueued(t, dicom.Limits{MaxObject: 500000}, "")
			q.queue.faults = tc.faults
			a := associate(t, q.network, q.address, "ANY", context1(ctStorage, explicit), context1(dicom.Verification, implicit))
			var data io.Reader
			if tc.size >= 0 {
				data = bytes.NewReader(make([]byte, tc.size))
			}
			resp := call(t, a, 1, tc.set, data)
			if resp.Status != tc.status || !strings.Contains(resp.ErrorComment, tc.comment) {
				t.Errorf("answered with %s, %q", resp.Status, resp.ErrorComment)
			}
			if items, open := q.queue.state(); len(items) != 0 || open != 0 {
				t.Errorf("%d items, %d open writers", len(items), open)
			}
			q.queue.mu.Lock()
			q.queue.faults = faults{}
			q.queue.mu.Unlock()
			if echo := call(t, a, 3, dimse.EchoRQ{SOPClass: dicom.Verification}.Set(), nil); echo.Status != dimse.Success {
				t.Errorf("echo answered with %s", echo.Status)
			}
			if resp := call(t, a, 1, fine, strings.NewReader("data")); resp.Status != dimse.Success {
				t.Errorf("a good object is answered with %s", resp.Status)
			}
			res := release(t, a, q.results)
			if res.Outcome != proxy.OutcomeRefused || res.Items != 1 || res.Detail == "" {
				t.Errorf("result %+v", res)
			}
		})
	}
}

func TestQueuedOtherCommands(t *testing.T) {
	q := newQueued(t, dicom.Limits{}, "")
	a := associate(t, q.network, q.address, "ANY", context1(ctStorage, explicit))
	var find dimse.Set
	find.SetUI(dimse.TagAffectedSOPClass, findStudy)
	find.SetUS(dimse.TagCommandField, uint16(dimse.CFindRQ))
	find.SetUS(dimse.TagMessageID, 5)
	find.SetUS(dimse.TagDataSetType, 1)
	resp := call(t, a, 1, find, strings.NewReader("identifier"))
	if resp.Status != dimse.UnrecognizedOperation || resp.To != dimse.CFindRQ || resp.MessageID != 5 {
		t.Errorf("C-FIND answered with %+v", resp)
	}
	var cancel dimse.Set
	cancel.SetUS(dimse.TagCommandField, uint16(dimse.CCancelRQ))
	cancel.SetUS(dimse.TagMessageIDResponded, 5)
	cancel.SetUS(dimse.TagDataSetType, 0x0101)
	if _, err := a.Send(t.Context(), 1, cancel.Encode(), nil); err != nil {
		t.Fatal(err)
	}
	stray := dimse.Response{To: dimse.CStoreRQ}.Set()
	if _, err := a.Send(t.Context(), 1, stray.Encode(), nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Receive(t.Context()); !errors.As(err, new(*ul.AbortedError)) {
		t.Errorf("a stray response is answered with %v", err)
	}
	if res := <-q.results; res.Outcome != proxy.OutcomeMalformed {
		t.Errorf("result %+v", res)
	}
}

// TestBrokenObjectIsNotStored breaks the association in the middle of a data set in several ways.
func TestBrokenObjectIsNotStored(t *testing.T) {
	set := dimse.StoreRQ{SOPClass: ctStorage, SOPInstance: "1.2.3", HasDataSet: true}.Set()
	for name, breakIt := range map[string]func(c *proxytest.Conn){
		"closed": func(c *proxytest.Conn) { _ = c.Close() },
		"reset":  func(c *proxytest.Conn) { c.Reset() },
		"abort":  func(c *proxytest.Conn) { _, _ = c.Write(pdu.Abort{}.Encode()) },
		"junk":   func(c *proxytest.Conn) { _, _ = c.Write([]byte("garbage garbage")) },
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueued(t, dicom.Limits{}, "")
			c, err := q.network.DialContext(t.Context(), "tcp", q.address)
			if err != nil {
				t.Fatal(err)
			}
			contexts := []pdu.ProposedContext{{ID: 1, AbstractSyntax: ctStorage, TransferSyntaxes: []string{explicit}}}
			p := ul.Proposal{CallingAE: "CT1", CalledAE: "X", Contexts: contexts}
			if _, err := ul.Request(t.Context(), c, p, ul.Config{}); err != nil {
				t.Fatal(err)
			}
			for _, v := range []struct {
				pdu.PDV
				payload []byte
			}{
				{pdu.PDV{ContextID: 1, Command: true, Last: true}, set.Encode()}, {pdu.PDV{ContextID: 1}, make([]byte, 50000)},
			} {
				b := make([]byte, pdu.DataOverhead)
				v.Length = uint32(len(v.payload))
				pdu.PutDataHeader(b, v.PDV)
				if _, err := c.Write(append(b, v.payload...)); err != nil {
					t.Fatal(err)
				}
			}
			raw, ok := c.(*proxytest.Conn)
			if !ok {
				t.Fatalf("a %T", c)
			}
			breakIt(raw)
			_ = c.Close()
			res := <-q.results
			if res.Outcome != proxy.OutcomeAborted && res.Outcome != proxy.OutcomeMalformed || res.Items != 0 || res.Detail == "" {
				t.Errorf("result %+v", res)
			}
			if items, open := q.queue.state(); len(items) != 0 || open != 0 {
				t.Errorf("%d items, %d open writers", len(items), open)
			}
		})
	}
}

// TestEndlessObject goes past twice the limit: there is no answer to that but an abort.
func TestEndlessObject(t *testing.T) {
	q := newQueued(t, dicom.Limits{MaxObject: 100000}, "")
	a := associate(t, q.network, q.address, "ANY", context1(ctStorage, explicit))
	set := dimse.StoreRQ{SOPClass: ctStorage, SOPInstance: "1.2.3", HasDataSet: true}.Set()
	if _, err := a.Send(t.Context(), 1, set.Encode(), endless{}); err == nil {
		t.Error("an endless data set was sent")
	}
	if res := <-q.results; res.Outcome != proxy.OutcomeAborted {
		t.Errorf("result %+v", res)
	}
	if items, open := q.queue.state(); len(items) != 0 || open != 0 {
		t.Errorf("%d items, %d open writers", len(items), open)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// TestServiceStops ends the context in the middle of an association: the modality gets an A-ABORT.
func TestServiceStops(t *testing.T) {
	n := proxytest.NewNetwork()
	r, err := dicom.NewRouter(dicom.RouterConfig{
		Queue: &memoryQueue{}, Routes: []dicom.Route{{Mode: dicom.Queued, QueueName: "q"}},
		Limits: dicom.Limits{Close: 10 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	address, results := serve(t, n, proxy.HandlerFunc(func(_ context.Context, c net.Conn) proxy.Result { return r.Serve(ctx, c) }))
	a := associate(t, n, address, "X", context1(ctStorage, explicit))
	cancel()
	if _, _, err := a.Receive(t.Context()); !errors.As(err, new(*ul.AbortedError)) {
		t.Errorf("the modality sees %v", err)
	}
	if res := <-results; res.Outcome != proxy.OutcomeAborted || !strings.Contains(res.Detail, "stopping") {
		t.Errorf("result %+v", res)
	}
}
