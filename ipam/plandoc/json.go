package plandoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Format is the name of the JSON form.
const Format = "towpath-plan/1"

type jsonEntry struct {
	Kind    string `json:"kind"`
	Range   string `json:"range"`
	Site    string `json:"site,omitempty"`
	Purpose string `json:"purpose,omitempty"`
	Label   string `json:"label,omitempty"`
	Maps    string `json:"maps,omitempty"`
	Comment string `json:"comment,omitempty"`
	Until   string `json:"until,omitempty"`
}

// WriteJSON writes d with one range in each line, in the order of the entries. An entry that could not be read back is an error.
func WriteJSON(w io.Writer, d Document) error {
	if len(d.Entries) > MaxEntries {
		return fmt.Errorf("%w: it has more than %d ranges", ErrTooLarge, MaxEntries)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\"format\": %q, \"ranges\": [", Format)
	for i, e := range d.Entries {
		if err := e.Validate(); err != nil {
			return fmt.Errorf("write the plan: %w", err)
		}
		line, err := json.Marshal(jsonEntry{
			Kind: string(e.Kind), Range: e.Prefix.String(), Site: e.Owner, Purpose: e.Purpose, Label: e.Label, Maps: formatMaps(e.Maps),
			Comment: e.Note, Until: formatTime(e.Until),
		})
		if err != nil {
			return fmt.Errorf("write the plan: %w", err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(line)
	}
	b.WriteString("\n]}\n")
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	return nil
}

// ReadJSON reads what WriteJSON wrote. Kinds, ranges and dates may be written as in a spreadsheet, unknown fields are problems. The
// document, the problems and the error are as with ReadCSV.
func ReadJSON(r io.Reader) (Document, []Problem, error) {
	text, err := readText(r)
	if err != nil {
		return Document{}, nil, err
	}
	j := jsonReader{text: text, dec: json.NewDecoder(strings.NewReader(text)), line: 1}
	if err := j.document(); errors.Is(err, ErrTooLarge) {
		return Document{}, nil, err
	} else if err != nil {
		j.p.at(j.lineAt(j.dec.InputOffset()), "%s", jsonFault(err))
	}
	return j.d, j.p.sorted(), nil
}

// MarshalJSON is WriteJSON.
func (d Document) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	err := WriteJSON(&b, d)
	return b.Bytes(), err
}

// UnmarshalJSON is ReadJSON; the first problem is the error.
func (d *Document) UnmarshalJSON(b []byte) error {
	read, problems, err := ReadJSON(bytes.NewReader(b))
	if err == nil && len(problems) > 0 {
		err = errors.New(problems[0].String())
	}
	if err == nil {
		*d = read
	}
	return err
}

// jsonReader reads one document and keeps count of the lines.
type jsonReader struct {
	text string
	dec  *json.Decoder
	d    Document
	p    problems
	// line is that of offset.
	line   int
	offset int64
}

// lineAt wants offsets that only grow. Of the space before a value it looks past.
func (j *jsonReader) lineAt(offset int64) int {
	for offset < int64(len(j.text)) && strings.IndexByte(" \t\n,:", j.text[offset]) >= 0 {
		offset++
	}
	if offset > j.offset {
		j.line += strings.Count(j.text[j.offset:offset], "\n")
		j.offset = offset
	}
	return j.line
}

func (j *jsonReader) document() error {
	if err := j.delim('{'); err != nil {
		return err
	}
	named := false
	for j.dec.More() {
		line := j.lineAt(j.dec.InputOffset())
		key, err := j.dec.Token()
		if err != nil {
			return err
		}
		switch key {
		case "format":
			var format string
			if err := j.dec.Decode(&format); err != nil {
				return err
			}
			if named = true; format != Format {
				j.p.at(line, "the format is %q, this program reads %q", clip(format), Format)
			}
		case "ranges":
			if err := j.ranges(); err != nil {
				return err
			}
		default:
			return fmt.Errorf("there is no field %q", clip(fmt.Sprint(key)))
		}
	}
	if err := j.delim('}'); err != nil {
		return err
	}
	if !named {
		j.p.at(1, "it does not say its format, %q", Format)
	}
	if _, err := j.dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more behind the end")
	}
	return nil
}

func (j *jsonReader) ranges() error {
	if err := j.delim('['); err != nil {
		return err
	}
	for j.dec.More() {
		line := j.lineAt(j.dec.InputOffset())
		var raw json.RawMessage
		if err := j.dec.Decode(&raw); err != nil {
			return err
		}
		strict := json.NewDecoder(bytes.NewReader(raw))
		strict.DisallowUnknownFields()
		var e jsonEntry
		if err := strict.Decode(&e); err != nil {
			j.p.at(line, "%s", jsonFault(err))
			continue
		}
		r := row{
			line: line, site: e.Site, span: e.Range, kind: e.Kind, purpose: e.Purpose, label: e.Label, maps: e.Maps, comment: e.Comment,
			until: e.Until,
		}
		j.d.Entries = append(j.d.Entries, r.entries(&j.p)...)
		if len(j.d.Entries) > MaxEntries {
			return fmt.Errorf("%w: it has more than %d ranges, at line %d", ErrTooLarge, MaxEntries, line)
		}
	}
	return j.delim(']')
}

func (j *jsonReader) delim(want json.Delim) error {
	t, err := j.dec.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("%v was expected", want)
	}
	return nil
}

// jsonFault words an error of the decoder without its own package's name.
func jsonFault(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("the field %q cannot be a %s", clip(wrong.Field), wrong.Value)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the text ends too early"
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}
