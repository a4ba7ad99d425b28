package plandoc_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/ipam/plandoc"
)

func entry(kind plandoc.Kind, prefix, owner, note string, line int) plandoc.Entry {
	e := plandoc.Entry{Kind: kind, Prefix: netip.MustParsePrefix(prefix), Owner: owner, Note: note, Line: line}
	if kind == plandoc.Allocation {
		e.Purpose = plandoc.Overlay
	}
	return e
}

func readCSV(t *testing.T, text string) (plandoc.Document, []string) {
	t.Helper()
	d, problems, err := plandoc.ReadCSV(strings.NewReader(text))
	if err != nil {
		t.Fatalf("read %q: %v", text, err)
	}
	return d, words(problems)
}

func words(problems []plandoc.Problem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, p.String())
	}
	return out
}

func TestReadCSVTakesWhatPeopleHave(t *testing.T) {
	nord, sued := entry(plandoc.Allocation, "10.1.0.0/24", "praxis-nord", "MRT, Zürich", 2), entry(plandoc.Allocation, "10.1.1.0/24", "praxis-sued", "", 3)
	two := []plandoc.Entry{nord, sued}
	utf16le := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune("Standort\tNetz\tBemerkung\r\npraxis-nord\t10.1.0.0/24\tMRT, Zürich\r\npraxis-sued\t10.1.1.0/24\t\r\n")) {
		utf16le = binary.LittleEndian.AppendUint16(utf16le, u)
	}
	from := func(line int) []plandoc.Entry {
		a, b := nord, sued
		a.Line, b.Line = line, line+1
		return []plandoc.Entry{a, b}
	}
	for name, tc := range map[string]struct {
		text string
		want []plandoc.Entry
	}{
		"comma":       {"site,range,comment\npraxis-nord,10.1.0.0/24,\"MRT, Zürich\"\npraxis-sued,10.1.1.0/24,\n", two},
		"semicolon":   {"Praxis;Netz;Bemerkung\r\npraxis-nord;10.1.0.0/24;MRT, Zürich\r\npraxis-sued;10.1.1.0/24;\r\n", two},
		"tab":         {"Standort\tIP-Bereich\tKommentar\npraxis-nord\t10.1.0.0/24\tMRT, Zürich\npraxis-sued\t10.1.1.0/24", two},
		"BOM":         {"\ufeffsite;range;comment\npraxis-nord;10.1.0.0/24;MRT, Zürich\npraxis-sued;10.1.1.0/24\n", two},
		"ISO 8859-1":  {"site;range;comment\npraxis-nord;10.1.0.0/24;MRT, Z\xfcrich\npraxis-sued;10.1.1.0/24;\n", two},
		"UTF-16":      {string(utf16le), two},
		"sep line":    {"sep=;\npraxis-nord;10.1.0.0/24;MRT, Zürich\npraxis-sued;10.1.1.0/24;\n", two},
		"old Mac":     {"site;range;comment\rpraxis-nord;10.1.0.0/24;MRT, Zürich\rpraxis-sued;10.1.1.0/24\r", two},
		"no header":   {"praxis-nord;10.1.0.0/24;MRT, Zürich\npraxis-sued;10.1.1.0/24;\n", from(1)},
		"range first": {"10.1.0.0/24;praxis-nord;MRT, Zürich\n10.1.1.0/24;praxis-sued\n", from(1)},
		"other order": {"Bemerkung;Etage;Netz;Praxis\nMRT, Zürich;3;10.1.0.0/24;praxis-nord\n;;10.1.1.0/24;praxis-sued\n", two},
		"masks":       {"site,range,comment\npraxis-nord,10.1.0.0 255.255.255.0,\"MRT, Zürich\"\npraxis-sued,10.1.1.0/255.255.255.0\n", two},
		"mask column": {"site;network;mask;comment\npraxis-nord;10.1.0.0;255.255.255.0;MRT, Zürich\npraxis-sued;10.1.1.0;24;\n", two},
		"spans":       {"site,range,comment\npraxis-nord,10.1.0.0-10.1.0.255,\"MRT, Zürich\"\npraxis-sued,10.1.1.0 – 10.1.1.255\n", two},
		"line break in a cell": {
			"site;range;comment\npraxis-nord;10.1.0.0/24;\"MRT,\nZürich\"\n\n;;\npraxis-sued;10.1.1.0/24;\n",
			[]plandoc.Entry{nord, entry(sued.Kind, "10.1.1.0/24", "praxis-sued", "", 6)},
		},
		"kinds": {
			"site,range,comment,kind,until\n,10.0.0.0/8,,Pool\n,10.9.0.0/16,spare\n,10.8.0.0/24,,allocation,31.12.2026\nnord,192.168.178.0/24,,LAN,\n",
			[]plandoc.Entry{
				entry(plandoc.Pool, "10.0.0.0/8", "", "", 2), entry(plandoc.Reserved, "10.9.0.0/16", "", "spare", 3),
				{
					Kind: plandoc.Allocation, Prefix: netip.MustParsePrefix("10.8.0.0/24"), Purpose: "overlay",
					Until: time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC), Line: 4,
				},
				entry(plandoc.LAN, "192.168.178.0/24", "nord", "", 5),
			},
		},
		"split": {"nord,10.1.0.1-10.1.0.6\n", []plandoc.Entry{
			entry(plandoc.Allocation, "10.1.0.1/32", "nord", "", 1), entry(plandoc.Allocation, "10.1.0.2/31", "nord", "", 1),
			entry(plandoc.Allocation, "10.1.0.4/31", "nord", "", 1), entry(plandoc.Allocation, "10.1.0.6/32", "nord", "", 1),
		}},
		"nothing": {"", nil},
	} {
		d, problems := readCSV(t, tc.text)
		if len(problems) > 0 || !slices.Equal(d.Entries, tc.want) {
			t.Errorf("%s: got %+v, want %+v, problems %q", name, d.Entries, tc.want, problems)
		}
	}
}

