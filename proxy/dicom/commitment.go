package dicom

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
)

// The storage commitment service (PS3.4 annex J).
const (
	StorageCommitment     = "1.2.840.10008.1.20.1"
	commitmentInstance    = "1.2.840.10008.1.20.1.1" // the well-known instance
	requestCommitment     = 1                        // action type
	noSuchObject          = 0x0112                   // failure reason (PS3.3 §C.14.1.1)
	maxReport             = 1 << 20                  // bytes of a report
	maxWaiting            = 4096                     // transactions waited for
	waitingAge            = 2 * time.Hour            // when one may be given up for others
	unknownTransaction    = dimse.Status(0x0112)
	unknownTransactionTxt = "the transaction is unknown here"
)

// commitment is what a report says of one object.
type commitment uint8

const (
	notReported commitment = iota
	committed
	missing    // failure reason 0112
	notDecided // any other failure reason
)

// report is the result of a storage commitment (PS3.4 table J.3-2).
type report struct {
	transaction string
	objects     map[string]commitment // by SOP instance UID
	reasons     map[string]uint16     // of those that failed
}

// parseReport reads the data set of an N-EVENT-REPORT.
func parseReport(b []byte, enc encoding) report {
	r := report{objects: map[string]commitment{}, reasons: map[string]uint16{}}
	for s := (elements{b: b, enc: enc}); ; {
		e, err := s.next()
		if err != nil {
			return r
		}
		switch e.tag {
		case tagTransaction:
			r.transaction = e.text()
		case tagRefSequence, tagFailedSequence:
			for _, it := range items(e.value, enc) {
				uid, reason := parseReference(it, enc)
				if e.tag == tagFailedSequence {
					r.reasons[uid] = reason
				}
				switch {
				case e.tag == tagRefSequence:
					if r.objects[uid] == notReported {
						r.objects[uid] = committed
					}
				case reason == noSuchObject:
					r.objects[uid] = missing
				default:
					r.objects[uid] = notDecided
				}
			}
		}
	}
}

func parseReference(b []byte, enc encoding) (instance string, reason uint16) {
	for s := (elements{b: b, enc: enc}); ; {
		e, err := s.next()
		if err != nil {
			return instance, reason
		}
		switch {
		case e.tag == tagRefSOPInstance:
			instance = e.text()
		case e.tag == tagFailureReason && len(e.value) == 2:
			reason = enc.order.Uint16(e.value)
		}
	}
}

// commitmentRequest returns the data set of an N-ACTION for one object (PS3.4 table J.3-1).
func commitmentRequest(transaction, class, instance string) []byte {
	item := appendUI(appendUI(nil, tagRefSOPClass, class), tagRefSOPInstance, instance)
	seq := binary.LittleEndian.AppendUint16(nil, tagItem>>16)
	seq = binary.LittleEndian.AppendUint16(seq, tagItem&0xFFFF)
	seq = binary.LittleEndian.AppendUint32(seq, uint32(len(item)))
	return appendElement(appendUI(nil, tagTransaction, transaction), tagRefSequence, append(seq, item...), 0)
}

// Commitments hands the reports that archives send on associations of their own to the Sinks that wait for them: give one to the
// Sinks and to the Router whose queued routes the archives call. It is safe for concurrent use.
type Commitments struct {
	mu      sync.Mutex
	waiting map[string]*transaction
}

// NewCommitments returns an empty Commitments.
func NewCommitments() *Commitments { return &Commitments{waiting: map[string]*transaction{}} }

// transaction is one request for commitment that waits for its report.
type transaction struct {
	uid    string
	born   time.Time
	report chan report // holds the one report
}

// expect starts to wait.
func (c *Commitments) expect(uid string) *transaction {
	t := &transaction{uid: uid, born: time.Now(), report: make(chan report, 1)}
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.waiting) >= maxWaiting {
			maps.DeleteFunc(c.waiting, func(_ string, t *transaction) bool { return time.Since(t.born) > waitingAge })
		}
		if len(c.waiting) < maxWaiting { // beyond it only a report on the same association is heard
			c.waiting[uid] = t
		}
	}
	return t
}

// forget ends the waiting.
func (c *Commitments) forget(t *transaction) {
	if c != nil && t != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, t.uid)
	}
}

// mayReport says whether a peer with these roles is to be heard as an archive: one that asks for that role, or any while a report is
// waited for, since not all archives ask.
func (c *Commitments) mayReport(roles []pdu.Role) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) > 0 || slices.ContainsFunc(roles, func(r pdu.Role) bool { return r.SOPClass == StorageCommitment && r.SCP })
}

// arrived hands a report over. It returns false if nobody waits for it.
func (c *Commitments) arrived(r report) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.waiting[r.transaction]
	if t == nil {
		return false
	}
	t.arrived(r)
	return true
}

// arrived keeps the first report; the standard lets an archive repeat it.
func (t *transaction) arrived(r report) {
	select {
	case t.report <- r:
	default:
	}
}

// errLongDataSet means that a peer sends more than anything sensible.
var errLongDataSet = errors.New("the peer sends a data set that is too long")

// readDataSet reads a small data set to its end. After an error the association is of no use.
func readDataSet(ctx context.Context, a *ul.Association, id uint8, limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(a.Data(ctx, id), int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read a data set: %w", err)
	}
	if len(b) > limit {
		a.Abort()
		return nil, errLongDataSet
	}
	return b, nil
}

// commitmentReport serves an N-EVENT-REPORT on a queued route.
func (p *provider) commitmentReport(ctx context.Context, pc ul.Context, set *dimse.Set) error {
	status, comment := unknownTransaction, unknownTransactionTxt
	if set.HasDataSet() {
		b, err := readDataSet(ctx, p.a, pc.ID, maxReport)
		if err != nil {
			return err
		}
		if p.commitments.arrived(parseReport(b, encodingOf(pc.TransferSyntax))) {
			status, comment = dimse.Success, ""
		}
	}
	if status != dimse.Success {
		p.refuse("a storage commitment report belongs to no transaction of ours: it may be meant for a device behind us")
	}
	return p.respond(ctx, pc.ID, dimse.Respond(set, status, comment))
}
