package gdt

import (
	"fmt"
)

// UnsuitedError is the error of a message that cannot become a record. Its text holds nothing of the patient.
type UnsuitedError struct{ reason string }

func (e *UnsuitedError) Error() string { return "this message cannot become a GDT record: " + e.reason }

func unsuited(format string, args ...any) error { return &UnsuitedError{fmt.Sprintf(format, args...)} }

// Attachment is a document of a result, to be written beside the record under Name before it.
type Attachment struct {
	Name    string
	Content []byte
}

// Field identifiers of GDT 2.1 that are used.
const (
	fieldType         = "8000"
	fieldReceiver     = "8315"
	fieldSender       = "8316"
	fieldCharset      = "9206"
	fieldVersion      = "9218"
	fieldPatient      = "3000"
	fieldLastName     = "3101"
	fieldFirstName    = "3102"
	fieldBirth        = "3103"
	fieldSex          = "3110"
	fieldProcedure    = "8402"
	fieldDate         = "6200"
	fieldTime         = "6201"
	fieldFinding      = "6220"
	fieldComment      = "6227"
	fieldFileNumber   = "6302"
	fieldFileFormat   = "6303"
	fieldFileContent  = "6304"
	fieldFilePath     = "6305"
	fieldTest         = "8410"
	fieldTestName     = "8411"
	fieldValue        = "8420"
	fieldUnit         = "8421"
	fieldNormalText   = "8460"
	fieldNormalLow    = "8461"
	fieldNormalHigh   = "8462"
	fieldTestComment  = "8470"
	fieldLongValue    = "8480"
	recordExamination = "6310"
	version           = "02.10"
	maxPatient        = 10
	maxName           = 28
	maxTest           = 20
	maxTestName       = 40
	maxAttachments    = 99
)

// Convert makes the record of a result. Documents in it (OBX of type ED) become Attachments whose names begin with stem; the record refers to them.
// Errors are UnsuitedError.
func Convert(msg []byte, stem string, o Options) (record []byte, beside []Attachment, err error) {
	o = o.withDefaults()
	if err := o.Validate(); err != nil {
		return nil, nil, unsuited("the service's options are wrong: %s", err)
	}
	m, err := parse(msg)
	if err != nil {
		return nil, nil, err
	}
	c := converter{m: m, stem: stem}
	head, err := c.head(o)
	if err != nil {
		return nil, nil, err
	}
	if err := c.body(); err != nil {
		return nil, nil, err
	}
	if len(c.findings)+len(c.tests)+len(c.files) == 0 {
		return nil, nil, unsuited("it holds no result (OBX)")
	}
	fields := head
	for _, part := range [][]field{c.findings, c.comments, c.files, c.tests} {
		fields = append(fields, part...)
	}
	record, err = assemble(fields, o.Charset)
	return record, c.beside, err
}

// converter collects the parts of a record, which has them in a fixed order.
type converter struct {
	m    message
	stem string
	// inTest says whether a note belongs to a test or to the findings.
	inTest bool
	// heading is the examination (OBR-4), about what the last finding was headed by.
	heading, about string

	findings, comments, files, tests []field
	beside                           []Attachment
}

func (c *converter) head(o Options) ([]field, error) {
	m := c.m
	if code := m.first(m.segments[0].field(9), 1); code != "ORU" && code != "MDM" {
		return nil, unsuited("only results (ORU) and documents (MDM) can")
	}
	pid, ok := c.find("PID")
	if !ok {
		return nil, unsuited("it names no patient (PID)")
	}
	patient := m.first(pid.field(3), 1)
	if patient == "" {
		patient = m.first(pid.field(2), 1)
	}
	switch {
	case patient == "":
		return nil, unsuited("it has no patient number (PID-3)")
	case len([]rune(patient)) > maxPatient:
		return nil, unsuited("the patient number (PID-3) has more than %d characters", maxPatient)
	}
	out := []field{
		{fieldType, recordExamination},
		{fieldReceiver, o.Receiver},
		{fieldSender, o.Sender},
		{fieldCharset, fmt.Sprint(int(o.Charset))},
		{fieldVersion, version},
		{fieldPatient, patient},
	}
	add := func(id, content string) {
		if content != "" {
			out = append(out, field{id, content})
		}
	}
	add(fieldLastName, shorten(m.first(pid.field(5), 1), maxName))
	add(fieldFirstName, shorten(m.first(pid.field(5), 2), maxName))
	birth, _ := dateTime(m.first(pid.field(7), 1))
	add(fieldBirth, birth)
	add(fieldSex, map[string]string{"M": "1", "F": "2"}[m.first(pid.field(8), 1)])
	add(fieldProcedure, o.Procedure)
	day, clock := c.when()
	add(fieldDate, day)
	add(fieldTime, clock)
	return out, nil
}

// when is the time of the examination: of the observation, of the report, or of the message.
func (c *converter) when() (day, clock string) {
	obr, _ := c.find("OBR")
	txa, _ := c.find("TXA")
	for _, f := range []string{obr.field(7), obr.field(22), txa.field(4), c.m.segments[0].field(7)} {
		if day, clock = dateTime(c.m.first(f, 1)); day != "" {
			return day, clock
		}
	}
	return "", ""
}

func (c *converter) find(name string) (segment, bool) {
	for _, s := range c.m.segments {
		if s.name == name {
			return s, true
		}
	}
	return segment{name: name}, false
}

func (c *converter) body() error {
	for _, s := range c.m.segments {
		switch s.name {
		case "OBR":
			c.inTest, c.heading = false, c.m.first(s.field(4), 2)
		case "OBX":
			if err := c.result(s); err != nil {
				return err
			}
		case "NTE":
			c.note(s)
		}
	}
	return nil
}

func (c *converter) note(s segment) {
	for _, line := range wrap(c.m.all(s.field(3))) {
		if c.inTest {
			c.tests = append(c.tests, field{fieldTestComment, line})
		} else {
			c.comments = append(c.comments, field{fieldComment, line})
		}
	}
}

// Words for the states of a result (OBX-11, HL7 table 0085) that are not final.
var states = map[string]string{
	"P": "vorläufiges Ergebnis", "R": "noch nicht bestätigtes Ergebnis", "S": "Teilergebnis", "C": "korrigiertes Ergebnis, ersetzt früheres", "U": "endgültig, unverändert übernommen",
	"I": "Ergebnis steht aus", "X": "Ergebnis nicht zu erhalten", "D": "früheres Ergebnis gelöscht", "W": "früheres Ergebnis war falsch zugeordnet, zurückgezogen",
}

// result takes one OBX.
func (c *converter) result(s segment) error {
	switch c.m.first(s.field(2), 1) {
	case "ED":
		c.inTest = false
		return c.document(s)
	case "RP":
		c.inTest = false
		c.finding(s, "Dokument: "+c.m.first(s.field(5), 1))
	case "TX", "FT":
		c.inTest = false
		c.finding(s, c.m.all(s.field(5)))
	default:
		c.inTest = true
		c.test(s)
	}
	return nil
}
