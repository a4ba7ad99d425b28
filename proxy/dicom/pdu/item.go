package pdu

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Item types of PS3.8 §9.3 and annex D, and of PS3.7 §D.3.3.
const (
	itemApplicationContext = 0x10
	itemContextRQ          = 0x20
	itemContextAC          = 0x21
	itemAbstractSyntax     = 0x30
	itemTransferSyntax     = 0x40
	itemUserInformation    = 0x50

	itemMaxLength        = 0x51
	itemClassUID         = 0x52
	itemAsyncWindow      = 0x53
	itemRole             = 0x54
	itemVersionName      = 0x55
	itemExtended         = 0x56
	itemUserIdentity     = 0x58
	itemUserIdentityResp = 0x59
)

// itemHeaderSize: type (1), reserved (1), length (2, big-endian).
const itemHeaderSize = 4

// Item is an item or sub-item that is kept as it came.
type Item struct {
	Type uint8
	Data []byte
}

// nextItem splits the first item off b.
func nextItem(b []byte) (Item, []byte, error) {
	if len(b) < itemHeaderSize {
		return Item{}, nil, invalid("%d stray bytes where an item should start", len(b))
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b)-itemHeaderSize {
		return Item{}, nil, invalid("item %02XH claims %d bytes where only %d are left", b[0], n, len(b)-itemHeaderSize)
	}
	return Item{Type: b[0], Data: b[itemHeaderSize : itemHeaderSize+n]}, b[itemHeaderSize+n:], nil
}

// encoder appends items; the first thing that does not fit its length field is kept as err.
type encoder struct {
	b   []byte
	err error
}

// item appends an item whose body is what fill appends.
func (e *encoder) item(kind uint8, fill func()) {
	e.b = append(e.b, kind, 0, 0, 0)
	start := len(e.b)
	fill()
	n := len(e.b) - start
	if n > 0xFFFF {
		e.fail("item %02XH has %d bytes and may have 65535", kind, n)
		return
	}
	binary.BigEndian.PutUint16(e.b[start-2:], uint16(n))
}

func (e *encoder) text(kind uint8, s string) { e.item(kind, func() { e.b = append(e.b, s...) }) }

func (e *encoder) bytes(kind uint8, p []byte) { e.item(kind, func() { e.b = append(e.b, p...) }) }

// counted appends a 16-bit length and then p.
func (e *encoder) counted(p []byte) {
	if len(p) > 0xFFFF {
		e.fail("a field has %d bytes and may have 65535", len(p))
		return
	}
	e.b = append(binary.BigEndian.AppendUint16(e.b, uint16(len(p))), p...)
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

// finish writes the length of the whole PDU into its header.
func (e *encoder) finish() ([]byte, error) {
	if e.err != nil {
		return nil, e.err
	}
	binary.BigEndian.PutUint32(e.b[2:], uint32(len(e.b)-HeaderSize))
	return e.b, nil
}

// cutCounted splits a field with a 16-bit length off b.
func cutCounted(b []byte) (field, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, invalid("a length field is cut off")
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > len(b)-2 {
		return nil, nil, invalid("a field claims %d bytes where only %d are left", n, len(b)-2)
	}
	return b[2 : 2+n], b[2+n:], nil
}

// text makes a string of a UID or name. UIDs are not padded in PDUs (PS3.8 §F), yet real peers do it with NUL or space.
func text(b []byte) string { return strings.TrimRight(string(b), "\x00 ") }
