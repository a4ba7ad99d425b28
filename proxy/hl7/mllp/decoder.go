package mllp

import (
	"bytes"
	"errors"
)

// The bytes of a frame: StartBlock, content, EndBlock, CarriageReturn.
const (
	StartBlock     = 0x0b
	EndBlock       = 0x1c
	CarriageReturn = 0x0d
)

// DefaultLimit bounds the content of a frame, in bytes. Documents embedded as base64 make messages of several megabytes.
const DefaultLimit = 16 << 20

// MaxJunk bounds the bytes between frames that are neither white space nor NUL. More means that the peer speaks something else.
const MaxJunk = 4 << 10

// What ends a Decoder.
var (
	// ErrTooLong means that a frame is longer than the limit.
	ErrTooLong = errors.New("the message is longer than allowed")
	// ErrNoStart means that there is no start of a frame in what the peer sends.
	ErrNoStart = errors.New("there is no start block (0x0B)")
)

// Decoder finds frames in a byte stream, however it is split. Feed it, then call Next until that returns false:
//
//	outside --0B--> inside --1C 0D--> outside   a frame
//	                inside --1C 0B--> inside    a frame; its sender leaves out the 0D
//	                inside --0B MSH-> inside    the sender has started again: what came before is dropped, see Fragments
//	                inside --1C-----> loose     a frame if nothing follows in time: see Loose
//	                loose --other---> inside    the 1C was content
//
// MSH stands for any segment that can head a message: MSH, FHS, BHS. A Decoder holds at most the limit and what was fed at once, and no
// more than it was fed.
type Decoder struct {
	limit  int
	buf    []byte // what was fed and not yet returned; inside a frame, from the start of its content
	scan   int    // buf[:scan] holds no end
	inside bool
	junk   int
	err    error

	fragments int
}

// NewDecoder makes a Decoder for frames of up to limit bytes of content; zero or less means DefaultLimit.
func NewDecoder(limit int) *Decoder {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return &Decoder{limit: limit}
}

// Feed takes over a copy of what arrived.
func (d *Decoder) Feed(p []byte) {
	if d.err == nil {
		d.buf = append(d.buf, p...)
	}
}

// Next returns the content of the next complete frame; it belongs to the caller. It returns false when more must be fed first. After an
// error it returns that error for ever.
func (d *Decoder) Next() (content []byte, ok bool, err error) {
	for d.err == nil {
		if !d.inside && !d.start() {
			break
		}
		if at := bytes.IndexAny(d.buf[d.scan:], marks); at < 0 {
			d.scan = len(d.buf)
		} else {
			d.scan += at
		}
		if d.scan > d.limit {
			d.fail(ErrTooLong)
			break
		}
		if d.scan < len(d.buf) && d.buf[d.scan] == StartBlock {
			if !d.restart() {
				break
			}
			continue
		}
		if d.scan >= len(d.buf)-1 {
			break // no end, or a loose one
		}
		switch d.buf[d.scan+1] {
		case CarriageReturn:
			return d.cut(2), true, nil
		case StartBlock:
			return d.cut(1), true, nil
		}
		d.scan++
	}
	return nil, false, d.err
}

// marks are the bytes that may end what is inside a frame.
const marks = string(rune(StartBlock)) + string(rune(EndBlock))

// restart looks at a start block inside a frame. It returns false when more must be fed to know what it is.
func (d *Decoder) restart() bool {
	next := d.buf[d.scan+1:]
	if begins, known := beginsMessage(next); !known {
		return false
	} else if !begins {
		d.scan++
		return true
	}
	d.buf, d.scan = next, 0
	d.fragments++
	return true
}

// beginsMessage reports whether b begins with the name of a segment that heads a message; it is not known when b is too short to tell.
func beginsMessage(b []byte) (begins, known bool) {
	known = true
	for _, name := range []string{"MSH", "FHS", "BHS"} {
		if bytes.HasPrefix(b, []byte(name)) {
			return true, true
		}
		if len(b) < len(name) && name[:len(b)] == string(b) {
			known = false
		}
	}
	return false, known
}

// Fragments counts the beginnings of frames that were dropped because their sender started again within them, as some do after a
// time-out. Nobody was promised anything for them.
func (d *Decoder) Fragments() int { return d.fragments }

// start drops what stands before the start of a frame.
func (d *Decoder) start() bool {
	at := bytes.IndexByte(d.buf, StartBlock)
	before := d.buf
	if at >= 0 {
		before = d.buf[:at]
	}
	for _, c := range before {
		if c != 0 && c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			d.junk++
		}
	}
	switch {
	case d.junk > MaxJunk:
		d.fail(ErrNoStart)
		return false
	case at < 0:
		d.buf = nil
		return false
	}
	d.buf, d.scan, d.inside = d.buf[at+1:], 0, true
	return true
}

// cut returns the content up to scan and drops the end of the frame as well. The content's capacity is cut, too, since the buffer goes
// on behind it.
func (d *Decoder) cut(end int) []byte {
	content := d.buf[:d.scan:d.scan]
	d.buf = d.buf[d.scan+end:]
	if len(d.buf) == 0 {
		d.buf = nil
	}
	d.scan, d.inside, d.junk = 0, false, 0
	return content
}

func (d *Decoder) fail(err error) {
	d.err, d.buf = err, nil
}

// Inside reports whether a frame has begun and not ended.
func (d *Decoder) Inside() bool { return d.inside && d.err == nil }

// Loose reports whether the last byte fed is an end block that no carriage return has followed yet. Some devices never send one, and
// an end block may also be content (in UTF-16, or binary data): so wait a moment for the next byte, and then call End.
func (d *Decoder) Loose() bool {
	return d.Inside() && d.scan == len(d.buf)-1 && d.buf[d.scan] == EndBlock
}

// End returns the frame before a loose end block. It returns false when there is none. A carriage return that comes later is skipped.
func (d *Decoder) End() (content []byte, ok bool) {
	if !d.Loose() {
		return nil, false
	}
	return d.cut(1), true
}
