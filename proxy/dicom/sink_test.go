package dicom_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
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

// fakePACS is a far side that answers as it is told and remembers what it saw.
type fakePACS struct {
	mu           sync.Mutex
	reject       *pdu.AssociateRJ
	refuse       map[string]bool // transfer syntaxes
	status       dimse.Status
	hangUpAfter  int // objects per association, 0 for never
	wrongID      bool
	associations []*pdu.AssociateRQ
	stores       []dimse.StoreRQ
	data         []string
	ends         []error
}

func (p *fakePACS) with(f func(p *fakePACS)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

func (p *fakePACS) Serve(ctx context.Context, c net.Conn) proxy.Result {
	err := p.serve(ctx, c)
	p.with(func(p *fakePACS) { p.ends = append(p.ends, err) })
	return proxy.Result{}
}

func (p *fakePACS) serve(ctx context.Context, c net.Conn) error {
	in, err := ul.Receive(ctx, c, ul.Config{})
	if err != nil {
		return err
	}
	var reject *pdu.AssociateRJ
	var contexts []pdu.AcceptedContext
	p.with(func(p *fakePACS) {
		p.associations = append(p.associations, in.RQ)
		reject = p.reject
		for _, pc := range in.RQ.Contexts {
			ac := pdu.AcceptedContext{ID: pc.ID, TransferSyntax: pc.TransferSyntaxes[0]}
			if p.refuse[ac.TransferSyntax] {
				ac.Result = pdu.ContextTransferSyntaxes
			}
			contexts = append(contexts, ac)
		}
	})
	if reject != nil {
		return in.Reject(ctx, *reject)
	}
	a, err := in.Accept(ctx, contexts)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		id, command, err := a.Receive(ctx)
		if err != nil {
			return err
		}
		set, err := dimse.Decode(command)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(a.Data(ctx, id))
		if err != nil {
			return err
		}
		resp := dimse.Respond(&set, 0, "for patient DOE^JOHN")
		hangUp := false
		p.with(func(p *fakePACS) {
			p.stores = append(p.stores, dimse.ParseStoreRQ(&set))
			p.data = append(p.data, string(data))
			resp.Status = p.status
			if p.wrongID {
				resp.MessageID++
			}
			hangUp = n == p.hangUpAfter
		})
		if hangUp {
			return nil
		}
		out := resp.Set()
		if _, err := a.Send(ctx, id, out.Encode(), nil); err != nil {
			return err
		}
	}
}

func newSink(t *testing.T, p *fakePACS) (spool.Sink, *proxytest.Network, string) {
	t.Helper()
	n := proxytest.NewNetwork()
	address, _ := serve(t, n, p)
	return dicom.NewSink(dicom.SinkConfig{Network: n, Target: address, CalledAE: "PACS"}), n, address
}

// item makes a queue item; kv are further attributes.
func item(calling, class, syntax, instance string, kv ...string) spool.Item {
	m := map[string]string{
		dicom.AttrSOPClass: class, dicom.AttrTransferSyntax: syntax, dicom.AttrSOPInstance: instance, dicom.AttrCallingAE: calling,
	}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, m) // the same item has the same ID
	return spool.Item{ID: spool.ID(fmt.Sprintf("%016x", h.Sum64())), Meta: spool.Meta{Queue: "q", Attributes: m}}
}

func deliver(t *testing.T, s spool.Sink, it spool.Item, data string) (spool.Receipt, error) {
	t.Helper()
	return s.Deliver(t.Context(), it, strings.NewReader(data))
}

