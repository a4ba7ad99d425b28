package gdt_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/hl7/gdt"
)

var practice = gdt.Options{Receiver: "PRAX_EDV"}

func message(segments ...string) []byte { return []byte(strings.Join(segments, "\r") + "\r") }

const (
	msh = `MSH|^~\&|READER|CENTER|PRAXIS|CLINIC|20261122101500||ORU^R01|4711|P|2.5.1||||||UNICODE UTF-8`
	pid = `PID|1||12345^^^PRAXIS||Müßig^Jörg^A||19600229|M`
	obr = `OBR|1|A1|B1|EKG^Langzeit-EKG|||20261120083000`
)

// lines checks that every line says its own length and the record the sum, and returns identifier and content of each, in UTF-8.
func lines(t interface {
	Helper()
	Fatalf(string, ...any)
}, record []byte, table *charmap.Charmap,
) []string {
	t.Helper()
	var out []string
	for raw := range bytes.SplitAfterSeq(record, []byte("\r\n")) {
		if len(raw) == 0 {
			continue
		}
		if n, err := strconv.Atoi(string(raw[:3])); err != nil || n != len(raw) || !bytes.HasSuffix(raw, []byte("\r\n")) {
			t.Fatalf("a line of %d bytes says %q", len(raw), raw[:min(3, len(raw))])
		}
		text, err := table.NewDecoder().Bytes(raw[3 : len(raw)-2])
		if err != nil {
			t.Fatalf("%v", err)
		}
		out = append(out, string(text))
	}
	if want := fmt.Sprintf("8100%05d", len(record)); len(out) < 2 || out[1] != want {
		t.Fatalf("the record of %d bytes begins with %q", len(record), out[:min(2, len(out))])
	}
	return append(out[:1], out[2:]...)
}

func TestConvert(t *testing.T) {
	head := []string{"80006310", "8315PRAX_EDV", "8316TOWPATH", "92063", "921802.10", "300012345", "3101Müßig", "3102Jörg", "310329021960", "31101", "8402ALLG00", "620020112026", "6201083000"}
	for name, c := range map[string]struct {
		segments []string
		want     []string
	}{
		"text": {[]string{msh, pid, obr, `OBX|1|TX|F^Befund||Sinusrhythmus, keine höhergradigen Rhythmusstörungen. Einzelne SVES, maximal \T\ 3 je Stunde.||||||F`, `NTE|1||Dr. Grün`}, []string{
			"6220Langzeit-EKG, Befund:", "6220Sinusrhythmus, keine höhergradigen Rhythmusstörungen.", "6220Einzelne SVES, maximal & 3 je Stunde.", "6227Dr. Grün",
		}},
		"formatted text and repetitions": {[]string{msh, pid, obr, `OBX|1|FT|F^Befund||Zeile 1\.br\Zeile 2~Zeile 3 \H\fett\N\||||||P`}, []string{
			"6220Langzeit-EKG, Befund:", "6220(vorläufiges Ergebnis)", "6220Zeile 1", "6220Zeile 2", "6220Zeile 3 fett",
		}},
		"numbers": {[]string{
			msh, pid, obr, `OBX|1|NM|HR^Herzfrequenz||61|/min|50 - 100|N|||F`, `NTE|1||in Ruhe`,
			`OBX|2|SN|QT^QT-Zeit||>^440|ms|bis 440|H|||C`, `OBX|3|CWE|R^Rhythmus||SR^Sinusrhythmus^L||||||F`,
		}, []string{
			"8410HR", "8411Herzfrequenz", "842061", "8421/min", "846150", "8462100", "8470Auffälligkeit: N", "8470in Ruhe",
			"8410QT", "8411QT-Zeit", "8420>440", "8421ms", "8460bis 440", "8470Auffälligkeit: H", "8470korrigiertes Ergebnis, ersetzt früheres",
			"8410R", "8411Rhythmus", "8420Sinusrhythmus",
		}},
		"document": {[]string{msh, pid, obr, `OBX|1|ED|PDF^Bericht||READER^Application^PDF^Base64^SGFs bG8=||||||F`, `OBX|2|TX|F||gut||||||F`}, []string{
			"6220Langzeit-EKG, F:", "6220gut", "6302000001", "6303PDF", "6304Bericht", "6305stem-1.pdf",
		}},
		"other delimiters": {[]string{
			strings.NewReplacer("^~\\&", "*;!?", "ORU^R01", "ORU*R01").Replace(msh), strings.ReplaceAll(pid, "^", "*"), strings.ReplaceAll(obr, "^", "*"),
			`OBX|1|ST|X*Kürzel||a!S!b`,
		}, []string{"8410X", "8411Kürzel", "8420a*b"}},
		"what no set has": {[]string{msh, pid, obr, `OBX|1|TX|||„≥ 3“ 漢`}, []string{`6220Langzeit-EKG:`, `6220">= 3" ?`, "62271 Zeichen nicht darstellbar, durch ? ersetzt"}},
	} {
		t.Run(name, func(t *testing.T) {
			record, documents, err := gdt.Convert(message(c.segments...), "stem", practice)
			if err != nil {
				t.Fatal(err)
			}
			got := lines(t, record, charmap.ISO8859_1)
			// The note about characters stands at the end of the record.
			if strings.Join(got, "\n") != strings.Join(append(append([]string(nil), head...), c.want...), "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(append(head, c.want...), "\n"))
			}
			if strings.Contains(name, "document") != (len(documents) == 1 && documents[0].Name == "stem-1.pdf" && string(documents[0].Content) == "Hallo") {
				t.Errorf("%d documents", len(documents))
			}
		})
	}
}

