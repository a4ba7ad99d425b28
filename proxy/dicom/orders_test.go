package dicom

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// worklistEntry is an answer of a worklist: a scheduled step before the priority has one of its own, which is not what counts.
func worklistEntry(enc encoding, study, priority string) []byte {
	step := el(enc, 0xFFFE, 0xE000, "", el(enc, 0x0040, 0x1003, "SH", []byte("STAT"), -1), -1)
	parts := [][]byte{
		el(enc, 0x0010, 0x0010, "PN", []byte("DOE^JOHN"), -1),
		el(enc, 0x0020, 0x000D, "UI", []byte(study), -1),
		el(enc, 0x0040, 0x0100, "SQ", append(step, el(enc, 0xFFFE, 0xE0DD, "", nil, 0)...), undefined),
	}
	if priority != "" {
		parts = append(parts, el(enc, 0x0040, 0x1003, "SH", []byte(priority), -1))
	}
	return bytes.Join(append(parts, el(enc, 0x0040, 0x1400, "LT", []byte("none"), -1)), nil)
}

// dataPDU is a P-DATA-TF with fragments of one message.
func dataPDU(v pdu.PDV, fragments ...[]byte) []byte {
	var body []byte
	for i, f := range fragments {
		v, head := v, make([]byte, pdu.DataOverhead)
		v.Length, v.Last = uint32(len(f)), v.Last && i == len(fragments)-1
		pdu.PutDataHeader(head, v)
		body = append(append(body, head[pdu.HeaderSize:]...), f...)
	}
	return append(pdu.Header{Type: pdu.TypeData, Length: uint32(len(body))}.Append(nil), body...)
}

