package dicom

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/towpath/towpath/proxy/dicom/dimse"
)

// Failure reasons of a storage commitment (PS3.3 §C.14.1.1).
const (
	reasonProcessing  = 0x0110
	reasonNoClass     = 0x0122
	reasonNoResources = 0x0213
)

const (
	eventCommitted     = 1 // event types of PS3.4 table J.3-2
	eventFailuresExist = 2
)

// pledge is a device's request for storage commitment that is answered when the archive has: what it promises is the archive's to keep
// (PS3.4 annex J).
type pledge struct {
	Transaction string `json:"transaction"`
	// Calling asked, Called was asked, From is where from.
	Calling  string     `json:"calling"`
	Called   string     `json:"called"`
	From     netip.Addr `json:"from,omitzero"`
	Received time.Time  `json:"received"`
	Objects  []promise  `json:"objects"`
	// Asked is when the archive took the request AskedUID, zero for not yet; Decided is when all Objects had an outcome.
	Asked    time.Time `json:"asked,omitzero"`
	AskedUID string    `json:"asked_uid,omitempty"`
	Decided  time.Time `json:"decided,omitzero"`

	name string // of its file
	// What follows is forgotten by a restart.
	report  *transaction
	next    time.Time // not before then
	tries   int
	refused int // by the device
	telling bool
	problem string
}

// promise is one object of a pledge.
type promise struct {
	Class    string `json:"class"`
	Instance string `json:"instance"`
	// Committed is set when the archive has it safe, Reason otherwise when it has not.
	Committed bool   `json:"committed,omitempty"`
	Reason    uint16 `json:"reason,omitempty"`
}

func (o promise) decided() bool { return o.Committed || o.Reason != 0 }

var errNoPledge = errors.New("the request names no transaction, no objects, or makes no sense")

// parsePledge reads the data set of an N-ACTION (PS3.4 table J.3-1).
func parsePledge(b []byte, enc encoding) (pledge, error) {
	var p pledge
	for s := (elements{b: b, enc: enc}); len(s.b) > 0; {
		e, err := s.next()
		if err != nil {
			return p, errNoPledge
		}
		switch e.tag {
		case tagTransaction:
			p.Transaction = e.text()
		case tagRefSequence:
			for _, it := range items(e.value, enc) {
				o := parsePromise(it, enc)
				if !ValidUID(o.Class) || !ValidUID(o.Instance) {
					return p, errNoPledge
				}
				p.Objects = append(p.Objects, o)
			}
		}
	}
	if !ValidUID(p.Transaction) || len(p.Objects) == 0 {
		return p, errNoPledge
	}
	return p, nil
}

func parsePromise(b []byte, enc encoding) (o promise) {
	for s := (elements{b: b, enc: enc}); ; {
		e, err := s.next()
		if err != nil {
			return o
		}
		switch e.tag {
		case tagRefSOPClass:
			o.Class = e.text()
		case tagRefSOPInstance:
			o.Instance = e.text()
		}
	}
}

// sameRequest reports whether p and o ask for the same.
func (p *pledge) sameRequest(o *pledge) bool {
	return slices.EqualFunc(p.Objects, o.Objects, func(a, b promise) bool { return a.Class == b.Class && a.Instance == b.Instance })
}

// undecided are the objects that the archive is to be asked for.
func (p *pledge) undecided() []promise {
	return slices.DeleteFunc(slices.Clone(p.Objects), promise.decided)
}

// failRest gives all objects without an outcome a reason.
func (p *pledge) failRest(reason uint16) {
	for i := range p.Objects {
		if o := &p.Objects[i]; !o.decided() {
			o.Reason = reason
		}
	}
}

// settle takes what the archive says.
func (p *pledge) settle(r report) {
	for i := range p.Objects {
		o := &p.Objects[i]
		if o.decided() {
			continue
		}
		if r.objects[o.Instance] == committed {
			o.Committed = true
		} else if o.Reason = r.reasons[o.Instance]; o.Reason == 0 {
			o.Reason = reasonProcessing
		}
	}
}

// event returns the event type and data set by which the device is told.
func (p *pledge) event(enc encoding) (event uint16, data []byte) {
	var good, bad []byte
	for _, o := range p.Objects {
		it := enc.appendUI(enc.appendUI(nil, tagRefSOPClass, o.Class), tagRefSOPInstance, o.Instance)
		if o.Committed {
			good = appendItem(good, it)
			continue
		}
		it = enc.append(it, tagFailureReason, "US", binary.LittleEndian.AppendUint16(nil, o.Reason))
		bad = appendItem(bad, it)
	}
	b := enc.appendUI(nil, tagTransaction, p.Transaction)
	event = eventCommitted
	if bad != nil {
		event = eventFailuresExist
		b = enc.append(b, tagFailedSequence, "SQ", bad)
	}
	if good != nil {
		b = enc.append(b, tagRefSequence, "SQ", good)
	}
	return event, b
}

// requestFor is the data set of an N-ACTION for several objects, in Implicit VR Little Endian.
func requestFor(transaction string, objects []promise) []byte {
	enc := encoding{order: binary.LittleEndian}
	var list []byte
	for _, o := range objects {
		list = appendItem(list, enc.appendUI(enc.appendUI(nil, tagRefSOPClass, o.Class), tagRefSOPInstance, o.Instance))
	}
	return enc.append(enc.appendUI(nil, tagTransaction, transaction), tagRefSequence, "SQ", list)
}

// append appends an element in little endian, with its VR where the encoding wants it (PS3.5 §7.1). The value has an even length.
func (e encoding) append(b []byte, tag uint32, vr string, value []byte) []byte {
	if !e.explicit {
		return appendElement(b, tag, value, 0)
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(tag>>16))
	b = binary.LittleEndian.AppendUint16(b, uint16(tag))
	b = append(b, vr...)
	if vr == "SQ" {
		b = append(b, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	} else {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	}
	return append(b, value...)
}

func (e encoding) appendUI(b []byte, tag uint32, uid string) []byte {
	v := []byte(uid)
	if len(v)%2 == 1 {
		v = append(v, 0)
	}
	return e.append(b, tag, "UI", v)
}

// appendItem appends an item of a sequence, which has no VR in any encoding (PS3.5 §7.5).
func appendItem(b, content []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, tagItem>>16)
	b = binary.LittleEndian.AppendUint16(b, tagItem&0xFFFF)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(content)))
	return append(b, content...)
}

// statusIn finds the status of an archive's refusal in what a queue says of a parked item.
var statusIn = regexp.MustCompile(`status ([0-9A-F]{4}) `)

// parkedReason says in the words of a storage commitment why an object is parked.
func parkedReason(lastError string, refusedByTwin bool) uint16 {
	m := statusIn.FindStringSubmatch(lastError)
	if m == nil {
		if refusedByTwin {
			return reasonNoClass
		}
		return reasonProcessing
	}
	n, err := strconv.ParseUint(m[1], 16, 16)
	if err != nil {
		return reasonProcessing
	}
	switch status := dimse.Status(n); {
	case status == dimse.SOPClassNotSupported, status == dimse.NoSuchSOPClass:
		return reasonNoClass
	case status == dimse.ResourceLimitation, status&0xFF00 == 0xA700:
		return reasonNoResources
	case status == dimse.ClassInstanceConflict:
		return uint16(status)
	default:
		return reasonProcessing
	}
}
