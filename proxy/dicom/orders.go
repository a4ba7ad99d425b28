package dicom

import (
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// ModalityWorklist is the SOP class of worklist queries (PS3.4 annex K).
const ModalityWorklist = "1.2.840.10008.5.1.4.31"

const (
	// ordersFor is how long a study is urgent after the last worklist that said so: a device asks again before each examination.
	ordersFor = 24 * time.Hour
	// maxOrders bounds the studies, of which the latest are known.
	maxOrders = 4096
	// maxWorklistEntry is how much of an entry of a worklist is looked at, in bytes.
	maxWorklistEntry = 64 << 10
)

// Orders knows the studies that worklists call urgent, by what passes through: Requested Procedure Priority (0040,1003) STAT or HIGH, which
// are to a worklist what S and A are to an HL7 order (PS3.3 §C.4.11). A device's query must ask for that attribute. It is all in memory. A nil one
// knows nothing. It is safe for concurrent use.
type Orders struct {
	mu      sync.Mutex
	studies map[string]time.Time // when last heard of, by Study Instance UID
}

// NewOrders returns one that knows nothing yet.
func NewOrders() *Orders { return &Orders{studies: map[string]time.Time{}} }

// heard takes what a worklist says of a study last.
func (o *Orders) heard(study string, urgent bool, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !urgent {
		delete(o.studies, study)
		return
	}
	if _, known := o.studies[study]; !known && len(o.studies) >= maxOrders {
		oldest := study
		for s, at := range o.studies {
			if oldest == study || at.Before(o.studies[oldest]) {
				oldest = s
			}
		}
		delete(o.studies, oldest)
	}
	o.studies[study] = now
}

// urgent reports whether a study is.
func (o *Orders) urgent(study string, now time.Time) bool {
	if o == nil || study == "" {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	at, known := o.studies[study]
	return known && now.Sub(at) < ordersFor
}

// listener reads the answers to worklist queries that pass by, byte by byte as they come, and changes nothing. What makes no sense ends it.
type listener struct {
	orders   *Orders
	contexts map[uint8]encoding // those of worklists

	head   [pdu.HeaderSize]byte // of a PDU or, of the same size, a fragment
	have   int
	body   uint32 // bytes of the PDU to come
	inData bool   // it is a P-DATA-TF
	piece  uint32 // bytes of the fragment to come
	pdv    pdu.PDV
	entry  []byte
	deaf   bool
}

// listen returns a listener to what a far side answers on an association that it has accepted; nil if that is about no worklist.
func (o *Orders) listen(rq *pdu.AssociateRQ, answer []byte, lim pdu.Limits) *listener {
	if o == nil {
		return nil
	}
	ac, err := pdu.DecodeAssociateAC(answer, lim)
	if err != nil {
		return nil
	}
	l := &listener{orders: o, contexts: map[uint8]encoding{}}
	for _, c := range ac.Contexts {
		for _, p := range rq.Contexts {
			if p.ID == c.ID && p.AbstractSyntax == ModalityWorklist && c.Result == pdu.ContextAccepted && c.TransferSyntax != deflatedExplicit {
				l.contexts[c.ID] = encodingOf(c.TransferSyntax)
			}
		}
	}
	if len(l.contexts) == 0 {
		return nil
	}
	return l
}

func (l *listener) feed(b []byte) {
	for l != nil && !l.deaf && len(b) > 0 {
		switch {
		case l.piece > 0:
			n := min(uint64(l.piece), uint64(len(b)))
			l.piece, l.body = l.piece-uint32(n), l.body-uint32(n)
			l.fragment(b[:n])
			b = b[n:]
		case l.body > 0 && !l.inData:
			n := min(uint64(l.body), uint64(len(b)))
			l.body -= uint32(n)
			b = b[n:]
		default:
			n := copy(l.head[l.have:], b)
			l.have += n
			b = b[n:]
			if l.have == len(l.head) {
				l.have = 0
				l.header()
			}
		}
	}
}

// header takes that of a PDU, or inside a P-DATA-TF that of a fragment.
func (l *listener) header() {
	if l.body == 0 {
		h := pdu.DecodeHeader(l.head)
		l.body, l.inData = h.Length, h.Type == pdu.TypeData
		return
	}
	pdv, err := pdu.DecodePDV(l.head)
	if err != nil || uint64(pdv.Length)+pdu.PDVHeaderSize > uint64(l.body) {
		l.deaf = true
		return
	}
	l.pdv, l.piece, l.body = pdv, pdv.Length, l.body-pdu.PDVHeaderSize
	if l.piece == 0 {
		l.fragment(nil)
	}
}

// fragment collects data sets of worklists. Those of two messages are never mixed (PS3.8 annex E).
func (l *listener) fragment(b []byte) {
	enc, ours := l.contexts[l.pdv.ContextID]
	if !ours || l.pdv.Command {
		return
	}
	l.entry = append(l.entry, b[:min(len(b), maxWorklistEntry-len(l.entry))]...)
	if !l.pdv.Last || l.piece > 0 {
		return
	}
	if study, priority := orderOf(l.entry, enc); ValidUID(study) && priority != "" {
		l.orders.heard(study, priority == "STAT" || priority == "HIGH", time.Now())
	}
	l.entry = l.entry[:0]
}

// orderOf reads study and priority from an entry of a worklist. What cannot be found is empty.
func orderOf(entry []byte, enc encoding) (study, priority string) {
	for s := (elements{b: entry, enc: enc}); ; {
		e, err := s.next()
		switch {
		case err != nil || e.tag > tagProcedurePriority:
			return study, priority
		case e.tag == tagStudyInstance:
			study = e.text()
		case e.tag == tagProcedurePriority:
			priority = e.text()
		}
	}
}
