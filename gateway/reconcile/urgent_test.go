package reconcile_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/spool"
)

// slowLine lets its connections together write so many bytes a second.
type slowLine struct {
	perSecond float64

	mu   sync.Mutex
	free time.Time // when the line is free again
}

func (l *slowLine) wrap(_ string, c net.Conn) net.Conn { return &slowConn{c, l} }

type slowConn struct {
	net.Conn
	line *slowLine
}

func (c *slowConn) Write(b []byte) (int, error) {
	c.line.mu.Lock()
	now := time.Now()
	if c.line.free.Before(now) {
		c.line.free = now
	}
	c.line.free = c.line.free.Add(time.Duration(float64(len(b)) / c.line.perSecond * float64(time.Second)))
	wait := c.line.free.Sub(now)
	c.line.mu.Unlock()
	<-time.After(wait)
	return c.Conn.Write(b)
}

// orderly is an archive that remembers in which order objects came.
type orderly struct {
	mu   sync.Mutex
	uids []string
}

func (o *orderly) stored(s dicom.StoredObject) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.uids = append(o.uids, s.SOPInstance)
}

func (o *orderly) order() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.uids)
}

// image is a DICOM file with a study and pixels that do not compress.
func image(class, uid, study string, size int) dicom.Object {
	element := func(b []byte, group, number uint16, vr, value string) []byte {
		if len(value)%2 == 1 {
			value += "\x00"
		}
		b = append(b, byte(group), byte(group>>8), byte(number), byte(number>>8), vr[0], vr[1], byte(len(value)), byte(len(value)>>8))
		return append(b, value...)
	}
	m := dicom.Part10Meta{TransferSyntax: dicom.ExplicitLittleEndian, SOPClass: class, SOPInstance: uid}
	b := element(m.AppendPart10(nil), 0x0008, 0x0016, "UI", class)
	b = element(b, 0x0008, 0x0018, "UI", uid)
	b = element(b, 0x0010, 0x0020, "LO", "CANARY-4711")
	b = element(b, 0x0020, 0x000d, "UI", study)
	b = append(b, 0xe0, 0x7f, 0x10, 0, 'O', 'W', 0, 0, byte(size), byte(size>>8), byte(size>>16), byte(size>>24))
	r := rand.New(rand.NewPCG(1, uint64(size)))
	for range size / 8 {
		v := r.Uint64()
		for i := range 8 {
			b = append(b, byte(v>>(8*i)))
		}
	}
	return dicom.BytesObject("image", b)
}

// modality sends objects to the clinic's listener.
func (p *gatewayPair) modality(t *testing.T, calling string, objects ...dicom.Object) {
	t.Helper()
	_, err := dicom.Store(t.Context(), dicom.StoreConfig{
		Network: p.clinic.lan.From(netip.MustParseAddr("192.168.1.50")), Target: dicomAddr, CallingAE: calling, CalledAE: "PACS",
	}, objects, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheUrgentOvertake: objects of an urgent AE title and of an urgent SOP class, sent through the clinic's listener while long ones are on a slow
// line, are at the archive before these, and these come in the order in which they were sent.
func TestTheUrgentOvertake(t *testing.T) {
	const ct, xa, long, short = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.12.1", 6 << 20, 100 << 10
	p := newGatewayPair(t)
	p.clinicMap.Uses[0].DICOM.UrgentCallers, p.clinicMap.Uses[0].DICOM.UrgentClasses = `ER_CT\ER_MR`, xa
	line := &slowLine{perSecond: 6 << 20}
	p.clinic.overlay.OnDial(line.wrap)
	var archive orderly
	p.archive(t, &archive)
	p.apply(t)
	p.modality(t, "CT1", image(ct, "1.2.1", "1.2", long), image(ct, "1.2.2", "1.2", long), image(ct, "1.2.3", "1.2", long))
	eventually(t, "the long ones under way", func() bool {
		got := p.clinic.Transfers()
		return len(got) == 1 && got[0].LineBytes > 1<<20
	})
	p.modality(t, "ER_CT", image(ct, "1.9.1", "1.9", short), image(ct, "1.9.2", "1.9", short))
	p.modality(t, "CT1", image(xa, "1.9.3", "1.9", short), image(ct, "1.2.4", "1.2", long))
	eventually(t, "all at the archive", func() bool { return len(archive.order()) == 7 })
	want := []string{"1.9.1", "1.9.2", "1.9.3", "1.2.1", "1.2.2", "1.2.3", "1.2.4"}
	got := archive.order()
	slices.Sort(got[:3]) // short ones that are under way together arrive as their lanes carry them
	if !slices.Equal(got, want) {
		t.Errorf("they came as %v, not %v", got, want)
	}
}

// TestAttributesForTheBooks: what the gateways' books need goes with an object to the center.
func TestAttributesForTheBooks(t *testing.T) {
	p := newGatewayPair(t)
	p.apply(t)
	p.modality(t, "CT1", image("1.2.840.10008.5.1.4.1.1.2", "1.2.1", "1.2.77", 64<<10), image("1.2.840.10008.5.1.4.1.1.2", "1.2.2", "1.2.77", 100))
	eventually(t, "both at the center", func() bool { return stats(p.center, "in.pacs").Queued == 2 })
	items, err := p.center.queue.List("in.pacs", 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		a := it.Meta.Attributes
		if a[dicom.AttrStudyInstance] != "1.2.77" || a[dicom.AttrSource] != "192.168.1.50" || a[dicom.AttrAssociation] == "" ||
			a[dicom.AttrAssociation] != items[0].Meta.Attributes[dicom.AttrAssociation] {
			t.Errorf("attributes %v", a)
		}
	}
}

// TestUrgentMessages: a stat order passes those that wait, in the queue of a service that wants it so and in no other.
func TestUrgentMessages(t *testing.T) {
	f, _, _ := hl7Fixture(t)
	m := hl7Map(t)
	m.Uses[0].HL7.UrgentStat = true
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	clinic := hl7.SendConfig{Network: f.lan, Target: "192.168.1.10:2575"}
	parties := hl7.Parties{SendingApplication: "PRAXIS", ReceivingApplication: "HIS"}
	for i, suffix := range []string{"", "", "TQ1|1||||||||S\r", "TQ1|1||||||||R\r"} {
		order := append(hl7.SampleOrder(time.Unix(1e9, 0), fmt.Sprint(i), parties), suffix...)
		if a, err := hl7.Send(t.Context(), clinic, order); err != nil || a.Code != hl7.AA {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	for queue, want := range map[string][]int{"hl7.orders": {0, 0, spool.Urgent, 0}, "hl7.archive": {0, 0, 0, 0}} {
		items, err := f.queue.List(queue, 9)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, it := range items {
			got = append(got, it.Meta.Priority)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has the priorities %v, not %v", queue, got, want)
		}
	}
}
