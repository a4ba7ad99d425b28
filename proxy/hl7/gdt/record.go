package gdt

import (
	"fmt"
	"strings"

	"golang.org/x/text/encoding/charmap"
)

// Limits of a record, in bytes.
const (
	lineOverhead = 9       // 3 of length, 4 of field identifier, CR LF
	maxText      = 60      // content of a line of text
	maxRecord    = 99_999  // field 8100 has five digits
	maxContent   = 999 - 9 // the length has three
)

// field is a line: an identifier and its content.
type field struct{ id, content string }

// replacements are for what neither character set has and has an equal in plain characters.
var replacements = strings.NewReplacer(
	"–", "-", "—", "-", "‐", "-", "‑", "-", "−", "-", "„", "\"", "“", "\"", "”", "\"", "‚", "'", "‘", "'", "’", "'", "…", "...", "•", "-",
	"€", "EUR", "≥", ">=", "≤", "<=", "≠", "!=", "→", "->", "\u00a0", " ", "\u202f", " ", "\u2009", " ", "\u200b", "", "\ufeff", "", "\t", " ",
	"™", "(TM)", "Œ", "OE", "œ", "oe", "ẞ", "SS", "μ", "µ",
)

// encode turns text into bytes of the character set. What the set does not have becomes a question mark, and lost counts it.
func (c Charset) encode(s string) (out []byte, lost int) {
	table := charmap.ISO8859_1
	if c == CP437 {
		table = charmap.CodePage437
	}
	for _, r := range replacements.Replace(s) {
		b, ok := table.EncodeRune(r)
		switch {
		case r < ' ' || r == 0x7f:
			b, ok = ' ', true
		case r >= 0x80 && r < 0xa0:
			ok = false
		}
		if !ok {
			b = '?'
			lost++
		}
		out = append(out, b)
	}
	return out, lost
}

// assemble writes the lines, with the length of the whole in field 8100 behind the first.
func assemble(fields []field, c Charset) ([]byte, error) {
	var body []byte
	lost := 0
	line := func(f field) error {
		content, n := c.encode(f.content)
		lost += n
		if len(content) > maxContent {
			return unsuited("field %s would have %d bytes, GDT allows %d", f.id, len(content), maxContent)
		}
		body = fmt.Appendf(body, "%03d%s%s\r\n", len(content)+lineOverhead, f.id, content)
		return nil
	}
	for _, f := range fields[1:] {
		if err := line(f); err != nil {
			return nil, err
		}
	}
	if lost > 0 {
		if err := line(field{fieldComment, fmt.Sprintf("%d Zeichen nicht darstellbar, durch ? ersetzt", lost)}); err != nil {
			return nil, err
		}
	}
	first := fmt.Appendf(nil, "%03d%s%s\r\n", len(fields[0].content)+lineOverhead, fields[0].id, fields[0].content)
	const lengthLine = lineOverhead + 5
	total := len(first) + lengthLine + len(body)
	if total > maxRecord {
		return nil, unsuited("the record would have %d bytes, GDT allows %d", total, maxRecord)
	}
	first = fmt.Appendf(first, "%03d8100%05d\r\n", lengthLine, total)
	return append(first, body...), nil
}

// wrap breaks text into lines of up to maxText characters, at spaces where there are some. Line breaks stay.
func wrap(s string) []string {
	var out []string
	for line := range strings.Lines(strings.ReplaceAll(s, "\r\n", "\n")) {
		line = strings.TrimRight(line, " \n\r")
		runes := []rune(line)
		for len(runes) > maxText {
			cut := maxText
			for i := maxText; i > maxText/2; i-- {
				if runes[i] == ' ' {
					cut = i
					break
				}
			}
			out = append(out, strings.TrimRight(string(runes[:cut]), " "))
			runes = []rune(strings.TrimLeft(string(runes[cut:]), " "))
		}
		out = append(out, string(runes))
	}
	return out
}
