package dicom

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

// el writes an element by hand in an encoding; n is the length to state, -1 for the true one.
func el(enc encoding, group, number uint16, vr string, value []byte, n int64) []byte {
	order := enc.order.(binary.AppendByteOrder)
	b := order.AppendUint16(order.AppendUint16(nil, group), number)
	if n < 0 {
		n = int64(len(value))
	}
	switch {
	case !enc.explicit || group == 0xFFFE:
		b = order.AppendUint32(b, uint32(n))
	case vr == "SQ" || vr == "UN" || vr == "OB":
		b = order.AppendUint32(append(append(b, vr...), 0, 0), uint32(n))
	default:
		b = order.AppendUint16(append(b, vr...), uint16(n))
	}
	return append(b, value...)
}

const undefined = int64(undefinedLength)

// header is the start of a plausible data set: a sequence of undefined length in one of defined length, and a private block that
// contains what looks like the UIDs looked for.
func header(enc encoding) []byte {
	inner := bytes.Join([][]byte{
		el(enc, 0xFFFE, 0xE000, "", bytes.Join([][]byte{
			el(enc, 0x0020, 0x000D, "UI", []byte("9.9.9\x00"), -1),
			el(enc, 0x0040, 0xA043, "SQ", el(enc, 0xFFFE, 0xE0DD, "", nil, 0), undefined),
			el(enc, 0xFFFE, 0xE00D, "", nil, 0),
		}, nil), undefined),
		el(enc, 0xFFFE, 0xE000, "", el(enc, 0x0020, 0x000E, "UI", []byte("8.8\x00"), -1), -1),
		el(enc, 0xFFFE, 0xE0DD, "", nil, 0),
	}, nil)
	implicitItem := el(encodingOf(ImplicitLittleEndian), 0x0020, 0x000D, "UI", []byte("7.7\x00"), -1)
	implicit := encodingOf(ImplicitLittleEndian)
	unknown := bytes.Join([][]byte{
		el(implicit, 0xFFFE, 0xE000, "", implicitItem, -1), el(implicit, 0xFFFE, 0xE0DD, "", nil, 0),
	}, nil)
	parts := [][]byte{
		el(enc, 0x0008, 0x0005, "CS", []byte("ISO_IR 192"), -1),
		el(enc, 0x0008, 0x0018, "UI", []byte("1.2.3.4\x00"), -1),
		el(enc, 0x0008, 0x1140, "SQ", inner, undefined),
	}
	if enc.explicit && enc.order == binary.LittleEndian {
		parts = append(parts, el(enc, 0x0009, 0x1001, "UN", unknown, undefined))
	}
	parts = append(parts,
		el(enc, 0x0010, 0x0010, "PN", []byte("DOE^JOHN"), -1),
		el(enc, 0x0019, 0x1000, "OB", bytes.Repeat([]byte{1, 2}, 5000), -1),
		el(enc, 0x0020, 0x000D, "UI", []byte("1.2.3\x00"), -1),
		el(enc, 0x0020, 0x000E, "UI", []byte("1.2.30"), -1),
		el(enc, 0x0020, 0x0010, "SH", []byte("X "), -1),
	)
	return bytes.Join(parts, nil)
}

func TestIdentify(t *testing.T) {
	want := place{study: "1.2.3", series: "1.2.30"}
	for _, syntax := range []string{
		ImplicitLittleEndian, ExplicitLittleEndian, bigEndianExplicit, privateGEImplicitBE, deflatedExplicit, "1.2.840.10008.1.2.4.90",
	} {
		b := header(encodingOf(syntax))
		if syntax == deflatedExplicit {
			var out bytes.Buffer
			w, _ := flate.NewWriter(&out, 5)
			_, _ = w.Write(b)
			_ = w.Close()
			b = out.Bytes()
		}
		if got := identify(b, syntax); got != want {
			t.Errorf("%s: %+v", syntax, got)
		}
		for cut := range b {
			if got := identify(b[:cut], syntax); got != want && got != (place{}) && got != (place{study: "1.2.3"}) {
				t.Fatalf("%s cut at %d: %+v", syntax, cut, got)
			}
		}
	}
	if got := identify(el(encodingOf(ImplicitLittleEndian), 0x20, 0x0D, "UI", []byte("not a UID!"), -1), ImplicitLittleEndian); got != (place{}) {
		t.Errorf("nonsense is taken for %+v", got)
	}
}