func TestReadCSVNamesEveryBadLine(t *testing.T) {
	_, got := readCSV(t, strings.Join([]string{
		"site;range;comment;kind;until",
		"nord;10.1.0.1/24",
		"nord;10.1.0.0",
		"ost;10.2.0.0/24;fine",
		"nord;10.1.0.9-10.1.0.1",
		"nord;10.1.0.0 255.0.255.0",
		"nord;;",
		"nord;10.3.0.0/24;;mine;soon",
		"nord;10.4.0.0/24;a \"word",
		"nord;::ffff:10.0.0.0/120",
		"nord;fd00::-10.0.0.1",
		"nord;10.5.0.0/24;" + strings.Repeat("x", 1001),
		"west;10.6.0.0/24;\"open",
	}, "\n"))
	want := []string{
		"line 2: malformed prefix: 10.1.0.1/24 has bits set beyond its length, the network is 10.1.0.0/24",
		"line 3: malformed prefix: \"10.1.0.0\" has no length, write 10.1.0.0/32 for the one address",
		"line 5: malformed prefix: 10.1.0.9 is behind 10.1.0.1, write the lower address first",
		"line 6: malformed prefix: the mask 255.0.255.0 has ones behind zeros",
		"line 7: there is no range",
		"line 8: \"soon\" is not a date such as 2027-01-31 or 31.01.2027",
		"line 8: there is no kind \"mine\": use pool, allocation, reserved, foreign, lan or reported",
		"line 9: a quotation mark stands alone: double it, and put the whole cell between two",
		"line 10: malformed prefix: ::ffff:10.0.0.0/120 is IPv4 written as IPv6, write it as IPv4",
		"line 11: malformed prefix: fd00:: and 10.0.0.1 are of different families",
		"line 12: the comment has 1001 bytes, more than 1000",
		"line 13: a quotation mark stands alone: double it, and put the whole cell between two",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, got := readCSV(t, "site;comment\nnord;x\n"); !slices.Equal(got, []string{"line 1: no column is called range: name the columns site, range and comment"}) {
		t.Errorf("without a range: %q", got)
	}
}

func TestReadRefusesWhatIsNoText(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want error
	}{
		"workbook":     {"PK\x03\x04rest", plandoc.ErrNotText},
		"old workbook": {"\xd0\xcf\x11\xe0rest", plandoc.ErrNotText},
		"zero bytes":   {"a\x00b", plandoc.ErrNotText},
		"too large":    {strings.Repeat("\n", plandoc.MaxBytes+1), plandoc.ErrTooLarge},
	} {
		if _, _, err := plandoc.ReadCSV(strings.NewReader(tc.text)); !errors.Is(err, tc.want) {
			t.Errorf("CSV, %s: got %v", name, err)
		}
		if _, _, err := plandoc.ReadJSON(strings.NewReader(tc.text)); !errors.Is(err, tc.want) {
			t.Errorf("JSON, %s: got %v", name, err)
		}
	}
}