func TestSinkDelivers(t *testing.T) {
	p := &fakePACS{}
	s, _, _ := newSink(t, p)
	moved := item("CT1", ctStorage, jpeg2000, "1.2.2", dicom.AttrMoveOriginatorAE, "WS1", dicom.AttrMoveOriginatorMessage, "77")
	for i, it := range []spool.Item{
		item("CT1", ctStorage, explicit, "1.2.1"), moved, item("CT1", ctStorage, explicit, "1.2.3"),
		item("MR1", ctStorage, explicit, "1.2.4"), item("", ctStorage, explicit, "1.2.5"),
	} {
		r, err := deliver(t, s, it, fmt.Sprint("data ", i))
		if err != nil || r.Code != "0000" || r.Peer != "PACS" || r.At.IsZero() {
			t.Fatalf("item %d: %+v, %v", i, r, err)
		}
	}
	s.Idle()
	s.Idle() // may be called again
	type store struct {
		Instance, Data, Originator string
		Message                    uint16
	}
	p.with(func(p *fakePACS) {
		var callers []string
		for _, rq := range p.associations {
			callers = append(callers, fmt.Sprintf("%s>%s %d", rq.CallingAE, rq.CalledAE, len(rq.Contexts)))
			for _, pc := range rq.Contexts {
				if len(pc.TransferSyntaxes) != 1 {
					t.Errorf("a context with the transfer syntaxes %v", pc.TransferSyntaxes)
				}
			}
		}
		if diff := cmp.Diff([]string{"CT1>PACS 1", "CT1>PACS 2", "MR1>PACS 1", "TOWPATH>PACS 1"}, callers); diff != "" {
			t.Error(diff)
		}
		var got []store
		for i, m := range p.stores {
			got = append(got, store{
				Instance: m.SOPInstance, Data: p.data[i], Originator: m.MoveOriginatorAE, Message: m.MoveOriginatorMessage,
			})
		}
		want := []store{
			{Instance: "1.2.1", Data: "data 0"},
			{Instance: "1.2.2", Data: "data 1", Originator: "WS1", Message: 77},
			{Instance: "1.2.3", Data: "data 2"},
			{Instance: "1.2.4", Data: "data 3"},
			{Instance: "1.2.5", Data: "data 4"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for i, err := range p.ends {
			if !errors.Is(err, ul.ErrReleased) {
				t.Errorf("association %d ended with %v", i, err)
			}
		}
	})
}

// TestSinkJudgesStatus goes through the classes of answers. None of the errors repeats the far side's comment, which names a
// patient.
func TestSinkJudgesStatus(t *testing.T) {
	for status, want := range map[dimse.Status]string{
		0x0000: "receipt", 0xB000: "receipt", 0xB006: "receipt", 0xB007: "receipt",
		0xA700: "retry", 0xA701: "retry", 0x0110: "retry", 0x0124: "retry", 0x0213: "retry",
		0xA900: "park", 0xC000: "park", 0xC123: "park", 0x0122: "park", 0x0117: "park", 0x0111: "park", 0x1234: "park", 0xFF00: "park",
	} {
		p := &fakePACS{status: status}
		s, _, _ := newSink(t, p)
		r, err := deliver(t, s, item("CT1", ctStorage, explicit, "1.2.3456789"), "data")
		got := "receipt"
		if isPermanent(err) {
			got = "park"
		} else if err != nil {
			got = "retry"
		}
		if got != want {
			t.Errorf("status %s: %s instead of %s (%v)", status, got, want, err)
		}
		if err == nil && r.Code != status.Code() {
			t.Errorf("status %s: receipt %+v", status, r)
		}
		if err != nil && (!strings.Contains(err.Error(), status.Code()) || strings.Contains(err.Error(), "DOE") ||
			strings.Contains(err.Error(), "3456789")) {
			t.Errorf("status %s: %v", status, err)
		}
		s.Idle()
	}
}

func isPermanent(err error) bool {
	_, ok := errors.AsType[*spool.PermanentError](err)
	return ok
}

// TestSinkRefusedContext parks what the far side does not take, and asks again after it was told to learn it.
func TestSinkRefusedContext(t *testing.T) {
	p := &fakePACS{refuse: map[string]bool{jpeg2000: true}}
	s, _, _ := newSink(t, p)
	if _, err := deliver(t, s, item("CT1", ctStorage, explicit, "1.2.1"), "data"); err != nil {
		t.Fatal(err)
	}
	_, err := deliver(t, s, item("CT1", ctStorage, jpeg2000, "1.2.2"), "data")
	if !isPermanent(err) || !strings.Contains(err.Error(), jpeg2000) {
		t.Errorf("got %v", err)
	}
	if _, err := deliver(t, s, item("CT1", ctStorage, explicit, "1.2.3"), "data"); err != nil {
		t.Errorf("the next item: %v", err)
	}
	p.with(func(p *fakePACS) { p.refuse = nil })
	if _, err := deliver(t, s, item("CT1", ctStorage, jpeg2000, "1.2.2"), "data"); err != nil {
		t.Errorf("after the repair: %v", err)
	}
	s.Idle()
}

func TestSinkRejectedAssociation(t *testing.T) {
	for _, tc := range []struct {
		rj   pdu.AssociateRJ
		hint string
	}{
		{pdu.AssociateRJ{Result: 1, Source: 1, Reason: 3}, `does not know our AE title "CT1"`},
		{pdu.AssociateRJ{Result: 1, Source: 1, Reason: 7}, `another AE title than "PACS"`},
		{pdu.AssociateRJ{Result: 2, Source: 3, Reason: 1}, "busy"},
		{pdu.AssociateRJ{Result: 2, Source: 3, Reason: 2}, "busy"},
		{pdu.AssociateRJ{Result: 1, Source: 1, Reason: 1}, "administrator"},
	} {
		p := &fakePACS{reject: &tc.rj}
		s, _, _ := newSink(t, p)
		_, err := deliver(t, s, item("CT1", ctStorage, explicit, "1.2.1"), "data")
		if err == nil || isPermanent(err) || !strings.Contains(err.Error(), tc.hint) {
			t.Errorf("%s: %v", tc.rj, err)
		}
		p.with(func(p *fakePACS) { p.reject = nil })
		if _, err := deliver(t, s, item("CT1", ctStorage, explicit, "1.2.1"), "data"); err != nil {
			t.Errorf("%s: after the repair: %v", tc.rj, err)
		}
		s.Idle()
	}
}

// TestSinkNeverReusesABrokenAssociation breaks it in several ways; the next item must go over a new one.
func TestSinkNeverReusesABrokenAssociation(t *testing.T) {
	for name, tc := range map[string]struct {
		set  func(p *fakePACS)
		data io.Reader
	}{
		"no answer":    {func(p *fakePACS) { p.hangUpAfter = 1 }, strings.NewReader("data")},
		"wrong answer": {func(p *fakePACS) { p.wrongID = true }, strings.NewReader("data")},
		"bad payload":  {func(*fakePACS) {}, io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("digest differs")))},
	} {
		t.Run(name, func(t *testing.T) {
			p := &fakePACS{}
			tc.set(p)
			s, _, _ := newSink(t, p)
			if _, err := s.Deliver(t.Context(), item("CT1", ctStorage, explicit, "1.2.1"), tc.data); err == nil || isPermanent(err) {
				t.Errorf("got %v", err)
			}
			p.with(func(p *fakePACS) { p.hangUpAfter, p.wrongID = 0, false })
			if _, err := deliver(t, s, item("CT1", ctStorage, explicit, "1.2.2"), "data"); err != nil {
				t.Error(err)
			}
			s.Idle()
			p.with(func(p *fakePACS) {
				if len(p.associations) != 2 {
					t.Errorf("%d associations", len(p.associations))
				}
			})
		})
	}
}