// TestNestingIsBounded opens sequence in sequence: an error, not a stack.
func TestNestingIsBounded(t *testing.T) {
	enc := encodingOf(ImplicitLittleEndian)
	one := append(el(enc, 0x0008, 0x1140, "SQ", nil, undefined), el(enc, 0xFFFE, 0xE000, "", nil, undefined)...)
	s := elements{b: bytes.Repeat(one, 4000), enc: enc}
	if _, err := s.next(); !errors.Is(err, errNested) {
		t.Errorf("got %v", err)
	}
}

func TestReportIsRead(t *testing.T) {
	for _, syntax := range []string{ImplicitLittleEndian, ExplicitLittleEndian} {
		enc := encodingOf(syntax)
		ref := func(uid string, reason ...uint16) []byte {
			b := el(enc, 0x0008, 0x1150, "UI", []byte("1.2\x00"), -1)
			b = append(b, el(enc, 0x0008, 0x1155, "UI", []byte(uid), -1)...)
			for _, r := range reason {
				b = append(b, el(enc, 0x0008, 0x1197, "US", enc.order.(binary.AppendByteOrder).AppendUint16(nil, r), -1)...)
			}
			return el(enc, 0xFFFE, 0xE000, "", b, -1)
		}
		b := bytes.Join([][]byte{
			el(enc, 0x0008, 0x1195, "UI", []byte("2.25.77\x00"), -1),
			el(enc, 0x0008, 0x1198, "SQ", append(ref("1.1.2\x00", 0x0112), ref("1.1.3\x00", 0x0213)...), -1),
			el(enc, 0x0008, 0x1199, "SQ", append(ref("1.1.1\x00"), el(enc, 0xFFFE, 0xE0DD, "", nil, 0)...), undefined),
		}, nil)
		r := parseReport(b, enc)
		if r.transaction != "2.25.77" || r.objects["1.1.1"] != committed || r.objects["1.1.2"] != missing ||
			r.objects["1.1.3"] != notDecided || len(r.objects) != 3 {
			t.Errorf("%s: %+v", syntax, r)
		}
	}
}

// TestBothListsIsNotCommitted believes the bad news when an archive puts an object into both lists.
func TestBothListsIsNotCommitted(t *testing.T) {
	enc := encodingOf(ImplicitLittleEndian)
	item := el(enc, 0xFFFE, 0xE000, "", el(enc, 0x0008, 0x1155, "UI", []byte("1.1.1\x00"), -1), -1)
	failed := el(enc, 0x0008, 0x1198, "SQ", item, -1)
	done := el(enc, 0x0008, 0x1199, "SQ", item, -1)
	for _, b := range [][]byte{append(bytes.Clone(failed), done...), append(bytes.Clone(done), failed...)} {
		if got := parseReport(b, enc).objects["1.1.1"]; got != notDecided {
			t.Errorf("%d", got)
		}
	}
}

// FuzzElements reads anything in any encoding: it must end, within its bytes.
func FuzzElements(f *testing.F) {
	for i, syntax := range []string{ImplicitLittleEndian, ExplicitLittleEndian, bigEndianExplicit, deflatedExplicit} {
		f.Add(uint8(i), header(encodingOf(syntax)))
	}
	f.Add(uint8(0), []byte(strings.Repeat("\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF", 100)))
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		syntax := []string{ImplicitLittleEndian, ExplicitLittleEndian, bigEndianExplicit, deflatedExplicit}[which%4]
		p := identify(b, syntax)
		for _, uid := range []string{p.study, p.series} {
			if uid != "" && !ValidUID(uid) {
				t.Errorf("%q", uid)
			}
		}
		parseReport(b, encodingOf(syntax))
		s := elements{b: b, enc: encodingOf(syntax)}
		for n := 0; ; n++ {
			before := len(s.b)
			if _, err := s.next(); err != nil {
				if errors.Is(err, io.EOF) != (before == 0) {
					t.Fatalf("%v with %d bytes left", err, before)
				}
				return
			}
			if len(s.b) >= before || n > len(b) {
				t.Fatal("no progress")
			}
		}
	})
}