// worklistAssociation is one on which contexts 1 and 3 are of worklists, 5 is refused and 7 of something else.
func worklistAssociation(t testing.TB, o *Orders) *listener {
	t.Helper()
	rq := &pdu.AssociateRQ{Contexts: []pdu.ProposedContext{
		{ID: 1, AbstractSyntax: ModalityWorklist},
		{ID: 3, AbstractSyntax: ModalityWorklist},
		{ID: 5, AbstractSyntax: ModalityWorklist},
		{ID: 7, AbstractSyntax: "1.2.840.10008.5.1.4.1.2.2.1"},
	}}
	ac, err := (&pdu.AssociateAC{ProtocolVersion: 1, Contexts: []pdu.AcceptedContext{
		{ID: 1, TransferSyntax: ImplicitLittleEndian},
		{ID: 3, TransferSyntax: ExplicitLittleEndian},
		{ID: 5, Result: pdu.ContextNoReason, TransferSyntax: ImplicitLittleEndian},
		{ID: 7, TransferSyntax: ImplicitLittleEndian},
	}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	l := o.listen(rq, ac, pdu.Limits{}.WithDefaults())
	l.feed(ac)
	return l
}

// conversation is what a far side says on it. Studies 1.1 and 1.2 are urgent then.
func conversation() []byte {
	implicit, explicit := encodingOf(ImplicitLittleEndian), encodingOf(ExplicitLittleEndian)
	one, two := worklistEntry(implicit, "1.1\x00", "STAT"), worklistEntry(explicit, "1.2\x00", "HIGH")
	last := func(id uint8) pdu.PDV { return pdu.PDV{ContextID: id, Last: true} }
	command := pdu.PDV{ContextID: 1, Command: true, Last: true}
	return bytes.Join([][]byte{
		dataPDU(command, []byte("a response")),
		dataPDU(pdu.PDV{ContextID: 1}, one[:11]), dataPDU(pdu.PDV{ContextID: 1}, one[11:12], one[12:40]), dataPDU(last(1), one[40:], nil),
		dataPDU(last(3), two),
		dataPDU(last(3), worklistEntry(explicit, "1.3\x00", "STAT")), dataPDU(last(1), worklistEntry(implicit, "1.3\x00", "ROUTINE ")),
		dataPDU(last(1), worklistEntry(implicit, "1.4\x00", "MEDIUM")), dataPDU(last(1), worklistEntry(implicit, "1.5\x00", "")),
		dataPDU(last(5), worklistEntry(implicit, "1.6\x00", "STAT")), dataPDU(last(7), worklistEntry(implicit, "1.7\x00", "STAT")),
		dataPDU(command, worklistEntry(implicit, "1.8\x00", "STAT")),
		dataPDU(last(1), el(implicit, 0x0008, 0x0050, "SH", bytes.Repeat([]byte("x"), maxWorklistEntry), -1), worklistEntry(implicit, "1.9\x00", "STAT")),
		dataPDU(last(1), worklistEntry(implicit, "no UID", "STAT")),
		pdu.EncodeReleaseRP(),
	}, nil)
}

// TestWorklistsAreHeard: what a worklist calls urgent is, however its answers come in pieces; and nothing else.
func TestWorklistsAreHeard(t *testing.T) {
	all := conversation()
	for _, size := range []int{1, 2, 5, 6, 7, 100, 1 << 10, len(all)} {
		o := NewOrders()
		l := worklistAssociation(t, o)
		for b := all; len(b) > 0; {
			n := min(size, len(b))
			l.feed(b[:n])
			b = b[n:]
		}
		for i := range 10 {
			study := fmt.Sprintf("1.%d", i)
			if got, want := o.urgent(study, time.Now()), i == 1 || i == 2; got != want {
				t.Errorf("in pieces of %d bytes: study %s urgent %v", size, study, got)
			}
		}
		if len(o.studies) != 2 {
			t.Errorf("%d studies are known", len(o.studies))
		}
		if l.deaf || cap(l.entry) > 2*maxWorklistEntry {
			t.Errorf("deaf %v, %d bytes held", l.deaf, cap(l.entry))
		}
	}
}

// TestNothingToHear: an association without a worklist costs nothing, nor does one that was refused, and nonsense ends it.
func TestNothingToHear(t *testing.T) {
	rq := &pdu.AssociateRQ{Contexts: []pdu.ProposedContext{{ID: 1, AbstractSyntax: "1.2.3"}}}
	ac, err := (&pdu.AssociateAC{Contexts: []pdu.AcceptedContext{{ID: 1, TransferSyntax: ImplicitLittleEndian}}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	lim := pdu.Limits{}.WithDefaults()
	if NewOrders().listen(rq, ac, lim) != nil || NewOrders().listen(rq, pdu.AssociateRJ{Result: 1, Source: 1, Reason: 1}.Encode(), lim) != nil || (*Orders)(nil).listen(rq, ac, lim) != nil {
		t.Error("somebody listens")
	}
	l := worklistAssociation(t, NewOrders())
	l.feed(append(pdu.Header{Type: pdu.TypeData, Length: 8}.Append(nil), 0, 0, 0, 9, 1, 2))
	if !l.deaf {
		t.Error("a fragment longer than its PDU is listened to")
	}
	l.feed(conversation())
	if len(l.orders.studies) != 0 || (*Orders)(nil).urgent("1.1", time.Now()) {
		t.Error("a deaf listener hears")
	}
}

// TestOrdersAreForgotten: after a day, or when there are too many, the oldest first.
func TestOrdersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := NewOrders()
		for i := range maxOrders + 3 {
			o.heard(fmt.Sprint("1.", i), true, time.Now())
			time.Sleep(time.Second)
		}
		if len(o.studies) != maxOrders || o.urgent("1.2", time.Now()) || !o.urgent("1.3", time.Now()) {
			t.Errorf("of too many %d are there", len(o.studies))
		}
		o.heard("1.3", true, time.Now())
		time.Sleep(ordersFor - time.Second)
		if !o.urgent("1.3", time.Now()) || o.urgent("1.4", time.Now()) {
			t.Error("the day is not from the last time on")
		}
		if time.Sleep(time.Second); o.urgent("1.3", time.Now()) || o.urgent("", time.Now()) {
			t.Error("an order counts for longer than a day")
		}
	})
}

func FuzzWorklists(f *testing.F) {
	f.Add(conversation()[:900], 7) // a long one would only be made shorter
	f.Add([]byte{4, 0, 0, 0, 0, 6, 0, 0, 0, 2, 1, 2}, 1)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		whole, pieces := worklistAssociation(t, NewOrders()), worklistAssociation(t, NewOrders())
		whole.feed(b)
		size = max(1, size)
		for rest := b; len(rest) > 0; {
			n := min(size, len(rest))
			pieces.feed(rest[:n])
			rest = rest[n:]
		}
		if len(whole.orders.studies) != len(pieces.orders.studies) || whole.deaf != pieces.deaf || len(whole.entry) > maxWorklistEntry {
			t.Errorf("%d and %d studies, %d bytes held", len(whole.orders.studies), len(pieces.orders.studies), len(whole.entry))
		}
		for s := range whole.orders.studies {
			if !ValidUID(s) || !strings.Contains(string(b), s) {
				t.Errorf("%q is urgent", s)
			}
		}
	})
}
