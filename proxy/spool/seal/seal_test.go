package seal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/spool/seal"
)

func newKey(t testing.TB) seal.PrivateKey {
	t.Helper()
	k, err := seal.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func itemOf(t testing.TB, e *seal.Epoch, id string) seal.Item {
	t.Helper()
	i, err := e.Item(id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func sealed(t testing.TB, item seal.Item, plain []byte, pieces int) []byte {
	t.Helper()
	var out bytes.Buffer
	var w seal.Writer
	w.Reset(&out, item)
	for len(plain) > 0 {
		n := min(pieces, len(plain))
		if k, err := w.Write(plain[:n]); k != n || err != nil {
			t.Fatal(k, err)
		}
		plain = plain[n:]
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func opened(text []byte, size int64, item seal.Item) ([]byte, error) {
	return io.ReadAll(seal.NewReader(bytes.NewReader(text), 0, size, item))
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

func TestKeys(t *testing.T) {
	k := newKey(t)
	secret, err := k.RevealBytes()
	if err != nil || len(secret) != seal.PrivateSize {
		t.Fatalf("%d bytes, %v", len(secret), err)
	}
	again, err := seal.ParsePrivateKey(secret)
	if err != nil || again.Public().ID() != k.Public().ID() {
		t.Fatalf("%v, %v", again.Public().ID(), err)
	}
	pub, err := seal.ParsePublicKey(k.Public().Bytes())
	if err != nil || pub.ID() != k.Public().ID() || len(k.Public().Bytes()) != seal.PublicSize || len(pub.ID()) != 16 {
		t.Fatalf("%v, %v", pub.ID(), err)
	}
	for _, bad := range [][]byte{nil, secret[1:], append(secret, 0)} {
		if _, err := seal.ParsePrivateKey(bad); err == nil || len(bad) > 0 && strings.Contains(err.Error(), string(bad)) {
			t.Errorf("a key of %d bytes: %v", len(bad), err)
		}
	}
	if _, err := seal.ParsePublicKey(secret); err == nil {
		t.Error("a public key of 32 bytes was taken")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	k, e := newKey(t), seal.NewEpoch()
	secret, err := k.RevealBytes()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k, "epoch", e)
	text := fmt.Sprintf("%v %+v %#v %s %v %+v %#v %s", k, k, k, k, e, e, e, log.String())
	for _, form := range []string{string(secret), fmt.Sprintf("%x", secret), fmt.Sprint(secret), fmt.Sprintf("%#v", secret)} {
		if strings.Contains(text, form) {
			t.Errorf("the key is in %q", text)
		}
	}
	if b, err := json.Marshal(k); err == nil {
		t.Errorf("JSON: %s", b)
	}
}

func TestEpoch(t *testing.T) {
	k, e := newKey(t), seal.NewEpoch()
	s, err := e.Seal(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Bytes()) != seal.SealedEpochSize {
		t.Fatalf("%d bytes, want %d", len(s.Bytes()), seal.SealedEpochSize)
	}
	stored, err := seal.ParseSealedEpoch(s.Bytes())
	if err != nil || stored.ID() != e.ID() || stored.To() != k.Public().ID() {
		t.Fatalf("%v %v (%v)", stored.ID(), stored.To(), err)
	}
	back, err := stored.Open(k)
	if err != nil {
		t.Fatal(err)
	}
	text := sealed(t, itemOf(t, e, "1"), []byte("hello"), 5)
	if got, err := opened(text, 5, itemOf(t, back, "1")); string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := opened(text, 5, itemOf(t, back, "2")); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("with another item's key: %v", err)
	}
	if _, err := opened(text, 5, itemOf(t, seal.NewEpoch(), "1")); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("with another epoch: %v", err)
	}
	if _, err := stored.Open(newKey(t)); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("with another key: %v", err)
	}
	if _, err := stored.Open(seal.PrivateKey{}); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("with no key: %v", err)
	}
	if _, err := e.Seal(seal.PublicKey{}); err == nil {
		t.Error("sealed to nobody")
	}
	for i := range s.Bytes() {
		b := s.Bytes()
		b[i] ^= 1
		if changed, err := seal.ParseSealedEpoch(b); err == nil {
			if _, err := changed.Open(k); err == nil {
				t.Fatalf("a flipped bit in byte %d was not noticed", i)
			}
		}
	}
	e.Wipe()
	if _, err := e.Item("1"); err == nil {
		t.Error("an epoch that was wiped makes keys")
	}
}

// TestStream cuts payloads around the sizes of segments, in pieces of any size.
func TestStream(t *testing.T) {
	e := seal.NewEpoch()
	for i, size := range []int{0, 1, 100, seal.Segment - 1, seal.Segment, seal.Segment + 1, 2 * seal.Segment, 3*seal.Segment + 17} {
		for _, pieces := range []int{1 << 20, seal.Segment, 1000} {
			plain, item := pattern(size), itemOf(t, e, fmt.Sprint(i, pieces))
			text := sealed(t, item, plain, pieces)
			if int64(len(text)) != seal.SealedSize(int64(size)) {
				t.Fatalf("%d bytes became %d, want %d", size, len(text), seal.SealedSize(int64(size)))
			}
			if got, err := opened(text, int64(size), item); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%d bytes came back as %d (%v)", size, len(got), err)
			}
			if size > 0 && bytes.Contains(text, plain[:min(size, 64)]) && size > 16 {
				t.Fatal("the plain text is in what was sealed")
			}
		}
	}
	plain := pattern(2*seal.Segment + 9)
	text := sealed(t, itemOf(t, e, "x"), plain, 7777)
	if err := iotest.TestReader(seal.NewReader(bytes.NewReader(text), 0, int64(len(plain)), itemOf(t, e, "x")), plain); err != nil {
		t.Error(err)
	}
}

// TestStreamIsWhole changes what was sealed in every way that keeps segments whole, and in some that do not.
func TestStreamIsWhole(t *testing.T) {
	const whole = seal.Segment + seal.DescriptionOverhead
	e := seal.NewEpoch()
	item := itemOf(t, e, "x")
	size := int64(3 * seal.Segment)
	text := sealed(t, item, pattern(int(size)), 1<<20)
	for name, tc := range map[string]struct {
		text []byte
		size int64
	}{
		"the last segment cut off":    {text[:2*whole], 2 * seal.Segment},
		"the first segment cut off":   {text[whole:], 2 * seal.Segment},
		"two segments swapped":        {bytes.Join([][]byte{text[whole : 2*whole], text[:whole], text[2*whole:]}, nil), size},
		"a segment twice":             {bytes.Join([][]byte{text[:whole], text[:whole], text[2*whole:]}, nil), size},
		"the last one appended again": {append(bytes.Clone(text), text[2*whole:]...), 4 * seal.Segment},
		"shorter than it says":        {text[:len(text)-1], size},
		"a byte less":                 {text, size - 1},
		"a byte more":                 {append(bytes.Clone(text), 0), size + 1},
	} {
		if _, err := opened(tc.text, tc.size, item); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A description is no payload and the other way round.
	d := item.SealDescription([]byte("12345"), []byte("beside"))
	if got, err := item.OpenDescription(d, []byte("beside")); string(got) != "12345" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := item.OpenDescription(d, []byte("besides")); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("with something else beside it: %v", err)
	}
	if _, err := opened(d, 5, item); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("a description as a payload: %v", err)
	}
	if _, err := item.OpenDescription(sealed(t, item, []byte("12345"), 5), nil); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("a payload as a description: %v", err)
	}
}

