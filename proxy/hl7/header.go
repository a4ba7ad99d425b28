package hl7

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Limits on the header segment, so that hostile messages cost little.
const (
	maxHeader       = 16 << 10
	maxHeaderFields = 40
	// maxBatchHeaders is how many segments (FHS, BHS) may stand before the first MSH.
	maxBatchHeaders = 2
)

// ErrNotHL7 means that what was received does not begin as an HL7 version 2 message does.
var ErrNotHL7 = errors.New("not an HL7 version 2 message")

// Header is the MSH segment of a message (HL7 2.5.1 §2.15.9), read with the message's own delimiters. For a batch it is that of the
// first message in it: batches stay whole.
type Header struct {
	// fields[0] is MSH-2, fields[1] is MSH-3 and so on.
	fields    []string
	separator byte
}

// ParseHeader reads the header. It accepts carriage return, line feed or both as the end of a segment, and a byte order mark or white
// space before the first. All errors are ErrNotHL7; their texts hold nothing of the message.
func ParseHeader(msg []byte) (Header, error) {
	switch {
	case bytes.HasPrefix(msg, []byte{0xff, 0xfe}), bytes.HasPrefix(msg, []byte{0xfe, 0xff}), bytes.HasPrefix(msg, []byte("M\x00S")),
		bytes.HasPrefix(msg, []byte("\x00M\x00S")):
		return Header{}, fmt.Errorf("%w: it is in UTF-16; set the sender to UTF-8 or ISO 8859-1", ErrNotHL7)
	}
	rest := bytes.TrimPrefix(msg, []byte("\xef\xbb\xbf"))
	for range maxBatchHeaders + 1 {
		var segment []byte
		segment, rest = cutSegment(rest)
		switch {
		case len(segment) > maxHeader:
			return Header{}, fmt.Errorf("%w: its first segment is longer than %d bytes", ErrNotHL7, maxHeader)
		case bytes.HasPrefix(segment, []byte("MSH")):
			return parseMSH(segment[len("MSH"):])
		case bytes.HasPrefix(segment, []byte("FHS")), bytes.HasPrefix(segment, []byte("BHS")):
		default:
			return Header{}, fmt.Errorf("%w: it does not begin with MSH", ErrNotHL7)
		}
	}
	return Header{}, fmt.Errorf("%w: there is no MSH behind the batch headers", ErrNotHL7)
}

// cutSegment returns the first segment that is not empty, and what follows.
func cutSegment(msg []byte) (segment, rest []byte) {
	msg = bytes.TrimLeft(msg, "\r\n \t\x00")
	if end := bytes.IndexAny(msg[:min(len(msg), maxHeader+1)], "\r\n"); end >= 0 {
		return msg[:end], msg[end+1:]
	}
	return msg, nil
}

func parseMSH(rest []byte) (Header, error) {
	if len(rest) < 2 {
		return Header{}, fmt.Errorf("%w: MSH ends before its delimiters", ErrNotHL7)
	}
	separator := rest[0]
	if !delimiter(separator) {
		return Header{}, fmt.Errorf("%w: MSH-1 is no delimiter", ErrNotHL7)
	}
	fields := strings.SplitN(string(rest[1:]), string(separator), maxHeaderFields)
	for _, c := range []byte(fields[0]) {
		if !delimiter(c) {
			return Header{}, fmt.Errorf("%w: MSH-2 holds more than delimiters", ErrNotHL7)
		}
	}
	return Header{fields: fields, separator: separator}, nil
}

// delimiter accepts printable ASCII other than letters, digits and space.
func delimiter(c byte) bool {
	return c > ' ' && c < 0x7f && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z')
}

// Field returns MSH-n as it was sent, escapes and all, in the sender's character set. MSH-1 is the separator. What is not there is empty.
func (h Header) Field(n int) string {
	switch {
	case n == 1 && h.separator != 0:
		return string(h.separator)
	case n < 2 || n-2 >= len(h.fields):
		return ""
	default:
		return h.fields[n-2]
	}
}

// Component returns component c (from 1) of the first repetition of MSH-n, without white space around it.
func (h Header) Component(n, c int) string {
	first, _, _ := strings.Cut(h.Field(n), string(h.encoding(1)))
	for i, part := range strings.SplitN(first, string(h.encoding(0)), c+1) {
		if i == c-1 {
			return strings.TrimSpace(part)
		}
	}
	return ""
}

// encoding returns delimiter i of MSH-2 (component, repetition, escape, subcomponent) or the standard's when it is not there. Only
// the escape character may be missing on purpose: it is zero then.
func (h Header) encoding(i int) byte {
	const standard = `^~\&`
	own := h.Field(2)
	switch {
	case i < len(own):
		return own[i]
	case i == 2:
		return 0
	default:
		return standard[i]
	}
}

// ControlID returns MSH-10. It may be built from a patient's number: do not log it.
func (h Header) ControlID() string { return strings.TrimSpace(h.Field(10)) }

// Sender and Receiver return application and facility (MSH-3 and 4, MSH-5 and 6) as "APP^FACILITY", or "APP" without a facility, cut
// to what may be shown.
func (h Header) Sender() string { return h.party(3) }

// Receiver is the opposite of Sender.
func (h Header) Receiver() string { return h.party(5) }

func (h Header) party(field int) string {
	name := showable(h.Component(field, 1))
	if facility := showable(h.Component(field+1, 1)); facility != "" {
		name += "^" + facility
	}
	return name
}

// Type returns MSH-9 as it should be written: "ORU^R01".
func (h Header) Type() string {
	code, trigger := showable(h.Component(9, 1)), showable(h.Component(9, 2))
	if trigger == "" {
		return code
	}
	return code + "^" + trigger
}

// isAck reports whether the message is a general acknowledgment, which must never be acknowledged.
func (h Header) isAck() bool {
	code := strings.ToUpper(h.Component(9, 1))
	return code == "ACK" || code == "MCF"
}

// showable keeps what is safe in a log line or an acknowledgment of any character set: short printable ASCII.
func showable(s string) string {
	const longest = 32
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), longest)])
}
