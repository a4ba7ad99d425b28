package dimse_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/dicom/dimse"
)

// echoRQ is a C-ECHO-RQ put together by hand from PS3.7 §9.3.5.1 and annex E.
const echoRQ = "00000000 04000000 38000000" + // group length 56
	"00000200 12000000 312e322e3834302e31303030382e312e3100" + // verification, padded with NUL
	"00000001 02000000 3000" + // C-ECHO-RQ
	"00001001 02000000 0700" + // message 7
	"00000008 02000000 0101" // no data set

func TestEchoByHand(t *testing.T) {
	want, err := hex.DecodeString(strings.ReplaceAll(echoRQ, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	set := dimse.EchoRQ{MessageID: 7, SOPClass: "1.2.840.10008.1.1"}.Set()
	if got := set.Encode(); !bytes.Equal(got, want) {
		t.Errorf("encoded as\n%x instead of\n%x", got, want)
	}
	back, err := dimse.Decode(want)
	if err != nil {
		t.Fatal(err)
	}
	if back.CommandField() != dimse.CEchoRQ || back.MessageID() != 7 || back.HasDataSet() ||
		back.Text(dimse.TagAffectedSOPClass) != "1.2.840.10008.1.1" {
		t.Errorf("decoded as %+v", back)
	}
}

var uids = rapid.StringMatching(`[0-2](\.(0|[1-9][0-9]{0,8})){1,6}`)

func TestStoreRQRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := dimse.StoreRQ{
			MessageID: rapid.Uint16().Draw(t, "id"), SOPClass: uids.Draw(t, "class"), SOPInstance: uids.Draw(t, "instance"),
			HasDataSet: rapid.Bool().Draw(t, "data"),
		}
		if rapid.Bool().Draw(t, "moved") {
			m.MoveOriginatorAE = rapid.StringMatching(`[A-Z][A-Z0-9]{0,15}`).Draw(t, "originator")
			m.MoveOriginatorMessage = rapid.Uint16().Draw(t, "origin")
		}
		set := m.Set()
		back := reread(t, &set)
		if got := dimse.ParseStoreRQ(&back); got != m {
			t.Fatalf("%+v instead of %+v", got, m)
		}
	})
}

func TestResponseRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := dimse.Response{
			To:        rapid.SampledFrom([]dimse.Command{dimse.CStoreRQ, dimse.CEchoRQ, dimse.CFindRQ, dimse.NActionRQ}).Draw(t, "to"),
			MessageID: rapid.Uint16().Draw(t, "id"), SOPClass: uids.Draw(t, "class"), SOPInstance: uids.Draw(t, "instance"),
			Status:            dimse.Status(rapid.Uint16().Draw(t, "status")),
			ErrorComment:      rapid.StringMatching(`([!-\[\]-~]{1,64})?`).Draw(t, "comment"),
			OffendingElements: rapid.SliceOfN(rapid.Uint32(), 0, 5).Draw(t, "offending"),
		}
		set := m.Set()
		back := reread(t, &set)
		got, err := dimse.ParseResponse(&back)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// reread encodes and decodes, and looks that the order of tags, even lengths and group length are what PS3.7 wants.
func reread(t *rapid.T, set *dimse.Set) dimse.Set {
	b := set.Encode()
	if n := int(b[8]) | int(b[9])<<8 | int(b[10])<<16 | int(b[11])<<24; n != len(b)-12 {
		t.Fatalf("group length %d of %d bytes", n, len(b)-12)
	}
	back, err := dimse.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	last := dimse.TagGroupLength
	for _, e := range back.Elements() {
		if e.Tag <= last {
			t.Fatalf("%s after %s", e.Tag, last)
		}
		if len(e.Value)%2 != 0 {
			t.Fatalf("%s has the odd length %d", e.Tag, len(e.Value))
		}
		last = e.Tag
	}
	return back
}

func TestErrorCommentIsALegalLO(t *testing.T) {
	for in, want := range map[string]string{
		strings.Repeat("x", 70): strings.Repeat("x", 64), "a\\b\nc": "a?b?c", "für": "f?r", "": "",
	} {
		set := dimse.Response{To: dimse.CStoreRQ, ErrorComment: in}.Set()
		if got := set.Text(dimse.TagErrorComment); got != want {
			t.Errorf("%q became %q instead of %q", in, got, want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	valid := dimse.EchoRQ{MessageID: 1, SOPClass: "1.2"}.Set()
	b := valid.Encode()
	with := func(tail ...byte) []byte { return append(bytes.Clone(b), tail...) }
	for name, bad := range map[string][]byte{
		"nothing":                    {},
		"half a header":              with(0, 0, 2),
		"cut off value":              with(0, 0, 2, 9, 4, 0, 0, 0, 1),
		"length of 4 GiB":            with(0, 0, 2, 9, 0xFF, 0xFF, 0xFF, 0xFF),
		"other group":                with(8, 0, 0x18, 0, 0, 0, 0, 0),
		"element twice":              with(0, 0, 0x10, 1, 2, 0, 0, 0, 1, 0),
		"group length at the end":    with(0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0),
		"no command":                 {0, 0, 0x10, 1, 2, 0, 0, 0, 1, 0},
		"command of the wrong size":  {0, 0, 0, 1, 4, 0, 0, 0, 1, 0, 0, 0},
		"a thousand empty elements ": thousand(),
	} {
		if _, err := dimse.Decode(bad); err == nil {
			t.Errorf("%s is decoded", name)
		}
	}
	wrong := bytes.Clone(b)
	wrong[8] = 0xEE
	if _, err := dimse.Decode(wrong); err != nil {
		t.Errorf("a wrong group length is not forgiven: %v", err)
	}
	if _, err := dimse.Decode(b[12:]); err != nil {
		t.Errorf("a missing group length is not forgiven: %v", err)
	}
	if _, err := dimse.ParseResponse(&valid); err == nil {
		t.Error("a request is taken for a response")
	}
}

func thousand() []byte {
	var b []byte
	for i := range 1000 {
		b = append(b, 0, 0, byte(i), byte(i>>8)+0x20, 0, 0, 0, 0)
	}
	return b
}

func FuzzDecode(f *testing.F) {
	for _, s := range []dimse.Set{
		dimse.EchoRQ{MessageID: 1, SOPClass: "1.2.840.10008.1.1"}.Set(),
		dimse.StoreRQ{SOPClass: "1.2", SOPInstance: "1.2.3", MoveOriginatorAE: "A", HasDataSet: true}.Set(),
		dimse.Response{
			To: dimse.CStoreRQ, Status: dimse.OutOfResources, ErrorComment: "full", OffendingElements: []uint32{0x00080018},
		}.Set(),
	} {
		f.Add(s.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := dimse.Decode(b)
		if err != nil {
			return
		}
		again, err := dimse.Decode(s.Encode())
		if err != nil {
			t.Fatalf("decoded, encoded and cannot be decoded: %v", err)
		}
		if diff := cmp.Diff(s.Elements(), again.Elements(), cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		_ = dimse.ParseStoreRQ(&s)
		if r, err := dimse.ParseResponse(&s); err == nil && r.Status.Class() == 0 {
			t.Fatalf("status %s has no class", r.Status)
		}
		_ = s.CommandField().String()
	})
}
