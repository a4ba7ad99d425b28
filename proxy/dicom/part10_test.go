package dicom_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/dicom"
)

var uidValues = rapid.StringMatching(`[0-2](\.(0|[1-9][0-9]{0,8})){1,6}`)

func TestPart10RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := dicom.Part10Meta{
			TransferSyntax: rapid.OneOf(rapid.Just("1.2.840.10008.1.2.1.99"), uidValues).Draw(t, "syntax"),
			SOPClass:       uidValues.Draw(t, "class"), SOPInstance: uidValues.Draw(t, "instance"),
			SourceAE: rapid.StringMatching(`([A-Z]{1,16})?`).Draw(t, "source"),
		}
		// A deflated data set may begin like anything, even like the file head it follows.
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		if want.TransferSyntax != "1.2.840.10008.1.2.1.99" && len(data) >= 2 && binary.LittleEndian.Uint16(data) == 2 {
			data[0] = 8
		}
		var src io.Reader = bytes.NewReader(append(want.AppendPart10(nil), data...))
		if rapid.Bool().Draw(t, "piecemeal") {
			src = iotest.OneByteReader(src)
		}
		got, rest, err := dicom.ReadPart10(src)
		if err != nil || got != want {
			t.Fatalf("%+v, %v instead of %+v", got, err, want)
		}
		if b, err := io.ReadAll(rest); err != nil || !bytes.Equal(b, data) {
			t.Fatalf("the data set differs (%v)", err)
		}
	})
}

// element is one element of a file head for tests.
func element(tag uint16, vr, value string) []byte {
	b := []byte{2, 0, byte(tag), byte(tag >> 8)}
	b = append(b, vr...)
	if vr == "OB" || vr == "UN" {
		b = append(b, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	} else {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	}
	return append(b, value...)
}

func head(elements ...[]byte) []byte {
	return append(append(make([]byte, 128), "DICM"...), bytes.Join(elements, nil)...)
}

func TestPart10Forgives(t *testing.T) {
	class, instance, syntax := element(2, "UI", ctStorage+"\x00"), element(3, "UI", "1.2.3 "), element(0x10, "UI", explicit+"\x00")
	for name, b := range map[string][]byte{
		"no group length":       head(class, instance, syntax),
		"wrong group length":    head(element(0, "UL", "\x01\x00\x00\x00"), class, instance, syntax),
		"huge group length":     head(element(0, "UL", "\xff\xff\xff\xff"), class, instance, syntax),
		"other order":           head(syntax, instance, class),
		"private information":   head(class, instance, syntax, element(0x102, "OB", strings.Repeat("x", 100000))),
		"unknown long elements": head(class, element(0x99, "UN", "whatever"), instance, syntax),
	} {
		m, data, err := dicom.ReadPart10(bytes.NewReader(append(b, "\x08\x00data"...)))
		if err != nil || m.SOPClass != ctStorage || m.SOPInstance != "1.2.3" || m.TransferSyntax != explicit {
			t.Errorf("%s: %+v, %v", name, m, err)
			continue
		}
		if rest, err := io.ReadAll(data); err != nil || string(rest) != "\x08\x00data" {
			t.Errorf("%s: data set %q, %v", name, rest, err)
		}
	}
}

func TestPart10Refuses(t *testing.T) {
	class, instance, syntax := element(2, "UI", ctStorage), element(3, "UI", "1.2.3"), element(0x10, "UI", explicit)
	for name, b := range map[string][]byte{
		"empty":             {},
		"short":             make([]byte, 131),
		"text":              []byte(strings.Repeat("text ", 100)),
		"no syntax":         head(class, instance),
		"no instance":       head(class, syntax),
		"path as instance":  head(class, element(3, "UI", "../../x"), syntax),
		"cut off":           head(class, instance, syntax[:len(syntax)-1]),
		"endless head":      head(class, instance, syntax, bytes.Repeat(element(0x102, "OB", strings.Repeat("x", 100000)), 12)),
		"element of 4 GiB":  head(class, instance, syntax, []byte{2, 0, 2, 1, 'O', 'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF}),
		"value of 60000":    head(class, element(3, "UI", strings.Repeat("1", 60000)), syntax),
		"long element lost": head(class, instance, syntax, []byte{2, 0, 2, 1, 'O', 'B', 0, 0, 1}),
	} {
		if m, _, err := dicom.ReadPart10(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: read as %+v", name, m)
		}
	}
	if _, _, err := dicom.ReadPart10(bytes.NewReader([]byte("GIF89a"))); !errors.Is(err, dicom.ErrNotPart10) {
		t.Errorf("a picture: %v", err)
	}
	broken := errors.New("disk broken")
	if _, _, err := dicom.ReadPart10(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a broken disk: %v", err)
	}
}

func TestDigestDataset(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.dcm")
	if err := os.WriteFile(path, file("1.2.3", "data set"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum, size, err := dicom.DigestDataset(path)
	if err != nil || size != 8 || sum != sha256.Sum256([]byte("data set")) {
		t.Errorf("%x, %d, %v", sum, size, err)
	}
	if _, _, err := dicom.DigestDataset(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestValidUID(t *testing.T) {
	for uid, want := range map[string]bool{
		"1.2.840.10008.1.1": true, "1": true, "1.02.3": true, strings.Repeat("1", 64): true,
		"": false, strings.Repeat("1", 65): false, "1..2": false, ".1": false, "1.": false, "..": false, "1.2a": false,
		"1.2 ": false, "1/2": false,
	} {
		if got := dicom.ValidUID(uid); got != want {
			t.Errorf("ValidUID(%q) is %v", uid, got)
		}
	}
}

func FuzzReadPart10(f *testing.F) {
	f.Add(file("1.2.3", "data"))
	f.Add(head(element(2, "UI", ctStorage), element(3, "UI", "1.2"), element(0x10, "UI", "1.2.840.10008.1.2.1.99"), []byte{2, 0, 2, 0}))
	f.Add(head(element(0, "UL", "\xff\xff\xff\xff"), element(0x102, "OB", "x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, data, err := dicom.ReadPart10(bytes.NewReader(b))
		if err != nil {
			return
		}
		rest, err := io.ReadAll(data)
		if err != nil || !bytes.HasSuffix(b, rest) || len(rest) > len(b)-132 {
			t.Fatalf("the data set is no tail of the file (%v)", err)
		}
		again, _, err := dicom.ReadPart10(bytes.NewReader(m.AppendPart10(nil)))
		if err != nil && len(m.SourceAE) <= 256 {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if err == nil && again != m {
			t.Fatalf("%+v instead of %+v", again, m)
		}
	})
}
