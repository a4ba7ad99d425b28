package codec_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/codec"
)

// encode encodes an object, verified, and checks that it decodes to the same bytes.
func encode(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, c *codec.Codec, object []byte, h codec.Hints,
) []byte {
	t.Helper()
	var out, back bytes.Buffer
	s, err := c.EncodeVerified(&out, bytes.NewReader(object), int64(len(object)), h)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	if s.Faulty != 0 {
		t.Fatalf("%d blocks did not decode to the original", s.Faulty)
	}
	if s.Encoded != int64(out.Len()) || s.Size != int64(len(object)) || s.Digest != sha256.Sum256(object) {
		t.Fatalf("stats %+v of %d bytes in %d", s, len(object), out.Len())
	}
	if most := len(object) + codec.HeaderSize + codec.BlockHeaderSize*s.Blocks; out.Len() > most {
		t.Fatalf("%d bytes became %d, at most %d", len(object), out.Len(), most)
	}
	if _, err := c.Decode(&back, bytes.NewReader(out.Bytes()), int64(len(object))); err != nil {
		t.Fatalf("decode: %v", err)
	}
	if !bytes.Equal(back.Bytes(), object) {
		t.Fatalf("decoded to other bytes")
	}
	return out.Bytes()
}

func TestRoundTrip(t *testing.T) {
	// How small each must become, as a check that it was understood at all: zstd alone does not get there.
	least := map[string]float64{
		"ct": 1.9, "implicit": 2, "big endian": 2, "bands": 2.5, "frames": 1.9, "sparse": 4, "grey 8": 2.3, "color": 2.3, "planar": 2.3,
		"color 16": 1.4, "big color": 1.4, "cut": 1.9, "wrong rows": 1.9, "ecg": 2, "curves": 3.5, "zeros": 1000,
	}
	objects := named()
	for name := range least {
		if objects[name] == nil {
			t.Errorf("no object %q", name)
		}
	}
	for _, workers := range []int{1, 3} {
		c := codec.New(workers)
		for name, object := range objects {
			t.Run(fmt.Sprintf("%s/%d", name, workers), func(t *testing.T) {
				encoded := encode(t, c, object, codec.Hints{})
				if ratio := float64(len(object)) / float64(len(encoded)); ratio < least[name] {
					t.Errorf("ratio %.2f, want %.2f", ratio, least[name])
				}
			})
		}
	}
}

// TestWithoutMeta passes data sets as the spool holds them, with and without the transfer syntax.
func TestWithoutMeta(t *testing.T) {
	c := codec.New(1)
	for _, syntax := range []string{implicitLittle, explicitLittle, explicitBig} {
		object := image{syntax: syntax, rows: 200, cols: 200, noise: 3}.dataSet(1).b
		told := encode(t, c, object, codec.Hints{TransferSyntax: syntax})
		if ratio := float64(len(object)) / float64(len(told)); ratio < 2 {
			t.Errorf("%s: ratio %.2f", syntax, ratio)
		}
		guessed := encode(t, c, object, codec.Hints{})
		if syntax != explicitBig && len(guessed) != len(told) {
			t.Errorf("%s: %d bytes if told the syntax, %d if not", syntax, len(told), len(guessed))
		}
		lied := encode(t, c, object, codec.Hints{TransferSyntax: jpegLossless})
		if len(lied) < len(object) {
			t.Errorf("something was tried on a compressed syntax")
		}
	}
}

func TestCompressedIsStored(t *testing.T) {
	c := codec.New(1)
	object := named()["compressed"]
	e, err := c.Plan(bytes.NewReader(object), int64(len(object)), codec.Hints{})
	if err != nil {
		t.Fatal(err)
	}
	if !e.Compressed() {
		t.Error("a compressed syntax was not recognized")
	}
	if got, want := len(encode(t, c, object, codec.Hints{})), len(object)+codec.HeaderSize+codec.BlockHeaderSize; got != want {
		t.Errorf("%d bytes, want %d: nothing may be tried", got, want)
	}
}

// TestBlocksStandAlone decodes blocks in reverse, each with a codec that has seen nothing else, as after a cut.
func TestBlocksStandAlone(t *testing.T) {
	objects := named()
	for _, name := range []string{"bands", "frames", "planar", "ecg", "random"} {
		object := objects[name]
		e, err := codec.New(1).Plan(bytes.NewReader(object), int64(len(object)), codec.Hints{})
		if err != nil {
			t.Fatal(err)
		}
		next := int64(len(object))
		for i := e.Header().Blocks - 1; i >= 0; i-- {
			offset, size := e.Block(i)
			if offset+int64(size) != next {
				t.Fatalf("%s: block %d ends at %d, the next begins at %d", name, i, offset+int64(size), next)
			}
			next = offset
			block, faulty, err := e.AppendVerified([]byte("before"), i)
			if err != nil || faulty {
				t.Fatal(name, i, faulty, err)
			}
			got, err := codec.New(1).AppendDecoded([]byte("front"), block[len("before"):])
			if err != nil {
				t.Fatal(name, i, err)
			}
			if !bytes.Equal(got, append([]byte("front"), object[offset:][:size]...)) {
				t.Fatalf("%s: block %d differs", name, i)
			}
		}
		if next != 0 {
			t.Errorf("%s: blocks begin at %d", name, next)
		}
	}
}