// TestSinkNoticesAGoodbye lets the far side hang up while the association rests: the next item is not lost on it.
func TestSinkNoticesAGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePACS{}
		n := proxytest.NewNetwork()
		ctx, cancel := context.WithCancel(t.Context())
		address, _ := serve(t, n, proxy.HandlerFunc(func(inner context.Context, c net.Conn) proxy.Result {
			if ctx.Err() == nil {
				return p.Serve(ctx, c)
			}
			return p.Serve(inner, c)
		}))
		s := dicom.NewSink(dicom.SinkConfig{Network: n, Target: address, CalledAE: "PACS"})
		if _, err := deliver(t, s, item("CT1", ctStorage, explicit, "1.2.1"), "data"); err != nil {
			t.Fatal(err)
		}
		cancel()
		time.Sleep(5 * time.Second) // fake time
		if _, err := deliver(t, s, item("CT1", ctStorage, explicit, "1.2.2"), "data"); err != nil {
			t.Error(err)
		}
		s.Idle()
	})
}

// TestSinkManyKinds stays within 128 presentation contexts, and keeps those used last.
func TestSinkManyKinds(t *testing.T) {
	p := &fakePACS{}
	s, _, _ := newSink(t, p)
	for i := range 140 {
		if _, err := deliver(t, s, item("CT1", fmt.Sprintf("%s.%d", ctStorage, i), explicit, "1.2.1"), "data"); err != nil {
			t.Fatal(err)
		}
	}
	s.Idle()
	p.with(func(p *fakePACS) {
		last := p.associations[len(p.associations)-1]
		if len(last.Contexts) != 128 || last.Contexts[0].AbstractSyntax != ctStorage+".139" {
			t.Errorf("%d contexts, first %s", len(last.Contexts), last.Contexts[0].AbstractSyntax)
		}
	})
}

func TestSinkRefusesNonsense(t *testing.T) {
	s, _, _ := newSink(t, &fakePACS{})
	for name, it := range map[string]spool.Item{
		"nothing":          {},
		"no instance":      item("CT1", ctStorage, explicit, ""),
		"no class":         item("CT1", "", explicit, "1.2"),
		"no syntax":        item("CT1", ctStorage, "", "1.2"),
		"wrong originator": item("CT1", ctStorage, explicit, "1.2", dicom.AttrMoveOriginatorAE, "X", dicom.AttrMoveOriginatorMessage, "x"),
	} {
		if _, err := deliver(t, s, it, "data"); !isPermanent(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSinkUnreachableAndCanceled(t *testing.T) {
	p := &fakePACS{}
	s, n, address := newSink(t, p)
	n.SetDown(address, errors.New("no route to host"))
	if _, err := deliver(t, s, item("CT1", ctStorage, explicit, "1.2"), "data"); err == nil || isPermanent(err) {
		t.Errorf("got %v", err)
	}
	n.SetDown(address, nil)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write(make([]byte, 300000))
		cancel()
		_ = w.CloseWithError(errors.New("stopped"))
	}()
	if _, err := s.Deliver(ctx, item("CT1", ctStorage, explicit, "1.2"), r); err == nil || isPermanent(err) {
		t.Errorf("got %v", err)
	}
	if _, err := deliver(t, s, item("CT1", ctStorage, explicit, "1.2"), "data"); err != nil {
		t.Error(err)
	}
	s.Idle()
}