func TestWriteRefusesWhatCannotBeReadBack(t *testing.T) {
	good := entry(plandoc.Allocation, "10.0.0.0/8", "nord", "", 0)
	for name, change := range map[string]func(*plandoc.Entry){
		"kind":         func(e *plandoc.Entry) { e.Kind = "mine" },
		"host bits":    func(e *plandoc.Entry) { e.Prefix = netip.MustParsePrefix("10.0.0.1/8") },
		"no prefix":    func(e *plandoc.Entry) { e.Prefix = netip.Prefix{} },
		"spaces":       func(e *plandoc.Entry) { e.Owner = " nord" },
		"two lines":    func(e *plandoc.Entry) { e.Note = "a\nb" },
		"long":         func(e *plandoc.Entry) { e.Label = strings.Repeat("x", plandoc.MaxText+1) },
		"not UTF-8":    func(e *plandoc.Entry) { e.Label = "\xff" },
		"no purpose":   func(e *plandoc.Entry) { e.Purpose = "" },
		"its own word": func(e *plandoc.Entry) { e.Purpose = "MRT" },
		"as a LAN is":  func(e *plandoc.Entry) { e.Purpose = plandoc.ReportedLAN },
		"for a pool":   func(e *plandoc.Entry) { e.Kind = plandoc.Pool },
		"no report":    func(e *plandoc.Entry) { e.Kind, e.Purpose = plandoc.Reported, "" },
		"maps nothing": func(e *plandoc.Entry) { e.Purpose = plandoc.Mapped },
		"maps, too":    func(e *plandoc.Entry) { e.Maps = netip.MustParsePrefix("192.0.0.0/8") },
		"maps less":    func(e *plandoc.Entry) { e.Purpose, e.Maps = plandoc.Mapped, netip.MustParsePrefix("192.0.0.0/9") },
		"maps IPv6":    func(e *plandoc.Entry) { e.Purpose, e.Maps = plandoc.Mapped, netip.MustParsePrefix("fd00::/8") },
		"maps a host":  func(e *plandoc.Entry) { e.Purpose, e.Maps = plandoc.Mapped, netip.MustParsePrefix("192.0.0.1/8") },
		"LAN maps": func(e *plandoc.Entry) {
			e.Kind, e.Purpose, e.Maps = plandoc.LAN, "", netip.MustParsePrefix("192.0.0.0/8")
		},
		"far too late": func(e *plandoc.Entry) { e.Until = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		e := good
		change(&e)
		d := plandoc.Document{Entries: []plandoc.Entry{e}}
		if plandoc.WriteCSV(&bytes.Buffer{}, d) == nil || plandoc.WriteJSON(&bytes.Buffer{}, d) == nil {
			t.Errorf("%s: written", name)
		}
	}
}

func TestWriteCSVDefusesFormulas(t *testing.T) {
	var b bytes.Buffer
	d := plandoc.Document{Entries: []plandoc.Entry{entry(plandoc.Allocation, "10.0.0.0/24", "nord", "=1+1", 0)}}
	if err := plandoc.WriteCSV(&b, d); err != nil {
		t.Fatal(err)
	}
	if want := "site,range,comment,kind,purpose,label,maps,until\nnord,10.0.0.0/24,'=1+1,allocation,overlay,,,\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// genDocument draws valid entries, whose texts have all that a format could trip over.
func genDocument() *rapid.Generator[plandoc.Document] {
	text := rapid.OneOf(
		rapid.Just(""),
		rapid.SampledFrom([]string{"praxis-nord", "Zürich, \"Süd\"", "a;b\tc", "=1+1", "'=x", "''-1", "'", "site", "10.0.0.0/8", "#", "2027-01-01", "\\.", "€ ß 漢字"}),
		rapid.StringOfN(rapid.RuneFrom([]rune("a ,;\"'=+-@|\\/#:ü€\u00a0\t\n")), 0, 8, -1),
	)
	tidy := func(s string) string {
		return strings.TrimSpace(strings.NewReplacer("\n", " ", "\t", " ").Replace(s))
	}
	return rapid.Custom(func(t *rapid.T) plandoc.Document {
		var d plandoc.Document
		for range rapid.IntRange(0, 8).Draw(t, "entries") {
			e := plandoc.Entry{
				Kind:   drawKind(t),
				Prefix: drawPrefix(t), Owner: tidy(text.Draw(t, "owner")), Label: tidy(text.Draw(t, "label")), Note: tidy(text.Draw(t, "note")),
			}
			drawPurpose(t, &e)
			switch rapid.IntRange(0, 2).Draw(t, "until") {
			case 1:
				e.Until = time.Date(2026, 1, rapid.IntRange(1, 90).Draw(t, "day"), 0, 0, 0, 0, time.UTC)
			case 2:
				e.Until = time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
			}
			d.Entries = append(d.Entries, e)
		}
		return d
	})
}

func drawKind(t *rapid.T) plandoc.Kind {
	return rapid.SampledFrom([]plandoc.Kind{
		plandoc.Pool, plandoc.Allocation, plandoc.Allocation, plandoc.Reserved, plandoc.Foreign, plandoc.LAN, plandoc.Reported,
	}).Draw(t, "kind")
}

// drawPurpose gives e what its kind must have.
func drawPurpose(t *rapid.T, e *plandoc.Entry) {
	if e.Kind == plandoc.Allocation {
		e.Purpose = rapid.SampledFrom([]string{plandoc.Overlay, plandoc.Mapped, plandoc.Workstation, plandoc.Services}).Draw(t, "purpose")
	}
	if e.Kind == plandoc.Reported {
		e.Purpose = rapid.SampledFrom([]string{plandoc.ReportedLAN, plandoc.ReportedWAN, plandoc.ReportedContainer}).Draw(t, "purpose")
	}
	if e.Purpose == plandoc.Mapped {
		low := netip.MustParseAddr("192.168.178.7")
		if e.Prefix.Addr().Is6() {
			low = netip.MustParseAddr("2001:db8::7")
		}
		e.Maps = netip.PrefixFrom(low, e.Prefix.Bits()).Masked()
	}
}

// drawPrefix makes prefixes that often meet.
func drawPrefix(t *rapid.T) netip.Prefix {
	if rapid.IntRange(0, 3).Draw(t, "IPv6") == 0 {
		a := [16]byte{0xfd, 15: rapid.Byte().Draw(t, "low")}
		return netip.PrefixFrom(netip.AddrFrom16(a), rapid.SampledFrom([]int{0, 8, 48, 120, 122, 125, 128}).Draw(t, "bits")).Masked()
	}
	a := [4]byte{10, rapid.ByteRange(0, 3).Draw(t, "b"), 0, rapid.Byte().Draw(t, "d")}
	return netip.PrefixFrom(netip.AddrFrom4(a), rapid.SampledFrom([]int{0, 8, 15, 16, 24, 25, 26, 27, 28, 30, 32}).Draw(t, "bits")).Masked()
}

func TestBothFormsLoseNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := genDocument().Draw(t, "document")
		var c, j bytes.Buffer
		if err := plandoc.WriteCSV(&c, d); err != nil {
			t.Fatal(err)
		}
		if err := plandoc.WriteJSON(&j, d); err != nil {
			t.Fatal(err)
		}
		type reader = func(io.Reader) (plandoc.Document, []plandoc.Problem, error)
		excel := "\ufeff" + strings.ReplaceAll(c.String(), "\n", "\r\n")
		for text, read := range map[string]reader{c.String(): plandoc.ReadCSV, j.String(): plandoc.ReadJSON, excel: plandoc.ReadCSV} {
			got, problems, err := read(strings.NewReader(text))
			if err != nil || len(problems) > 0 || !slices.EqualFunc(got.Entries, d.Entries, plandoc.Entry.Same) {
				t.Fatalf("%s\nbecame %+v, want %+v, problems %q, %v", text, got.Entries, d.Entries, words(problems), err)
			}
			for i, e := range got.Entries {
				if e.Line != i+2 {
					t.Fatalf("entry %d of\n%s\nis said to be in line %d", i, text, e.Line)
				}
			}
		}
	})
}

// TestSpansAreExact holds ParseRange against counting.
func TestSpansAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.IntRange(0, 300).Draw(t, "lo")
		hi := rapid.IntRange(lo, 700).Draw(t, "hi")
		addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 253 + byte(i/256), byte(i)}) }
		got, err := plandoc.ParseRange(fmt.Sprintf(" %v - %v", addr(lo), addr(hi)))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 * 256 {
			n := 0
			for _, p := range got {
				if p.Contains(addr(i)) {
					n++
				}
			}
			if want := min(1, max(0, i-lo+1)) * min(1, max(0, hi-i+1)); n != want {
				t.Fatalf("%v is in %d of %v", addr(i), n, got)
			}
		}
	})
	if got, err := plandoc.ParseRange("0.0.0.0-255.255.255.255"); err != nil || len(got) != 1 || got[0].Bits() != 0 {
		t.Errorf("all of IPv4 is %v, %v", got, err)
	}
}
