package plandoc_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/towpath/towpath/ipam/plandoc"
)

func TestReadJSONNamesEveryBadLine(t *testing.T) {
	text := strings.Join([]string{
		`{"format": "towpath-plan/1",`,
		` "ranges": [`,
		`  {"kind": "allocation", "range": "10.1.0.0/24", "site": "nord"},`,
		`  {"kind": "allocation", "range": "10.1.0.1/24", "site": "nord"},`,
		`  {"kind": "allocation", "range": "10.2.0.0/24", "sit": "nord"},`,
		`  {"kind": "allocation", "range": 7}, "x",`,
		`  {"kind": "allocation",`,
		`   "range": "10.3.0.0/24", "site": "sued"}`,
		` ]}`,
	}, "\n")
	d, problems, err := plandoc.ReadJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"line 4: malformed prefix: 10.1.0.1/24 has bits set beyond its length, the network is 10.1.0.0/24",
		`line 5: unknown field "sit"`,
		`line 6: the field "" cannot be a string`,
		`line 6: the field "range" cannot be a number`,
	}
	if got := words(problems); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(d.Entries) != 2 || d.Entries[0].Line != 3 || d.Entries[1].Line != 7 {
		t.Errorf("got %+v", d.Entries)
	}
}

func TestReadJSONRefusesOtherDocuments(t *testing.T) {
	for text, want := range map[string]string{
		``:   "line 1: the text ends too early",
		`[]`: "line 1: { was expected",
		"{\n\"format\": \"towpath-plan/1\"\n, \"pools\": 1}":             `line 3: there is no field "pools"`,
		"{\"format\": \"x/1\"}":                                          `line 1: the format is "x/1", this program reads "towpath-plan/1"`,
		"{\"ranges\": []}":                                               `line 1: it does not say its format, "towpath-plan/1"`,
		"{\"format\": \"towpath-plan/1\"}\n{}":                           "line 2: there is more behind the end",
		"{\"format\": \"towpath-plan/1\", \"ranges\": [{}, \n{\"kind\":": "line 1: there is no range",
	} {
		_, problems, err := plandoc.ReadJSON(strings.NewReader(text))
		if err != nil || len(problems) == 0 || problems[0].String() != want {
			t.Errorf("%q: got %q, %v, want %q", text, words(problems), err, want)
		}
	}
}

func TestDocumentIsJSON(t *testing.T) {
	mapped := entry(plandoc.Allocation, "10.1.0.0/24", "nord", "", 0)
	mapped.Purpose, mapped.Maps = plandoc.Mapped, netip.MustParsePrefix("192.168.178.0/24")
	d := plandoc.Document{Entries: []plandoc.Entry{entry(plandoc.Pool, "10.0.0.0/8", "", "all", 0), entry(plandoc.LAN, "fd00::/64", "nord", "", 0), mapped}}
	b, err := json.Marshal(map[string]any{"plan": d})
	if err != nil {
		t.Fatal(err)
	}
	var back struct{ Plan plandoc.Document }
	if err := json.Unmarshal(b, &back); err != nil || !slices.EqualFunc(back.Plan.Entries, d.Entries, plandoc.Entry.Same) {
		t.Errorf("%s becomes %+v, %v", b, back, err)
	}
	if err := json.Unmarshal([]byte(`{"format":"towpath-plan/1","ranges":[{"kind":"pool","range":"x"}]}`), &d); err == nil {
		t.Error("a bad range was read")
	}
}

// fuzzRead holds what must be true of any text: no panic, problems in bounds, and what was read can be written and read again.
func fuzzRead(t *testing.T, text []byte, read func(*bytes.Buffer) (plandoc.Document, []plandoc.Problem, error), write func(*bytes.Buffer, plandoc.Document) error) {
	t.Helper()
	d, problems, err := read(bytes.NewBuffer(text))
	if err != nil {
		return
	}
	lines := bytes.Count(text, []byte("\n")) + bytes.Count(text, []byte("\r")) + 2
	if len(problems) > plandoc.MaxProblems+1 {
		t.Fatalf("%d problems", len(problems))
	}
	for _, p := range problems {
		if p.Line < 0 || p.Line > lines && !bytes.HasPrefix(text, []byte("\xff\xfe")) && !bytes.HasPrefix(text, []byte("\xfe\xff")) {
			t.Fatalf("%d lines, %v", lines, p)
		}
	}
	var b bytes.Buffer
	if err := write(&b, d); err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	again, problems, err := read(&b)
	if err != nil || len(problems) > 0 || !slices.EqualFunc(again.Entries, d.Entries, plandoc.Entry.Same) {
		t.Fatalf("%+v became %+v, %q, %v", d.Entries, again.Entries, words(problems), err)
	}
}

func FuzzReadCSV(f *testing.F) {
	for _, s := range []string{
		"site,range,comment\nnord,10.1.0.0/24,x\n", "nord;10.1.0.0 255.255.0.0;Z\xfcrich;lan;1.2.2027", "\ufeffsep=;\r\n10.0.0.1-10.0.0.9;a\r\n",
		"a\tfd00::/8\t\"x\ny\"\n", "\xff\xfea\x00;\x00", "n,10.0.0.0/8,\"", "sep=", "n,10.0.0.0/8,'=1,pool,2027-01-01T00:00:00.5Z",
	} {
		f.Add([]byte(s))
	}
	f.Add([]byte("Praxis;Netz;Art;Zweck;Bildet ab\nn;10.0.0.0/24;;;192.168.1.0 255.255.255.0\nn;fd00::/64;gemeldet;Docker;\nn;10.0.0.0-10.0.1.9;;Dienste;1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		fuzzRead(t, text, func(b *bytes.Buffer) (plandoc.Document, []plandoc.Problem, error) { return plandoc.ReadCSV(b) },
			func(b *bytes.Buffer, d plandoc.Document) error { return plandoc.WriteCSV(b, d) })
	})
}

func FuzzReadJSON(f *testing.F) {
	for _, s := range []string{
		`{"format": "towpath-plan/1", "ranges": [{"kind":"pool","range":"10.0.0.0/8"},` + "\n" + `{"kind":"lan","range":"fd00::/64","site":"\ud800"}]}`,
		`{"ranges":[{"range":"10.0.0.1-10.0.0.9","until":"31.01.2027"}]`, `[]`,
		`{"format": "towpath-plan/1", "ranges": [{"range":"10.0.0.0/24","site":"n","maps":"192.168.1.0/24"},{"range":"10.0.0.0/24","kind":"reported","purpose":"WAN"}]}`, `{"format":7}`, `{"ranges":[[[[`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		fuzzRead(t, text, func(b *bytes.Buffer) (plandoc.Document, []plandoc.Problem, error) { return plandoc.ReadJSON(b) },
			func(b *bytes.Buffer, d plandoc.Document) error { return plandoc.WriteJSON(b, d) })
	})
}