func TestStreamProperty(t *testing.T) {
	e := seal.NewEpoch()
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		item := itemOf(t, e, fmt.Sprint(n))
		size := rapid.OneOf(rapid.IntRange(0, 3000), rapid.IntRange(seal.Segment-2, 2*seal.Segment+2)).Draw(r, "size")
		plain := pattern(size)
		text := sealed(t, item, plain, rapid.IntRange(100, 100_000).Draw(r, "pieces"))
		at := rapid.IntRange(0, len(text)-1).Draw(r, "at")
		text[at] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
		if got, err := opened(text, int64(size), item); !errors.Is(err, seal.ErrOpen) || !bytes.Equal(got, plain[:len(got)]) {
			r.Fatalf("a flipped bit in byte %d of %d: %d bytes, %v", at, len(text), len(got), err)
		}
		text[at] ^= 0xff
	})
}

// FuzzParseSealedEpoch holds that what is read is what was written.
func FuzzParseSealedEpoch(f *testing.F) {
	k, err := seal.NewPrivateKey()
	if err != nil {
		f.Fatal(err)
	}
	s, err := seal.NewEpoch().Seal(k.Public())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Bytes())
	f.Add([]byte("TWPEPO1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := seal.ParseSealedEpoch(b)
		if err == nil && (!bytes.Equal(s.Bytes(), b) || len(s.To()) != 16) {
			t.Errorf("%x was read as %x", b, s.Bytes())
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	e := seal.NewEpoch()
	plain := pattern(1 << 20)
	b.Run("write", func(b *testing.B) {
		b.SetBytes(int64(len(plain)))
		var w seal.Writer
		for b.Loop() {
			w.Reset(io.Discard, itemOf(b, e, "x"))
			_, _ = w.Write(plain)
			if err := w.Finish(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		text := sealed(b, itemOf(b, e, "x"), plain, len(plain))
		b.SetBytes(int64(len(plain)))
		for b.Loop() {
			if _, err := io.Copy(io.Discard, seal.NewReader(bytes.NewReader(text), 0, int64(len(plain)), itemOf(b, e, "x"))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("item", func(b *testing.B) {
		for b.Loop() {
			_ = itemOf(b, e, "x")
		}
	})
	b.Run("epoch", func(b *testing.B) {
		k := newKey(b)
		for b.Loop() {
			if _, err := seal.NewEpoch().Seal(k.Public()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
