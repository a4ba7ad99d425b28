package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// The journal holds small items, many in a file and with one sync for all that arrive together. Its files are segments; one is
//
//	"TWPJNL1\n"  record...
//
// and a record is, all numbers big-endian,
//
//	"TWPR"  kind(1)  state(1)  zero(2)  salt(8)  item(8)  group(4)  length(4)  CRC-32C of the body(4)  CRC-32C of all before(4)  body
//
// The body of a stored item is, byte for byte, what a file of its own would hold (format.go, sealed.go). The salt is drawn for each segment
// and is in its name, too: without it a payload could hold what looks like records, to be taken for them where something before it is damaged. The group is how much of
// the segment was synced when the record was written: whatever is before the highest group in a segment was synced.
//
// The last record of an item says where and in what state it is.
const (
	segmentMark   = "TWPJNL1\n"
	segmentFamily = "TWPJNL" // of all versions
	recordMark    = "TWPR"
	recordHead    = 40
	// maxImage is the largest item that goes into the journal, in bytes of what a file of its own would hold.
	maxImage = 64 << 10
	// maxSegment bounds what is read of one segment, in bytes. What is written stays far below it.
	maxSegment = 64 << 20
)

// recordKind is what a record says.
type recordKind byte

const (
	recordItem  recordKind = 'I' // the item itself
	recordState recordKind = 'S' // another state of an item that is stored before
	recordGone  recordKind = 'G' // the item is forgotten
	// recordMarked says that all before it was synced. It is not synced itself.
	recordMarked recordKind = 'M'
)

// record is one of a segment.
type record struct {
	kind  recordKind
	ext   string // the state, as what a file of the item would be called
	id    ID
	salt  uint64
	at    int64 // where it begins in its segment
	group int64
	size  int64 // of the body
}

func (r record) end() int64 { return r.at + recordHead + r.size }

// region is a part of a segment that holds no sound record.
type region struct {
	from, to int64
	id       ID // of the item, if the head of its record is sound
}

// states are the letters of states.
func stateLetter(ext string) byte {
	switch ext {
	case extParked:
		return 'p'
	case extCarried:
		return 'c'
	}
	return 'q'
}

func letterState(letter byte) (ext string, ok bool) {
	switch letter {
	case 'q':
		return extQueued, true
	case 'p':
		return extParked, true
	case 'c':
		return extCarried, true
	}
	return "", false
}

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// appendRecord appends a record to b. Its at and size are not looked at.
func appendRecord(b []byte, r record, body []byte) []byte {
	begin := len(b)
	number, _ := r.id.sequence()
	b = append(b, recordMark...)
	b = append(b, byte(r.kind), stateLetter(r.ext), 0, 0)
	b = binary.BigEndian.AppendUint64(b, r.salt)
	b = binary.BigEndian.AppendUint64(b, number)
	b = binary.BigEndian.AppendUint32(b, uint32(r.group))   // below maxSegment
	b = binary.BigEndian.AppendUint32(b, uint32(len(body))) // at most maxImage
	b = binary.BigEndian.AppendUint32(b, castagnoli(body))
	b = binary.BigEndian.AppendUint32(b, castagnoli(b[begin:]))
	return append(b, body...)
}

// parseRecord reads the head of a record at the start of b.
func parseRecord(b []byte, at int64) (r record, sum uint32, ok bool) {
	if len(b) < recordHead || string(b[:len(recordMark)]) != recordMark ||
		castagnoli(b[:recordHead-4]) != binary.BigEndian.Uint32(b[recordHead-4:]) {
		return r, 0, false
	}
	r = record{
		kind: recordKind(b[4]), salt: binary.BigEndian.Uint64(b[8:]), id: newID(binary.BigEndian.Uint64(b[16:])), at: at,
		group: int64(binary.BigEndian.Uint32(b[24:])), size: int64(binary.BigEndian.Uint32(b[28:])),
	}
	r.ext, ok = letterState(b[5])
	switch r.kind {
	case recordItem:
		ok = ok && r.size <= maxImage
	case recordState, recordGone, recordMarked:
		ok = ok && r.size == 0
	default:
		ok = false
	}
	return r, binary.BigEndian.Uint32(b[32:]), ok
}

// contents are what a segment holds.
type contents struct {
	records []record
	damaged []region
	// headless means that the segment's own mark is damaged.
	headless bool
	// end is behind the last byte that counts.
	end int64
	// torn is how many bytes behind it were being written when the machine stopped.
	torn int64
}

