package tpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
)

// sealedParts are a blob of the sizes that a TPM makes for a WireGuard key.
func sealedParts() blob {
	return blob{
		pcrs: 1<<7 | 1<<23, parent: bytes.Repeat([]byte{1}, nameSize), public: bytes.Repeat([]byte{2}, 48), private: bytes.Repeat([]byte{3}, 160),
	}
}

func TestBlobBounds(t *testing.T) {
	part := func(n int) []byte { return bytes.Repeat([]byte{9}, n) }
	for name, c := range map[string]struct {
		change func(*blob)
		ok     bool
	}{
		"usual":           {func(*blob) {}, true},
		"no PCRs":         {func(b *blob) { b.pcrs = 0 }, true},
		"largest":         {func(b *blob) { b.public, b.private = part(maxPublic), part(maxPrivate) }, true},
		"PCR 24":          {func(b *blob) { b.pcrs = 1 << 24 }, false},
		"short parent":    {func(b *blob) { b.parent = part(nameSize - 1) }, false},
		"long parent":     {func(b *blob) { b.parent = part(nameSize + 1) }, false},
		"no public":       {func(b *blob) { b.public = nil }, false},
		"long public":     {func(b *blob) { b.public = part(maxPublic + 1) }, false},
		"no private":      {func(b *blob) { b.private = nil }, false},
		"long private":    {func(b *blob) { b.private = part(maxPrivate + 1) }, false},
		"impossibly long": {func(b *blob) { b.private = part(1 << 15) }, false},
	} {
		b := sealedParts()
		c.change(&b)
		got, err := parseBlob(b.encode())
		if c.ok != (err == nil) || (err != nil && !errors.Is(err, ErrDamaged)) {
			t.Errorf("%s: %v", name, err)
		}
		if c.ok && (got.pcrs != b.pcrs || !bytes.Equal(got.parent, b.parent) || !bytes.Equal(got.public, b.public) || !bytes.Equal(got.private, b.private)) {
			t.Errorf("%s: it changed on its way", name)
		}
	}
	// Too short and too long, with checksums that are right.
	body := sealedParts().encode()
	body = body[:len(body)-sumSize]
	for name, body := range map[string][]byte{"cut": body[:len(body)-1], "longer": append(bytes.Clone(body), 0)} {
		if _, err := parseBlob(binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.ChecksumIEEE(body))); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseBlob(f *testing.F) {
	whole := sealedParts().encode()
	f.Add(whole[:len(whole)-sumSize])
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, in := range [][]byte{body, binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.ChecksumIEEE(body))} {
			b, err := parseBlob(in)
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("an error of its own: %v", err)
				}
				continue
			}
			if !bytes.Equal(b.encode(), in) {
				t.Fatal("what was accepted is not what encode makes")
			}
		}
	})
}
