package gdt

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// finding adds text, below what it is about where that changes.
func (c *converter) finding(s segment, text string) {
	m := c.m
	name := m.first(s.field(3), 2)
	if name == "" {
		name = m.first(s.field(3), 1)
	}
	about := strings.Trim(c.heading+", "+name, ", ")
	if about != "" && about != c.about {
		c.about = about
		c.findings = appendLines(c.findings, fieldFinding, about+":")
	}
	if state := states[m.first(s.field(11), 1)]; state != "" {
		c.findings = appendLines(c.findings, fieldFinding, "("+state+")")
	}
	c.findings = appendLines(c.findings, fieldFinding, text)
}

func appendLines(to []field, id, text string) []field {
	for _, line := range wrap(text) {
		to = append(to, field{id, line})
	}
	return to
}

// test adds a block of fields that begins with field 8410.
func (c *converter) test(s segment) {
	m := c.m
	id, name := m.first(s.field(3), 1), m.first(s.field(3), 2)
	if id == "" {
		id = name
	}
	if id == "" {
		id = "OBX"
	}
	add := func(id, content string) {
		if content != "" {
			c.tests = append(c.tests, field{id, content})
		}
	}
	add(fieldTest, shorten(id, maxTest))
	add(fieldTestName, shorten(name, maxTestName))
	if value := c.value(s); len([]rune(value)) <= maxText && !strings.Contains(value, "\n") {
		add(fieldValue, value)
	} else {
		c.tests = appendLines(c.tests, fieldLongValue, value)
	}
	add(fieldUnit, shorten(m.first(s.field(6), 1), maxTest))
	normal := m.first(s.field(7), 1)
	if limits := between.FindStringSubmatch(normal); limits != nil {
		add(fieldNormalLow, limits[1])
		add(fieldNormalHigh, limits[2])
	} else {
		c.tests = appendLines(c.tests, fieldNormalText, normal)
	}
	if flags := strings.ReplaceAll(m.all(s.field(8)), "\n", " "); flags != "" {
		c.tests = appendLines(c.tests, fieldTestComment, "Auffälligkeit: "+flags)
	}
	add(fieldTestComment, states[m.first(s.field(11), 1)])
}

var between = regexp.MustCompile(`^(-?[0-9]+(?:[.,][0-9]+)?) ?- ?(-?[0-9]+(?:[.,][0-9]+)?)$`)

// value is OBX-5 as a person would write it.
func (c *converter) value(s segment) string {
	m, raw := c.m, s.field(5)
	switch m.first(s.field(2), 1) {
	case "SN": // comparator, number, separator, number
		return strings.ReplaceAll(m.text(raw), m.component, "")
	case "CE", "CWE", "CNE", "CF":
		if text := m.first(raw, 2); text != "" {
			return text
		}
		return m.first(raw, 1)
	case "DT", "TS", "DTM":
		if day, clock := dateTime(m.first(raw, 1)); day != "" {
			out := day[:2] + "." + day[2:4] + "." + day[4:]
			if clock != "" {
				out += " " + clock[:2] + ":" + clock[2:4]
			}
			return out
		}
	}
	return m.all(raw)
}

// Endings of documents by the subtype that OBX-5.3 gives (HL7 tables 0291 and 0834).
var endings = map[string]string{
	"pdf": "pdf", "jpeg": "jpg", "jpg": "jpg", "png": "png", "tiff": "tif", "gif": "gif", "rtf": "rtf", "html": "html", "plain": "txt", "text": "txt", "xml": "xml",
	"x-hl7-cda-level-one": "xml", "msword": "doc", "dicom": "dcm",
}

// document takes an encapsulated one: source, type of data, subtype, encoding, data.
func (c *converter) document(s segment) error {
	m := c.m
	value, _, _ := strings.Cut(s.field(5), m.repetition)
	parts := strings.SplitN(value, m.component, 5)
	if len(parts) < 5 {
		return unsuited("a document in it (OBX of type ED) is not whole")
	}
	if len(c.beside) == maxAttachments {
		return unsuited("it holds more than %d documents", maxAttachments)
	}
	var content []byte
	switch strings.ToLower(parts[3]) {
	case "base64":
		clean := strings.Map(func(r rune) rune {
			if r == ' ' || r == '\t' {
				return -1
			}
			return r
		}, strings.ReplaceAll(parts[4], m.escape+".br"+m.escape, ""))
		data, err := base64.StdEncoding.DecodeString(clean)
		if err != nil {
			return unsuited("a document in it (OBX of type ED) is no base64")
		}
		content = data
	case "a", "":
		content = []byte(m.text(parts[4]))
	default:
		return unsuited("a document in it (OBX of type ED) is in an encoding that is not known; base64 is")
	}
	ending, known := endings[strings.ToLower(strings.TrimSpace(parts[2]))]
	if !known {
		ending = "bin"
	}
	n := len(c.beside) + 1
	a := Attachment{Name: fmt.Sprintf("%s-%d.%s", c.stem, n, ending), Content: content}
	c.beside = append(c.beside, a)
	title := m.first(s.field(3), 2)
	if title == "" {
		title = c.heading
	}
	c.files = append(c.files, field{fieldFileNumber, fmt.Sprintf("%06d", n)}, field{fieldFileFormat, strings.ToUpper(ending)})
	if title != "" {
		c.files = append(c.files, field{fieldFileContent, shorten(title, maxText)})
	}
	c.files = append(c.files, field{fieldFilePath, a.Name})
	return nil
}

// dateTime reads an HL7 time (YYYY[MM[DD[HH[MM[SS...): the day as DDMMYYYY and the time as HHMMSS, each empty if it is not there or wrong.
func dateTime(s string) (day, clock string) {
	s, _, _ = strings.Cut(s, ".")
	s, _, _ = strings.Cut(s, "+")
	s, _, _ = strings.Cut(s, "-")
	if len(s) < len("20060102") {
		return "", ""
	}
	t, err := time.Parse("20060102", s[:8])
	if err != nil {
		return "", ""
	}
	day = t.Format("02012006")
	if rest := s[8:]; len(rest) == len("1504") {
		s += "00"
	}
	if t, err := time.Parse("150405", s[8:]); err == nil && len(s) == len("20060102150405") {
		clock = t.Format("150405")
	}
	return day, clock
}

// shorten cuts a name, which only describes.
func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}
