package gdt

import (
	"bytes"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// maxSegments bounds the work on one message.
const maxSegments = 20_000

// message is an HL7 message in UTF-8, cut into segments.
type message struct {
	separator                                   string
	component, repetition, escape, subcomponent string
	segments                                    []segment
	charset                                     string
}

// segment holds the fields behind the name; field n is fields[n-1] (in MSH, whose separator is field 1, fields[n-2]).
type segment struct {
	name   string
	fields []string
}

func (s segment) field(n int) string {
	if s.name == "MSH" {
		n--
	}
	if n < 1 || n > len(s.fields) {
		return ""
	}
	return s.fields[n-1]
}

// parse reads the segments of one message.
func parse(msg []byte) (message, error) {
	msg = bytes.TrimLeft(bytes.TrimPrefix(msg, []byte("\xef\xbb\xbf")), "\r\n \t\x00")
	if len(msg) < 8 || !bytes.HasPrefix(msg, []byte("MSH")) {
		return message{}, unsuited("it is a batch, or no message; only single results can become GDT records")
	}
	m := message{separator: string(msg[3:4]), component: "^", repetition: "~", escape: `\`, subcomponent: "&"}
	encoding, _, _ := bytes.Cut(msg[4:min(len(msg), 12)], msg[3:4])
	for i, to := range []*string{&m.component, &m.repetition, &m.escape, &m.subcomponent} {
		if i < len(encoding) {
			*to = string(encoding[i : i+1])
		}
	}
	for raw := range bytes.FieldsFuncSeq(msg, func(r rune) bool { return r == '\r' || r == '\n' }) {
		if len(m.segments) >= maxSegments {
			return message{}, unsuited("it has more than %d segments", maxSegments)
		}
		parts := strings.Split(string(raw), m.separator)
		s := segment{name: parts[0], fields: parts[1:]}
		if s.name == "MSH" && len(m.segments) > 0 {
			return message{}, unsuited("several messages stand in one")
		}
		m.segments = append(m.segments, s)
	}
	m.charset, _, _ = strings.Cut(m.segments[0].field(18), m.repetition)
	return m, nil
}

// text returns a value in UTF-8 with its escape sequences resolved (HL7 2.5.1 §2.7): delimiters, \.br\ and \.sp\ as line breaks, \Xdd..\ as bytes of
// the message's character set. Highlighting and unknown sequences are left out.
func (m message) text(s string) string {
	if m.escape == "" || !strings.Contains(s, m.escape) {
		return m.decode(s)
	}
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, m.escape)
		out.WriteString(before)
		if !found {
			break
		}
		sequence, after, closed := strings.Cut(rest, m.escape)
		if !closed {
			out.WriteString(m.escape + rest)
			break
		}
		out.WriteString(m.sequence(sequence))
		s = after
	}
	return m.decode(out.String())
}

func (m message) sequence(s string) string {
	switch {
	case s == "F":
		return m.separator
	case s == "S":
		return m.component
	case s == "R":
		return m.repetition
	case s == "E":
		return m.escape
	case s == "T":
		return m.subcomponent
	case strings.HasPrefix(s, ".br"), strings.HasPrefix(s, ".sp"), strings.HasPrefix(s, ".ce"):
		return "\n"
	case strings.HasPrefix(s, "X"):
		b, err := hex.DecodeString(s[1:])
		if err != nil {
			return ""
		}
		return strings.ReplaceAll(string(b), "\r", "\n")
	}
	return ""
}

// decode turns bytes of the message's character set (MSH-18, HL7 table 0211) into UTF-8. Senders that name none, or a wrong one, are common: what is valid
// UTF-8 is taken for it.
func (m message) decode(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	table := charmap.Windows1252 // holds all of ISO 8859-1 that is printable
	switch m.charset {
	case "8859/2":
		table = charmap.ISO8859_2
	case "8859/9":
		table = charmap.ISO8859_9
	case "8859/15":
		table = charmap.ISO8859_15
	}
	out, err := table.NewDecoder().String(s)
	if err != nil {
		return strings.ToValidUTF8(s, "?")
	}
	return out
}

// first returns component c (from 1) of the first repetition of a field, unescaped and trimmed.
func (m message) first(fieldValue string, c int) string {
	value, _, _ := strings.Cut(fieldValue, m.repetition)
	for i := 1; i < c; i++ {
		_, value, _ = strings.Cut(value, m.component)
	}
	value, _, _ = strings.Cut(value, m.component)
	return strings.TrimSpace(m.text(value))
}

// all returns a field with its repetitions as lines and its components with spaces between.
func (m message) all(fieldValue string) string {
	var lines []string
	for repetition := range strings.SplitSeq(fieldValue, m.repetition) {
		var parts []string
		for part := range strings.SplitSeq(repetition, m.component) {
			if t := m.text(part); t != "" {
				parts = append(parts, t)
			}
		}
		lines = append(lines, strings.Join(parts, " "))
	}
	return strings.Join(lines, "\n")
}
