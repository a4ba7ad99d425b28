package reconcile_test

import (
	"encoding/binary"
	"io"
	"net/netip"
	"testing"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/spool"
)

// askWorklist has a device of the clinic ask the center's worklist, which answers with one entry.
func (p *gatewayPair) askWorklist(t *testing.T, study, priority string) {
	t.Helper()
	var entry []byte
	for _, e := range []struct {
		group, number uint16
		value         string
	}{{0x0020, 0x000d, study}, {0x0040, 0x1003, priority}} {
		entry = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(entry, e.group), e.number)
		entry = append(binary.LittleEndian.AppendUint32(entry, uint32(len(e.value))), e.value...)
	}
	answer := make([]byte, pdu.DataOverhead, pdu.DataOverhead+len(entry))
	pdu.PutDataHeader(answer, pdu.PDV{ContextID: 1, Last: true, Length: uint32(len(entry))})
	answer = append(answer, entry...)
	ac, err := (&pdu.AssociateAC{ProtocolVersion: 1, Contexts: []pdu.AcceptedContext{{ID: 1, TransferSyntax: dicom.ImplicitLittleEndian}}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	ris, err := p.center.overlay.Listen(t.Context(), "tcp", "10.201.0.17:11113")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ris.Close() }()
	go func() {
		c, err := ris.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		if _, err := ul.Receive(t.Context(), c, ul.Config{}); err == nil {
			_, _ = c.Write(append(ac, answer...))
		}
	}()
	rq, err := (&pdu.AssociateRQ{
		ProtocolVersion: 1, CalledAE: "QUERY", CallingAE: "CT1", ApplicationContext: "1.2.840.10008.3.1.1.1",
		Contexts: []pdu.ProposedContext{{ID: 1, AbstractSyntax: dicom.ModalityWorklist, TransferSyntaxes: []string{dicom.ImplicitLittleEndian}}},
	}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.clinic.lan.From(netip.MustParseAddr("192.168.1.50")).DialContext(t.Context(), "tcp", dicomAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(rq); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != string(append(ac, answer...)) {
		t.Fatalf("the device reads %q, %v", got, err)
	}
}

// TestWhatAWorklistCallsUrgent: objects of a study that a worklist gave the priority STAT pass others, at the clinic and at the center, of a service
// that wants it so.
func TestWhatAWorklistCallsUrgent(t *testing.T) {
	const ct = "1.2.840.10008.5.1.4.1.1.2"
	for _, wanted := range []bool{true, false} {
		p := newGatewayPair(t)
		p.clinicMap.Uses[0].DICOM.UrgentStat = wanted
		p.apply(t)
		p.askWorklist(t, "1.2.77", "STAT")
		p.modality(t, "CT1", image(ct, "1.2.78.1", "1.2.78", 64<<10), image(ct, "1.2.77.1", "1.2.77", 64<<10), image(ct, "1.2.77.2", "1.2.77", 100))
		eventually(t, "all at the center", func() bool { return stats(p.center, "in.pacs").Queued == 3 })
		items, err := p.center.queue.List("in.pacs", 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			want := 0
			if wanted && it.Meta.Attributes[dicom.AttrStudyInstance] == "1.2.77" {
				want = spool.Urgent
			}
			if it.Meta.Priority != want {
				t.Errorf("wanted %v: an object of study %s has priority %d", wanted, it.Meta.Attributes[dicom.AttrStudyInstance], it.Meta.Priority)
			}
		}
	}
}

// TestPollsKnowWhatIsUrgent: objects that the gateway fetches itself are urgent by the Service's options, too, and a change of these alone makes
// another Poll.
func TestPollsKnowWhatIsUrgent(t *testing.T) {
	m := clinicMap(t)
	m.Uses[0].Poll = wire.PollOptions{Target: "192.168.1.5:104", CalledAE: "ARCHIVE", Since: "2026-01-02"}
	m.Uses[0].DICOM = wire.DICOMOptions{Hold: true, UrgentCallers: "ARCHIVE", UrgentClasses: "1.2.3", UrgentStat: true}
	polls := compiled(t, m).Polls
	want := wire.DICOMOptions{UrgentCallers: "ARCHIVE", UrgentClasses: "1.2.3", UrgentStat: true}
	if len(polls) != 1 || polls[0].Urgent != want {
		t.Errorf("the polls are %+v", polls)
	}
}