// TestBlockChecksum: a damaged block is found when it arrives, not only at the end of the object.
func TestBlockChecksum(t *testing.T) {
	object := named()["random"]
	c := codec.New(1)
	e, err := c.Plan(bytes.NewReader(object), int64(len(object)), codec.Hints{})
	if err != nil {
		t.Fatal(err)
	}
	block, err := e.AppendBlock(nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	block[len(block)-1] ^= 1
	if got, err := c.AppendDecoded(nil, block); !errors.Is(err, codec.ErrCorrupt) || len(got) != 0 {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
	if _, err := c.AppendDecoded(nil, block[:len(block)-1]); !errors.Is(err, codec.ErrCorrupt) {
		t.Errorf("short block: error %v", err)
	}
}

// TestGivenDigest checks that a digest given by the caller is believed by the encoder and checked by the decoder.
func TestGivenDigest(t *testing.T) {
	object := named()["odd"]
	wrong := sha256.Sum256([]byte("something else"))
	c := codec.New(1)
	var out bytes.Buffer
	if _, err := c.Encode(&out, bytes.NewReader(object), int64(len(object)), codec.Hints{Digest: &wrong}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Decode(io.Discard, &out, 1<<20)
	if !errors.Is(err, codec.ErrCorrupt) || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("error %v", err)
	}
}

func TestLimits(t *testing.T) {
	c := codec.New(1)
	object := named()["ct"]
	encoded := encode(t, c, object, codec.Hints{})
	if _, err := c.Decode(io.Discard, bytes.NewReader(encoded), int64(len(object))-1); !errors.Is(err, codec.ErrTooLarge) {
		t.Errorf("decode beyond the limit: %v", err)
	}
	if _, err := c.Plan(bytes.NewReader(nil), codec.MaxObject+1, codec.Hints{}); !errors.Is(err, codec.ErrTooLarge) {
		t.Errorf("plan of too much: %v", err)
	}
	if _, err := c.Plan(bytes.NewReader(nil), -1, codec.Hints{}); !errors.Is(err, codec.ErrTooLarge) {
		t.Errorf("plan of less than nothing: %v", err)
	}
}

// TestShortSource checks that an object shorter than announced is an error, not zeros.
func TestShortSource(t *testing.T) {
	object := named()["frames"]
	digest := sha256.Sum256(object)
	for _, h := range []codec.Hints{{}, {Digest: &digest}} {
		_, err := codec.New(2).Encode(io.Discard, bytes.NewReader(object), int64(len(object))+1, h)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error %v", err)
		}
	}
}

// brokenWriter fails once, after so many bytes. An error must not be forgotten because things went well later.
type brokenWriter struct {
	left   int
	failed bool
}

var errFull = errors.New("disk full")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 && !w.failed {
		w.failed = true
		return 0, errFull
	}
	return len(p), nil
}

func TestBrokenWriter(t *testing.T) {
	object := bytes.Repeat(named()["random"], 6)
	for _, workers := range []int{1, 2, 4} {
		c := codec.New(workers)
		encoded := encode(t, c, object, codec.Hints{})
		for _, room := range []int{0, codec.HeaderSize, 1 << 20} {
			if _, err := c.Encode(&brokenWriter{left: room}, bytes.NewReader(object), int64(len(object)), codec.Hints{}); !errors.Is(err, errFull) {
				t.Errorf("encode: %v", err)
			}
			if _, err := c.Decode(&brokenWriter{left: room}, bytes.NewReader(encoded), 1<<30); !errors.Is(err, errFull) {
				t.Errorf("decode: %v", err)
			}
		}
	}
}

// TestDamage flips bits and cuts. Every damage is an error, except a bit that does not matter to zstd; and what was decoded before is
// not longer than announced.
func TestDamage(t *testing.T) {
	c := codec.New(2)
	objects := named()
	for _, name := range []string{"odd", "short waves", "curves", "sparse", "color", "dose"} {
		object := objects[name]
		encoded := encode(t, c, object, codec.Hints{})
		check := func(damaged []byte, what string, at int) {
			var back bytes.Buffer
			_, err := c.Decode(&back, bytes.NewReader(damaged), int64(len(object)))
			if err == nil && len(damaged) == len(encoded) && bytes.Equal(back.Bytes(), object) {
				return
			}
			if !errors.Is(err, codec.ErrCorrupt) && !errors.Is(err, codec.ErrVersion) && !errors.Is(err, codec.ErrTooLarge) {
				t.Fatalf("%s: %s at %d of %d: %v", name, what, at, len(encoded), err)
			}
			if back.Len() > len(object) {
				t.Fatalf("%s: %s at %d: %d bytes, the object has %d", name, what, at, back.Len(), len(object))
			}
		}
		step := 1 + len(encoded)/200
		for at := 0; at < len(encoded); at += step {
			damaged := bytes.Clone(encoded)
			damaged[at] ^= 1 << (at % 8)
			check(damaged, "bit flipped", at)
			check(encoded[:at], "cut", at)
		}
	}
}