func TestCharsets(t *testing.T) {
	latin, err := charmap.ISO8859_1.NewEncoder().Bytes(message(strings.Replace(msh, "UNICODE UTF-8", "8859/1", 1), pid, obr, `OBX|1|TX|||Größe 5 µm`))
	if err != nil {
		t.Fatal(err)
	}
	for table, o := range map[*charmap.Charmap]gdt.Options{
		charmap.CodePage437: {Receiver: "PRAX_EDV", Charset: gdt.CP437}, charmap.ISO8859_1: {Receiver: "PRAX_EDV", Charset: gdt.Latin1},
	} {
		record, _, err := gdt.Convert(latin, "s", o)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(lines(t, record, table), "\n")
		if !strings.Contains(got, "3101Müßig\n") || !strings.Contains(got, "6220Größe 5 µm") || !strings.Contains(got, fmt.Sprintf("9206%d\n", int(o.Charset))) {
			t.Errorf("%v: %s", o.Charset, got)
		}
	}
}

func TestUnsuited(t *testing.T) {
	for want, msg := range map[string][]byte{
		"only results":               message(strings.Replace(msh, "ORU^R01", "ADT^A01", 1), pid),
		"names no patient":           message(msh, obr, `OBX|1|TX|||x`),
		"no patient number":          message(msh, `PID|1||^^^X||A^B`, `OBX|1|TX|||x`),
		"more than 10 characters":    message(msh, `PID|1||12345678901||A^B`, `OBX|1|TX|||x`),
		"no result":                  message(msh, pid, obr),
		"a batch":                    message(`BHS|^~\&`, msh, pid),
		"several messages":           message(msh, pid, msh, pid),
		"is no base64":               message(msh, pid, `OBX|1|ED|||A^B^PDF^Base64^%%%`),
		"not whole":                  message(msh, pid, `OBX|1|ED|||A^B^PDF`),
		"GDT allows 99999":           message(msh, pid, `OBX|1|TX|||`+strings.Repeat("Wort ", 20_000)),
		"encoding that is not known": message(msh, pid, `OBX|1|ED|||A^B^PDF^Hex^00`),
	} {
		_, _, err := gdt.Convert(msg, "s", practice)
		if _, ok := errors.AsType[*gdt.UnsuitedError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	for _, o := range []gdt.Options{{}, {Receiver: "abc"}, {Receiver: "PRAXIS123"}, {Receiver: "PRAX", Procedure: "LANGZEIT"}, {Receiver: "PRAX", Charset: 1}, {Receiver: "PRAX", Sender: "ä"}} {
		if o.Validate() == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestName(t *testing.T) {
	if a, b := practice.Name(1), practice.Name(gdt.MaxName); a != "PRAXTOWP.001" || b != "PRAXTOWP.999" {
		t.Error(a, b)
	}
}

// TestRecordsAreWhole: whatever the text, no word of it is lost and every length is true.
func TestRecordsAreWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[A-Za-zÄÖÜäöüß0-9.,()%/+-]{1,90}`), 1, 60).Draw(t, "words")
		kind := rapid.SampledFrom([]string{"TX", "FT", "ST", "NM"}).Draw(t, "kind")
		record, _, err := gdt.Convert(message(msh, pid, `OBX|1|`+kind+`|A^B||`+strings.Join(words, " ")), "s", practice)
		if err != nil {
			t.Fatalf("%v", err)
		}
		var text string
		for _, l := range lines(t, record, charmap.ISO8859_1) {
			switch id, content := l[:4], l[4:]; id {
			case "6220", "8420", "8480":
				if content != "B:" {
					text += content
				}
				if len([]rune(content)) > 60 {
					t.Fatalf("a line has %d characters", len([]rune(content)))
				}
			}
		}
		if want := strings.Join(words, ""); strings.ReplaceAll(text, " ", "") != want {
			t.Fatalf("got %q\nwant %q", text, want)
		}
	})
}

// TestSamples converts genuine messages: none may bring it down, and of the results most must succeed.
func TestSamples(t *testing.T) {
	dir := os.Getenv("TOWPATH_SAMPLES")
	if dir == "" {
		dir = "../../../../shared/samples"
	}
	files, err := filepath.Glob(filepath.Join(dir, "hl7", "*.hl7"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("no samples here")
	}
	done := 0
	for _, path := range files {
		msg, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		record, _, err := gdt.Convert(msg, "s", practice)
		if _, unsuited := errors.AsType[*gdt.UnsuitedError](err); err != nil && !unsuited {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
		if err == nil {
			lines(t, record, charmap.ISO8859_1)
			done++
		}
	}
	if done < 5 {
		t.Errorf("only %d of %d became records", done, len(files))
	}
}

func FuzzConvert(f *testing.F) {
	f.Add(message(msh, pid, obr, `OBX|1|TX|F^Befund||gut`), "PRAX_EDV", 2)
	f.Add(message(msh, pid, obr, `OBX|1|ED|P||A^B^PDF^Base64^SGFsbG8=`), "PRAX", 3)
	f.Add([]byte("MSH|^~\\&|"), "", 0)
	f.Fuzz(func(t *testing.T, msg []byte, receiver string, charset int) {
		record, beside, err := gdt.Convert(msg, "stem", gdt.Options{Receiver: receiver, Charset: gdt.Charset(charset)})
		if err != nil {
			if _, ok := errors.AsType[*gdt.UnsuitedError](err); !ok {
				t.Fatal(err)
			}
			return
		}
		table := charmap.ISO8859_1
		if charset == int(gdt.CP437) {
			table = charmap.CodePage437
		}
		lines(t, record, table)
		for _, b := range beside {
			if !filepath.IsLocal(b.Name) || strings.ContainsAny(b.Name, `/\`) || !strings.HasPrefix(b.Name, "stem-") {
				t.Fatalf("a document would be written to %q", b.Name)
			}
		}
	})
}