var errNewerJournal = errors.New("the queue's journal was written by a newer version of this program: install that again")

// readContents reads a segment of that salt. One that was closed has a length; -1 means that the process ended before that, and then what was never
// synced is no damage.
func readContents(b []byte, salt uint64, length int64) (c contents, err error) {
	closed := length >= 0
	if closed && int64(len(b)) > length {
		b = b[:length]
	}
	if head := b[:min(len(b), len(segmentMark))]; string(head) != segmentMark {
		if c.headless = len(head) == len(segmentMark); c.headless && bytes.HasPrefix(head, []byte(segmentFamily)) && head[7] == '\n' && head[6] > '1' && head[6] <= '9' {
			return c, errNewerJournal
		}
	}
	c.scan(b, salt)
	switch missing := length - int64(len(b)); {
	case closed:
		c.end = int64(len(b))
		if missing > 0 {
			c.damaged = append(c.damaged, region{from: int64(len(b)), to: length})
		}
	default:
		c.tear(int64(len(b)))
	}
	return c, nil
}

// scan finds records, and what is between them.
func (c *contents) scan(b []byte, salt uint64) {
	sound := func(at int64) (record, uint32, bool) {
		r, sum, ok := parseRecord(b[at:], at)
		return r, sum, ok && r.salt == salt && r.end() <= int64(len(b)) && r.group <= at
	}
	for at := int64(min(len(segmentMark), len(b))); at < int64(len(b)); {
		r, sum, ok := sound(at)
		if ok {
			if castagnoli(b[at+recordHead:r.end()]) == sum {
				c.records = append(c.records, r)
			} else {
				c.damaged = append(c.damaged, region{from: at, to: r.end(), id: r.id})
			}
			at = r.end()
			continue
		}
		from := at
		for at++; at < int64(len(b)); at++ {
			next := bytes.Index(b[at:], []byte(recordMark))
			if next < 0 {
				at = int64(len(b))
				break
			}
			at += int64(next)
			if _, _, ok := sound(at); ok {
				break
			}
		}
		c.damaged = append(c.damaged, region{from: from, to: min(at, int64(len(b)))})
	}
}

// tear tells what was being written from what is damaged. Of the last group all that is behind the first gap was never answered for: either
// there was no sync after it, or its records would be whole.
func (c *contents) tear(size int64) {
	c.end = size
	synced := int64(-1)
	for _, r := range c.records {
		synced = max(synced, r.group)
	}
	for i, d := range c.damaged {
		if d.from < synced {
			continue
		}
		c.end, c.damaged = d.from, c.damaged[:i]
		break
	}
	if synced < 0 { // nothing of it was ever synced, its mark neither
		c.end, c.headless = 0, false
	}
	for i, r := range c.records {
		if r.at >= c.end {
			c.records = c.records[:i]
			break
		}
	}
	c.torn = size - c.end
}

// Names of segments: number and salt while they are written, and the length, too, once they are closed. All are hexadecimal.
const (
	journalDir = "journal"
	extOpen    = ".open"
	extClosed  = ".log"
)

func openName(number, salt uint64) string {
	return fmt.Sprintf("%s/%016x.%016x%s", journalDir, number, salt, extOpen)
}

func closedName(number, salt uint64, length int64) string {
	return fmt.Sprintf("%s/%016x.%016x.%016x%s", journalDir, number, salt, length, extClosed)
}

// parseSegmentName is the reverse, with a length of -1 for one that was not closed.
func parseSegmentName(name string) (number, salt uint64, length int64, ok bool) {
	parts := strings.Split(name, ".")
	var errs [3]error
	number, errs[0] = strconv.ParseUint(parts[0], 16, 64)
	if len(parts) > 1 {
		salt, errs[1] = strconv.ParseUint(parts[1], 16, 64)
	}
	if len(parts) > 2 && parts[2] != extOpen[1:] {
		length, errs[2] = strconv.ParseInt(parts[2], 16, 64)
	}
	switch {
	case errors.Join(errs[:]...) != nil:
	case journalDir+"/"+name == openName(number, salt):
		return number, salt, -1, true
	case length >= 0 && journalDir+"/"+name == closedName(number, salt, length):
		return number, salt, length, true
	}
	return 0, 0, 0, false
}
