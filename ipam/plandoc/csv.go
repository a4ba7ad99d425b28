package plandoc

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ReadCSV reads a spreadsheet: comma, semicolon or tab between the cells, whichever makes ranges of most lines; UTF-8, UTF-16 or Windows'
// Western European (ISO 8859-1) letters.
//
// A first line that names the columns, in English or German, says where they are; columns of other names are not read. Without one they
// are site, range, comment, kind, until, or range first if a range stands there. A range without a kind belongs to the site that stands
// beside it, without a site it is reserved. An allocation without a purpose is Mapped if it says what it maps, else Overlay; a purpose that
// there is not is a problem, as is one of a range that can have none. A range that is no prefix becomes several entries of one line.
//
// The document holds the lines in which nothing is wrong, the problems name all others. The error is for what is no text at all or too
// large (ErrNotText, ErrTooLarge).
func ReadCSV(r io.Reader) (Document, []Problem, error) {
	text, err := readText(r)
	if err != nil {
		return Document{}, nil, err
	}
	skipped := 0
	sep := separatorOf(text)
	first, rest, _ := strings.Cut(text, "\n")
	if named, ok := separatorLine(first); ok {
		sep, text, skipped = named, rest, 1
	}
	cr := csv.NewReader(strings.NewReader(text))
	cr.Comma, cr.FieldsPerRecord, cr.ReuseRecord = sep, -1, true
	cr.TrimLeadingSpace = sep != '\t'

	var d Document
	var p problems
	var at *columns
	for {
		record, err := cr.Read()
		if errors.Is(err, io.EOF) {
			return d, p.sorted(), nil
		}
		if bad, ok := errors.AsType[*csv.ParseError](err); ok {
			if bad.Line != bad.StartLine {
				p.at(bad.StartLine+skipped, "a quotation mark that is opened in this line is closed nowhere, or in line %d with text behind it",
					bad.Line+skipped)
			} else {
				p.at(bad.StartLine+skipped, "a quotation mark stands alone: double it, and put the whole cell between two")
			}
			continue
		}
		if err != nil {
			return Document{}, nil, fmt.Errorf("read the plan: %w", err)
		}
		if strings.TrimSpace(strings.Join(record, "")) == "" {
			continue
		}
		line, _ := cr.FieldPos(0)
		line += skipped
		if at == nil {
			c, header := columnsOf(record)
			at = &c
			if header && c[colRange] == 0 {
				p.at(line, "no column is called range: name the columns site, range and comment")
				return d, p.sorted(), nil
			}
			if header {
				continue
			}
		}
		d.Entries = append(d.Entries, at.row(record, line).entries(&p)...)
		if len(d.Entries) > MaxEntries {
			return Document{}, nil, fmt.Errorf("%w: it has more than %d ranges, at line %d", ErrTooLarge, MaxEntries, line)
		}
	}
}

// separatorLine recognizes the line "sep=;" that spreadsheets put first.
func separatorLine(s string) (rune, bool) {
	switch strings.TrimRight(s, " ") {
	case "sep=;":
		return ';', true
	case "sep=,":
		return ',', true
	case "sep=\t":
		return '\t', true
	}
	return 0, false
}

// separatorOf chooses what makes ranges of most of the first lines, then what names most columns of the first.
func separatorOf(text string) rune {
	const sample = 100
	best, most := ',', -1
	for _, sep := range []string{",", ";", "\t"} {
		score, rest, first := 0, text, true
		for range sample {
			line, tail, more := strings.Cut(rest, "\n")
			score += separatorScore(line, sep, first)
			first = first && strings.TrimSpace(line) == ""
			if rest = tail; !more {
				break
			}
		}
		if score > most {
			best, most = rune(sep[0]), score
		}
	}
	return best
}

func separatorScore(line, sep string, first bool) int {
	// Longer lines than any plan has are not worth a look, and would be one for each separator.
	const longest = 8 * MaxText
	if len(line) > longest {
		return 0
	}
	score := 0
	cells := strings.Split(line, sep)
	for _, cell := range cells {
		cell = strings.Trim(strings.TrimSpace(cell), `"`)
		if first && columnNamed(cell) != colNone {
			score++
		}
		if _, err := ParseRange(cell); err == nil && len(cells) > 1 {
			return score + 10
		}
	}
	return score
}
