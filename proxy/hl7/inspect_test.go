package hl7_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy/hl7"
)

const sound = "MSH|^~\\&|A|B|C|D|20261122101500+0100||ORU^R01^ORU_R01|1|P|2.5.1|||AL|NE||8859/1\rPID|1||7\rOBX|1|TX|||CANARY\r"

func TestInspect(t *testing.T) {
	with := func(old, repl string) string {
		if !strings.Contains(sound, old) {
			t.Fatalf("%q is not in the sample", old)
		}
		return strings.Replace(sound, old, repl, 1)
	}
	for name, tc := range map[string]struct {
		data  string
		codes string // sorted; errors with "!"
	}{
		"sound":              {sound, ""},
		"framed":             {"\x0b" + sound + "\x1c\r\x0b" + sound + "\x1c\r", ""},
		"nothing":            {" \r\n", "empty!"},
		"no CR at the end":   {strings.TrimSuffix(sound, "\r"), "no-last-terminator"},
		"LF":                 {strings.ReplaceAll(sound, "\r", "\n"), "terminators-lf!"},
		"CR LF":              {strings.ReplaceAll(sound, "\r", "\r\n"), "terminators-crlf"},
		"mixed":              {strings.Replace(sound, "\r", "\n", 1), "terminators-mixed!"},
		"no MSH":             {"PID|1\r", "header!"},
		"UTF-16":             {"\xff\xfeM\x00S\x00H\x00|\x00", "utf-16!"},
		"mark":               {"\xef\xbb\xbf" + sound, "bom charset-wrong"},
		"NUL":                {with("CANARY", "\x00"), "control-character! nul!"},
		"delimiters":         {with("^~\\&", "^~"), "delimiters-missing"},
		"same delimiters":    {with("^~\\&", "^^\\&"), "delimiters-twice! msh-9"},
		"own delimiters":     {strings.ReplaceAll(strings.ReplaceAll(sound, "|", "#"), "^", "!"), "delimiters-unusual"},
		"many delimiters":    {with("^~\\&", "^~\\&!$"), "delimiters-many! delimiters-unusual"},
		"fifth delimiter":    {with("^~\\&", "^~\\&#"), ""},
		"no names":           {with("A|B|C|D", "|||"), "msh-empty msh-empty msh-empty msh-empty"},
		"date empty":         {with("20261122101500+0100", ""), "msh-7"},
		"date German":        {with("20261122101500+0100", "22.11.2026"), "msh-7!"},
		"date of no day":     {with("20261122101500+0100", "20261322"), "msh-7!"},
		"date alone":         {with("20261122101500+0100", "20261122"), "msh-7"},
		"date with fraction": {with("20261122101500+0100", "20261122101500.123"), ""},
		"zone of no clock":   {with("+0100", "+9900"), "msh-7!"},
		"type empty":         {with("ORU^R01^ORU_R01", ""), "msh-9!"},
		"type unknown":       {with("ORU^R01^ORU_R01", "XYZ^R01"), "msh-9"},
		"type of the maker":  {with("ORU^R01^ORU_R01", "ZAB^Z01"), "msh-9-own"},
		"type lower case":    {with("ORU^R01^ORU_R01", "oru^R01"), "msh-9!"},
		"no trigger":         {with("ORU^R01^ORU_R01", "ORU"), "msh-9"},
		"other structure":    {with("ORU_R01", "ORU_R30"), "msh-9-structure"},
		"no structure":       {with("ORU_R01", "ORUR0001"), "msh-9-structure!"},
		"no control ID":      {with("|1|P", "||P"), "msh-10!"},
		"long control ID":    {with("|1|P", "|123456789012345678901|P"), "msh-10"},
		"spaces in it":       {with("|1|P", "|1 2|P"), "msh-10"},
		"processing":         {with("|P|", "||"), "msh-11!"},
		"processing unknown": {with("|P|", "|X|"), "msh-11!"},
		"no version":         {with("2.5.1", ""), "msh-12!"},
		"version unknown":    {with("2.5.1", "3.0"), "msh-12!"},
		"condition":          {with("AL|NE", "YES|NE"), "ack-condition!"},
		"no answer":          {with("AL|NE", "NE|NE"), "no-answer"},
		"undeclared latin":   {strings.Replace(with("8859/1", ""), "CANARY", "\xe4", 1), "charset-undeclared!"},
		"undeclared UTF-8":   {strings.Replace(with("8859/1", ""), "CANARY", "ä", 1), "charset-undeclared!"},
		"not ASCII":          {strings.Replace(with("8859/1", "ASCII"), "CANARY", "\xe4", 1), "charset-wrong!"},
		"not UTF-8":          {strings.Replace(with("8859/1", "UNICODE UTF-8"), "CANARY", "\xe4", 1), "charset-wrong!"},
		"UTF-8 after all":    {with("CANARY", "ä"), "charset-wrong"},
		"unknown set":        {with("8859/1", "WINDOWS-1252"), "charset-unknown!"},
		"line break in text": {with("CANARY", "CANARY\rgoes on"), "segment-name!"},
		"control character":  {with("CANARY", "CAN\x01ARY"), "control-character!"},
		"two in one":         {sound + sound, "several-messages!"},
		"batch":              {"BHS|^~\\&|A\r" + sound + sound + "BTS|2\r", ""},
		"batch cut":          {"FHS|^~\\&\rBHS|^~\\&|A\r" + sound + "BTS|2\r", "batch! batch-count!"},
		"ack":                {"MSH|^~\\&|A|B|C|D|20261122101500||ACK^R01^ACK|1|P|2.5.1\rMSA|AA|7\r", ""},
		"ack of nothing":     {"MSH|^~\\&|A|B|C|D|20261122101500||ACK|1|P|2.5.1\rMSA|AA\r", "ack-id!"},
		"ack without MSA":    {"MSH|^~\\&|A|B|C|D|20261122101500||ACK|1|P|2.5.1\r", "ack!"},
		"open frame":         {"\x0b" + sound, "frame-open!"},
		"junk before":        {"junk\x0b" + sound + "\x1c\r", "junk-before-frame"},
		"no CR after":        {"\x0b" + sound + "\x1c", "no-final-cr"},
		"started again":      {"\x0bMSH|cut\x0b" + sound + "\x1c\r", "fragment!"},
		"piece at the end":   {sound + "\x1c\r", "frame-piece! segment-name!"},
		"piece at the start": {sound + "\x1c\r\x0b" + sound + "\x1c\r", "frame-piece! segment-name! segment-name! segment-name!"},
		"commit":             {"\x0b\x06\x1c\r", "commit"},
	} {
		t.Run(name, func(t *testing.T) {
			r := hl7.Inspect([]byte(tc.data))
			var codes []string
			for _, f := range r.Findings {
				if strings.Contains(f.Text+f.Hint, "CANARY") {
					t.Errorf("%+v repeats the message", f)
				}
				if f.Level == hl7.Wrong {
					f.Code += "!"
				}
				codes = append(codes, f.Code)
			}
			slices.Sort(codes)
			if got := strings.Join(codes, " "); got != tc.codes {
				t.Errorf("found %q, want %q: %+v", got, tc.codes, r.Findings)
			}
			wrong := strings.Contains(tc.codes, "!")
			if (r.Worst() == hl7.Wrong) != wrong {
				t.Errorf("the worst is %q", r.Worst())
			}
		})
	}
	r := hl7.Inspect([]byte(sound))
	want := hl7.Inspected{Type: "ORU^R01", Version: "2.5.1", Charset: "8859/1", Mode: "enhanced", Bytes: len(sound), Segments: 3}
	if len(r.Messages) != 1 || r.Messages[0] != want || r.Framed {
		t.Errorf("%+v", r)
	}
}

