package hl7

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"
)

// Code is an acknowledgment code, MSA-1 (HL7 table 0008).
type Code string

// The codes of the original mode, which speak for the application, and of the enhanced mode's accept acknowledgment, which speaks for
// storage alone.
const (
	AA Code = "AA" // taken
	AE Code = "AE" // an error, trying again may help
	AR Code = "AR" // refused for good
	CA Code = "CA" // committed to safe storage
	CE Code = "CE" // an error, trying again may help
	CR Code = "CR" // refused for good
)

// OK reports whether the message was taken.
func (c Code) OK() bool { return c == AA || c == CA }

// Final reports whether trying again cannot help.
func (c Code) Final() bool { return c == AR || c == CR }

func (c Code) valid() bool {
	return len(c) == 2 && (c[0] == 'A' || c[0] == 'C') && strings.ContainsRune("AER", rune(c[1]))
}

// ErrNotAck means that a message holds no valid MSA segment.
var ErrNotAck = errors.New("the message is not an acknowledgment")

// Ack is what a receiver answered.
type Ack struct {
	Header Header
	Code   Code
	// ControlID is MSA-2, the MSH-10 of the message that is answered.
	ControlID string
	// Text is MSA-3. It may hold patient data: show it to who sent the message, never log it.
	Text string
	// Condition is the error code in ERR-3 (HL7 table 0357, such as 101 for a missing field), if the receiver gave one of that form.
	Condition string

	raw []byte
}

const (
	// maxAckSegments is how many segments are searched for MSA and ERR.
	maxAckSegments = 32
	maxAckText     = 80 // MSA-3 is ST(80) up to version 2.6
)

// ParseAck reads an acknowledgment. Errors are ErrNotHL7 and ErrNotAck.
func ParseAck(msg []byte) (Ack, error) {
	h, err := ParseHeader(msg)
	if err != nil {
		return Ack{}, err
	}
	a := Ack{Header: h, raw: msg}
	for range maxAckSegments {
		var segment []byte
		if segment, msg = cutSegment(msg); segment == nil {
			break
		}
		fields := bytes.SplitN(segment[:min(len(segment), maxHeader)], []byte{h.separator}, 5)
		switch string(fields[0]) {
		case "MSA":
			if a.Code == "" {
				a.Code, a.ControlID, a.Text = Code(strings.ToUpper(field(fields, 1))), field(fields, 2), field(fields, 3)
			}
		case "ERR":
			if a.Condition == "" {
				a.Condition = condition(field(fields, 3))
			}
		}
	}
	if !a.Code.valid() {
		return Ack{}, ErrNotAck
	}
	return a, nil
}

func field(fields [][]byte, n int) string {
	if n >= len(fields) {
		return ""
	}
	return strings.TrimSpace(string(fields[n]))
}

// condition accepts three digits, which cannot be anybody's name.
func condition(s string) string {
	if len(s) > 3 && s[3] >= '0' && s[3] <= '9' || len(s) < 3 {
		return ""
	}
	for _, c := range []byte(s[:3]) {
		if c < '0' || c > '9' {
			return ""
		}
	}
	return s[:3]
}

// Ack builds an acknowledgment of the message that h heads: sender and receiver changed places, processing ID and version kept
// (MSH-11 and 12), in the sender's own delimiters and character set (MSH-18). Text must be ASCII; it is cut to the 80 bytes MSA-3 holds.
func (h Header) Ack(code Code, text string) []byte {
	return h.ack(code, text, time.Now(), rand.Text()[:20])
}

func (h Header) ack(code Code, text string, now time.Time, controlID string) []byte {
	msh := []string{
		"MSH", h.Field(2), h.echo(5), h.echo(6), h.echo(3), h.echo(4), now.Format("20060102150405-0700"), "", h.ackType(), controlID,
		h.echo(11), h.echo(12),
	}
	if charset := h.echo(18); charset != "" {
		msh = append(msh, "", "", "", "", "", charset)
	}
	msa := []string{"MSA", string(code), h.echo(10), h.escape(showText(text))}
	separator := string(h.separator)
	return []byte(strings.Join(msh, separator) + "\r" + strings.Join(msa, separator) + "\r")
}

// echo returns a field as it was sent, but for control characters, which could end the segment or the frame.
func (h Header) echo(n int) string {
	s := []byte(h.Field(n))
	return string(slices.DeleteFunc(s, func(c byte) bool { return c < ' ' }))
}

// ackType answers in as many components as the sender uses: ACK up to 2.3, ACK^R01 from 2.3.1, ACK^R01^ACK from 2.4 on.
func (h Header) ackType() string {
	component := string(h.encoding(0))
	switch trigger := showable(h.Component(9, 2)); {
	case trigger == "":
		return "ACK"
	case h.Component(9, 3) == "":
		return "ACK" + component + trigger
	default:
		return "ACK" + component + trigger + component + "ACK"
	}
}

func showText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s[:min(len(s), maxAckText)])
}

// escape replaces delimiters within a text (HL7 2.5.1 §2.7.1).
func (h Header) escape(s string) string {
	mark := h.encoding(2)
	var b strings.Builder
	for _, c := range []byte(s) {
		name := byte(0)
		switch c {
		case h.separator:
			name = 'F'
		case h.encoding(0):
			name = 'S'
		case h.encoding(1):
			name = 'R'
		case h.encoding(3):
			name = 'T'
		case mark:
			name = 'E'
		}
		switch {
		case name == 0:
			b.WriteByte(c)
		case mark == 0:
			b.WriteByte(' ')
		default:
			b.Write([]byte{mark, name, mark})
		}
	}
	return b.String()
}
