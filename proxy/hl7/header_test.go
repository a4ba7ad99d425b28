package hl7

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy/hl7/mllp"
)

const oru = "MSH|^~\\&|GHH LAB|ELAB-3|GHH OE^1.2^ISO|BLDG4|20020215||ORU^R01^ORU_R01|C-1|P|2.5.1|||AL|NE||8859/1\rPID|||1\r"

func TestHeader(t *testing.T) {
	for name, msg := range map[string]string{
		"plain":            oru,
		"LF":               strings.ReplaceAll(oru, "\r", "\n"),
		"CRLF":             strings.ReplaceAll(oru, "\r", "\r\n"),
		"UTF-8 mark":       "\xef\xbb\xbf" + oru,
		"space before":     "\r\n " + oru,
		"other delimiters": strings.NewReplacer("|", "#", "^", "*", "~", "!", `\`, "?", "&", "%").Replace(oru),
		"in a batch":       "FHS|^~\\&|X\rBHS|^~\\&|Y\r" + oru + oru + "BTS|2\rFTS|1\r",
		"nothing after":    strings.TrimSuffix(oru, "\rPID|||1\r"),
	} {
		h, err := ParseHeader([]byte(msg))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if h.Sender() != "GHH LAB^ELAB-3" || h.Receiver() != "GHH OE^BLDG4" || h.Type() != "ORU^R01" || h.ControlID() != "C-1" ||
			h.Field(18) != "8859/1" || h.Field(19) != "" || h.Field(1) == "" || !h.enhanced() {
			t.Errorf("%s: %q", name, h.fields)
		}
	}
	for name, msg := range map[string]string{
		"empty":          "",
		"no MSH":         "PID|||1\r",
		"MSH alone":      "MSH",
		"letter":         "MSHA^~\\&A\r",
		"no encoding":    "MSH|ABC|A\r",
		"endless":        "MSH|^~\\&|" + strings.Repeat("A", maxHeader),
		"only batches":   strings.Repeat("BHS|^~\\&|Y\r", 4) + oru,
		"UTF-16":         "\xff\xfeM\x00S\x00H\x00|\x00",
		"UTF-16 no mark": "M\x00S\x00H\x00|\x00",
		"HTTP":           "GET / HTTP/1.1\r\n\r\n",
	} {
		if _, err := ParseHeader([]byte(msg)); !errors.Is(err, ErrNotHL7) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAckText(t *testing.T) {
	at := time.Date(2026, 4, 8, 11, 0, 0, 0, time.FixedZone("", 7200))
	for _, tc := range []struct{ msg, code, text, want string }{
		{
			oru, "CA", "stored",
			"MSH|^~\\&|GHH OE^1.2^ISO|BLDG4|GHH LAB|ELAB-3|20260408110000+0200||ACK^R01^ACK|ID1|P|2.5.1||||||8859/1\rMSA|CA|C-1|stored\r",
		},
		{
			"MSH|^~\\&|A|B|C|D|||ORM^O01|7|T|2.3.1\r", "AE", "a|b^c~d&e\\f",
			"MSH|^~\\&|C|D|A|B|20260408110000+0200||ACK^O01|ID1|T|2.3.1\rMSA|AE|7|a\\F\\b\\S\\c\\R\\d\\T\\e\\E\\f\r",
		},
		{
			"MSH#*!#A#B#C#D###ORM#7#P#2.2\r", "AR", "no #1*2",
			"MSH#*!#C#D#A#B#20260408110000+0200##ACK#ID1#P#2.2\rMSA#AR#7#no  1 2\r",
		},
		{
			"MSH|^~\\&|M\xfcller||C||||ORM^O01|7\x1c\x0b|P|2.3||||||\x1c\n", "AA", "line\rbreak and \xfc",
			"MSH|^~\\&|C||M\xfcller||20260408110000+0200||ACK^O01|ID1|P|2.3\rMSA|AA|7|line break and  \r",
		},
	} {
		h, err := ParseHeader([]byte(tc.msg))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(h.ack(Code(tc.code), tc.text, at, "ID1")); got != tc.want {
			t.Errorf("got\n%q, want\n%q", got, tc.want)
		}
	}
	h, _ := ParseHeader([]byte(oru))
	a, b := h.Ack(AA, ""), h.Ack(AA, "")
	ha, _ := ParseHeader(a)
	hb, _ := ParseHeader(b)
	if ha.ControlID() == hb.ControlID() || len(ha.ControlID()) != 20 {
		t.Errorf("acknowledgments have the control IDs %q and %q", ha.ControlID(), hb.ControlID())
	}
}

func TestParseAck(t *testing.T) {
	const head = "MSH|^~\\&|A|B|C|D|||ACK^R01|X|P|2.5.1\r"
	for name, tc := range map[string]struct {
		msg  string
		want Ack
		err  error
	}{
		"plain":        {head + "MSA|AA|C-1|fine\r", Ack{Code: AA, ControlID: "C-1", Text: "fine"}, nil},
		"no last CR":   {head + "MSA|CE|C-1", Ack{Code: CE, ControlID: "C-1"}, nil},
		"LF, software": {"MSH|^~\\&|A\nSFT|x\nMSA|ar|C-1||\nERR||PID^1|207^Canary\n", Ack{Code: AR, ControlID: "C-1", Condition: "207"}, nil},
		"name as code": {head + "MSA|AE|C-1\rERR|||M\xfcller\r", Ack{Code: AE, ControlID: "C-1"}, nil},
		"long number":  {head + "MSA|AE|C-1\rERR|||1234\r", Ack{Code: AE, ControlID: "C-1"}, nil},
		"no MSA":       {head + "PID|1\r", Ack{}, ErrNotAck},
		"unknown code": {head + "MSA|OK|C-1\r", Ack{}, ErrNotAck},
		"not HL7":      {"MSA|AA|C-1\r", Ack{}, ErrNotHL7},
		"far behind":   {head + strings.Repeat("NTE|1\r", maxAckSegments) + "MSA|AA|C-1\r", Ack{}, ErrNotAck},
	} {
		got, err := ParseAck([]byte(tc.msg))
		got.Header = Header{}
		if !errors.Is(err, tc.err) || got.Code != tc.want.Code || got.ControlID != tc.want.ControlID || got.Text != tc.want.Text ||
			got.Condition != tc.want.Condition {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, got, err, tc.want, tc.err)
		}
	}
}

// TestAnswers is the table of HL7 2.5.1 §2.9.3 as we keep it. An empty answer means silence.
func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		accept, application string
		success, failure    Code
		expects             patience
		answers             int
	}{
		{"", "", AA, AE, anAnswer, 1}, // original mode
		{"AL", "", CA, CE, anAnswer, 1},
		{"AL", "NE", CA, CE, anAnswer, 1},
		{"AL", "AL", CA, CE, anAnswer, 2},
		{"al", "er", CA, CE, anAnswer, 2},
		{"NE", "NE", "", "", noAnswer, 1},
		{"NE", "", "", "", noAnswer, 1},
		{"", "NE", "", "", noAnswer, 1},
		{"ER", "NE", "", CE, onlyErrors, 1},
		{"ER", "AL", "", CE, onlyErrors, 2},
		{"SU", "NE", CA, "", anAnswer, 1},
		{"NE", "AL", AA, AE, anAnswer, 1},
		{"", "AL", AA, AE, anAnswer, 1},
		{"", "ER", "", AE, onlyErrors, 1},
		{"", "SU", AA, "", anAnswer, 1},
		{"??", "", CA, CE, anAnswer, 1},
	} {
		h, err := ParseHeader([]byte("MSH|^~\\&|A|B|C|D|||ORU^R01|1|P|2.5||| " + tc.accept + "|" + tc.application + "\r"))
		if tc.accept == "" {
			h, err = ParseHeader([]byte("MSH|^~\\&|A|B|C|D|||ORU^R01|1|P|2.5||||" + tc.application + "\r"))
		}
		if err != nil {
			t.Fatal(err)
		}
		say := func(code Code) Code {
			if c, wanted := h.answer(code); wanted {
				return c
			}
			return ""
		}
		if s, f := say(AA), say(AE); s != tc.success || f != tc.failure {
			t.Errorf("MSH-15 %q, MSH-16 %q: success %q, failure %q; want %q, %q", tc.accept, tc.application, s, f, tc.success, tc.failure)
		}
		if h.expects() != tc.expects || h.answers() != tc.answers {
			t.Errorf("MSH-15 %q, MSH-16 %q: expects %d, up to %d answers", tc.accept, tc.application, h.expects(), h.answers())
		}
	}
}

// FuzzMessage feeds anything to the readers. What passes as a header gives an acknowledgment that fits it.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(oru), "text")
	f.Add([]byte("MSH#*!##A#B#C#D###ORM#7#P#2.2\r"), "no #1*2")
	f.Add([]byte("MSH|\r"), "")
	f.Add([]byte("MSH|^~\\&|A|B|C|D|||ACK^R01|X|P|2.5.1\rMSA|AA|C-1\rERR|||101\r"), "x")
	f.Add([]byte("MSH~~"), "0")
	f.Add([]byte("BHS|^~\\&\rMSH$$$$$$$$$"), "\\")
	f.Add([]byte("MSH|^~\\&|\x1c|\x0b||||| |\x1c\r"), "\x1c\r")
	f.Fuzz(func(t *testing.T, msg []byte, text string) {
		_, _ = ParseAck(msg)
		h, err := ParseHeader(msg)
		if err != nil {
			if !errors.Is(err, ErrNotHL7) {
				t.Fatal(err)
			}
			return
		}
		for _, s := range []string{h.Sender(), h.Receiver(), h.Type()} {
			for _, c := range []byte(s) {
				if c < ' ' || c > '~' {
					t.Fatalf("%q must be printable", s)
				}
			}
		}
		reply := h.Ack(AE, text)
		if len(reply) > 2*maxHeader+1024 {
			t.Fatalf("the acknowledgment of %d bytes has %d", len(msg), len(reply))
		}
		if _, err := mllp.Append(nil, reply); err != nil {
			t.Fatal(err)
		}
		a, err := ParseAck(reply)
		if err != nil {
			t.Fatalf("%q: %v", reply, err)
		}
		if a.Code != AE || a.ControlID != strings.TrimSpace(h.echo(10)) || a.Header.separator != h.separator ||
			a.Header.Field(3) != h.echo(5) || a.Header.Field(5) != h.echo(3) || a.Header.Field(18) != h.echo(18) {
			t.Fatalf("%q acknowledges %q", reply, msg)
		}
		if bytes.Count(reply, []byte("\r")) != 2 {
			t.Fatalf("%q does not have two segments", reply)
		}
	})
}