func TestOwnSamplesAreSound(t *testing.T) {
	for _, msg := range [][]byte{hl7.SampleOrder(time.Now(), "1", parties("X")), hl7.SampleResult(time.Now(), "1", parties("X"))} {
		if r := hl7.Inspect(msg); len(r.Findings) != 0 {
			t.Errorf("%+v", r.Findings)
		}
		h, err := hl7.ParseHeader(msg)
		if err != nil {
			t.Fatal(err)
		}
		if r := hl7.Inspect(h.Ack(hl7.AA, "fine")); len(r.Findings) != 0 {
			t.Errorf("of our acknowledgment: %+v", r.Findings)
		}
	}
}

func FuzzInspect(f *testing.F) {
	f.Add([]byte(sound))
	f.Add([]byte("\x0b" + sound + "\x1c\r\x0b\x06\x1c\rx\x0bMSH"))
	f.Add([]byte("FHS|\rBHS|\rMSH|^~\\&\rBTS|"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := hl7.Inspect(data)
		if len(r.Findings) > 200 || r.Messages == nil || r.Findings == nil {
			t.Fatalf("%+v", r)
		}
		for _, x := range r.Findings {
			if x.Text == "" || x.Code == "" || x.Message > len(r.Messages) || strings.ContainsFunc(x.Text, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Fatalf("%+v", x)
			}
		}
	})
}
