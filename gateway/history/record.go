package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strings"
	"time"
)

// Step is what happened.
type Step uint8

// The steps. Their numbers are on disk.
const (
	Taken     Step = iota + 1 // stored here
	Carried                   // the far gateway has it
	Delivered                 // its receiver has it
	Parked                    // refused for good, or held by an operator
	Queued                    // again
	Dropped                   // deleted by an operator, undelivered
	stepEnd
)

// String returns a word for people.
func (s Step) String() string {
	names := [...]string{"", "taken", "carried", "delivered", "parked", "queued", "dropped"}
	if s == 0 || s >= stepEnd {
		return "unknown"
	}
	return names[s]
}

// Event is one step of one item.
type Event struct {
	Step Step
	At   time.Time
	// Queue and Item name the item at this box.
	Queue string
	Item  uint64
	// Object and Study are zero where they are not known, as of an item whose key is away.
	Object, Study Hash
	Size          int64
	// Attempts counts deliveries that failed before.
	Attempts int
	// Calling is the AE title that sent it and Source where that was; Association tells its associations apart.
	Calling     string
	Source      netip.Addr
	Association string
	// Peer is the other side of the step: the gateway that handed the item over or took it, or the receiver. Code is the receiver's own status.
	Peer, Code string
}

// A record is an Event in recordSize bytes:
//
//	0 "TWH1"  4 CRC-32C of what follows  8 step  9 nothing  10 attempts(2)  12 nothing  16 time, Unix ns  24 item  32 size
//	40 object(16)  56 study(16)  72 source(16)  88 calling(16)  104 code(8)  112 peer(32)  144 queue(96)  240 association(16)
//
// Numbers are big-endian, texts end with the first NUL. A text that is too long is cut.
const (
	recordSize = 256
	recordMark = "TWH1"
)

var errRecord = errors.New("not a record of the history")

func putText(b []byte, s string) {
	copy(b, strings.ReplaceAll(s, "\x00", "?"))
}

func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// encode makes the record.
func (e Event) encode() []byte {
	b := make([]byte, recordSize)
	copy(b, recordMark)
	b[8] = byte(e.Step)
	binary.BigEndian.PutUint16(b[10:], uint16(min(max(e.Attempts, 0), 1<<16-1)))
	binary.BigEndian.PutUint64(b[16:], uint64(e.At.UnixNano()))
	binary.BigEndian.PutUint64(b[24:], e.Item)
	binary.BigEndian.PutUint64(b[32:], uint64(e.Size))
	copy(b[40:56], e.Object[:])
	copy(b[56:72], e.Study[:])
	if e.Source.IsValid() {
		a := e.Source.As16()
		copy(b[72:88], a[:])
	}
	putText(b[88:104], e.Calling)
	putText(b[104:112], e.Code)
	putText(b[112:144], e.Peer)
	putText(b[144:240], e.Queue)
	putText(b[240:256], e.Association)
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// decode reads a record.
func decode(b []byte) (Event, error) {
	if len(b) != recordSize || string(b[:4]) != recordMark ||
		binary.BigEndian.Uint32(b[4:]) != crc32.Checksum(b[8:], crc32.MakeTable(crc32.Castagnoli)) {
		return Event{}, errRecord
	}
	e := Event{
		Step: Step(b[8]), At: time.Unix(0, int64(binary.BigEndian.Uint64(b[16:]))).UTC(), Item: binary.BigEndian.Uint64(b[24:]),
		Size: int64(binary.BigEndian.Uint64(b[32:])), Attempts: int(binary.BigEndian.Uint16(b[10:])),
		Object: Hash(b[40:56]), Study: Hash(b[56:72]),
		Calling: text(b[88:104]), Code: text(b[104:112]), Peer: text(b[112:144]), Queue: text(b[144:240]), Association: text(b[240:256]),
	}
	if e.Step == 0 || e.Step >= stepEnd {
		return Event{}, errRecord
	}
	if a := netip.AddrFrom16([16]byte(b[72:88])); a != netip.IPv6Unspecified() {
		e.Source = a.Unmap()
	}
	return e, nil
}