// TestAnyBytes: encoding and decoding is the identity for all bytes whatsoever.
func TestAnyBytes(t *testing.T) {
	c := codec.New(2)
	rapid.Check(t, func(t *rapid.T) {
		object := rapid.SliceOfN(rapid.Byte(), 0, 4000).Draw(t, "object")
		syntax := rapid.SampledFrom([]string{"", implicitLittle, explicitLittle, explicitBig, jpegLossless, "nonsense"}).Draw(t, "syntax")
		encode(t, c, object, codec.Hints{TransferSyntax: syntax})
	})
}

// TestAnyImage: the same for data sets with all kinds of declarations, right and wrong, cut and altered.
func TestAnyImage(t *testing.T) {
	c := codec.New(2)
	rapid.Check(t, func(t *rapid.T) {
		p := image{
			syntax: rapid.SampledFrom([]string{implicitLittle, explicitLittle, explicitBig}).Draw(t, "syntax"),
			rows:   rapid.IntRange(1, 90).Draw(t, "rows"), cols: rapid.IntRange(1, 90).Draw(t, "cols"),
			frames: rapid.IntRange(1, 3).Draw(t, "frames"), comps: rapid.SampledFrom([]int{1, 1, 2, 3, 3, 4}).Draw(t, "comps"),
			bits: rapid.SampledFrom([]int{8, 16, 16, 32}).Draw(t, "bits"), signed: rapid.Bool().Draw(t, "signed"),
			planar: rapid.Bool().Draw(t, "planar"), step: rapid.IntRange(1, 20).Draw(t, "step"),
			noise: rapid.Float64Range(0, 400).Draw(t, "noise"), claimRows: rapid.IntRange(0, 5).Draw(t, "claimed rows"),
			tail: rapid.Bool().Draw(t, "tail"), cut: rapid.SampledFrom([]int{0, 0, 1, 2, 97}).Draw(t, "cut"),
		}
		p.stored = rapid.IntRange(1, p.bits-1).Draw(t, "stored")
		p.junk = p.bits < 32 && rapid.Bool().Draw(t, "junk")
		d := p.dataSet(rapid.Uint64().Draw(t, "seed"))
		object := d.b
		if rapid.Bool().Draw(t, "file") {
			object = d.part10()
		}
		for range rapid.IntRange(0, 3).Draw(t, "alterations") {
			object[rapid.IntRange(0, len(object)-1).Draw(t, "where")] = rapid.Byte().Draw(t, "what")
		}
		encode(t, c, object, codec.Hints{TransferSyntax: d.syntax})
	})
}

// wall is an object of any size that takes no memory: a head, and behind it something between a picture and noise.
type wall struct {
	head []byte
	size int64
}

func (w wall) ReadAt(p []byte, at int64) (int, error) {
	n := int(min(int64(len(p)), w.size-at))
	for i := range n {
		if x := at + int64(i); x < int64(len(w.head)) {
			p[i] = w.head[x]
		} else {
			p[i] = byte(x>>12) + byte(x*2654435761>>13)&15
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// TestMemory encodes and decodes objects that are larger than the memory that may be used for them.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const workers, size = 2, 24 << 20
	for name, p := range map[string]image{
		"opaque":    {},
		"gray":      {rows: 3000, cols: 2000, bits: 16},
		"long rows": {rows: 3, cols: 65_000, bits: 8, comps: 4},
		"planar":    {rows: 800, cols: 870, bits: 8, comps: 3, planar: true},
	} {
		w := wall{size: size}
		if p.rows > 0 {
			p.frames = 1
			d := p.dataSet(1)
			w.head = d.part10()
			w.head = w.head[:len(w.head)-len(p.withDefaults().pixels(1))]
			binary.LittleEndian.PutUint32(w.head[len(w.head)-4:], size)
		}
		most := heapOf(t, workers, w)
		t.Logf("%s: at most %d KiB for %d workers", name, most>>10, workers)
		if most > workers*codec.WorkerMemory {
			t.Errorf("%s: %d bytes for %d workers, at most %d each", name, most, workers, codec.WorkerMemory)
		}
	}
}

// heapOf returns the most memory held while an object is encoded and decoded, by codecs with so many workers together.
func heapOf(t *testing.T, workers int, w wall) int64 {
	t.Helper()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, most := heap(), int64(0)
	pr, pw := io.Pipe()
	go func() {
		_, err := codec.New(workers/2).EncodeVerified(pw, w, w.size, codec.Hints{})
		pw.CloseWithError(err)
	}()
	n := 0
	_, err := codec.New(workers/2).Decode(writerFunc(func(p []byte) (int, error) {
		if n++; n%8 == 0 {
			most = max(most, heap()-before)
		}
		return len(p), nil
	}), pr, w.size)
	if err != nil {
		t.Fatal(err)
	}
	return most
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
