package codec

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// TestFaultyEncoderIsCaught breaks a table that only the encoder uses: verification must notice and store the block.
func TestFaultyEncoderIsCaught(t *testing.T) {
	raw := make([]byte, 128*128)
	for i := range raw {
		raw[i] = byte(i/128 + i%128 + rand.IntN(3))
	}
	c := New(1)
	w, err := c.acquire()
	if err != nil {
		t.Fatal(err)
	}
	w.use(scaleOf(1))
	w.classify[2] = w.classify[3]
	c.release(w)
	e := &Encoding{codec: c, r: bytes.NewReader(raw), parts: []part{{size: len(raw), kind: samples, shape: shape{width: 128, rows: 128, comps: 1, bytes: 1}}}}
	wrong, err := e.AppendBlock(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(1).AppendDecoded(nil, wrong); err == nil {
		t.Fatal("the encoder is not broken: this test proves nothing")
	}
	block, faulty, err := e.AppendVerified(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !faulty || method(block[0]) != stored {
		t.Errorf("faulty %v, method %d: want a stored block that is reported", faulty, block[0])
	}
	if got, err := New(1).AppendDecoded(nil, block); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("the stored block does not decode: %v", err)
	}
}

// TestTokens: value is the inverse of token, and there are few enough of them.
func TestTokens(t *testing.T) {
	for _, width := range []int{1, 2} {
		s := scaleOf(width)
		for u := range uint32(1) << (8 * width) {
			token, rest := s.token(u)
			base, more := s.value(token)
			if token >= tokens || rest != more || rest > 16 || base+u&(1<<rest-1) != u {
				t.Fatalf("%d bytes: %d becomes token %d with %d bits, that is %d with %d", width, u, token, rest, base, more)
			}
		}
	}
}

// TestContexts: contexts rise with liveliness, stay in range, and the table agrees with the function.
func TestContexts(t *testing.T) {
	for shift := range uint(maxShift + 1) {
		var m moods
		m.use(shift)
		last := uint(0)
		for lively := range int32(8 * 65536) {
			q := context(lively, shift)
			if q < last || q >= contexts>>shift {
				t.Fatalf("liveliness %d: context %d after %d", lively, q, last)
			}
			if m.of(lively) != q {
				t.Fatalf("liveliness %d: table says %d, function %d", lively, m.of(lively), q)
			}
			last = q
		}
	}
}

// TestRows: put is the inverse of get and backward of forward, in every view, and every byte of a block is in some row.
func TestRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := shape{
			width: rapid.IntRange(1, 9).Draw(t, "width"), rows: rapid.IntRange(1, 5).Draw(t, "rows"),
			comps: rapid.IntRange(1, maxComps).Draw(t, "comps"), bytes: rapid.IntRange(1, 2).Draw(t, "bytes"), planar: rapid.Bool().Draw(t, "planar"),
		}
		frames := rapid.IntRange(1, 3).Draw(t, "frames")
		if s.comps == 1 && frames == 1 {
			s.transposed = rapid.Bool().Draw(t, "transposed")
		}
		v := view{shape: s, bigEndian: rapid.Bool().Draw(t, "big"), flipped: rapid.Bool().Draw(t, "flipped"), green: s.comps == 3 && rapid.Bool().Draw(t, "green")}
		n := frames * s.frame()
		raw := rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "raw")
		got := make([]byte, n)
		row, ref := make([]int32, s.width), make([]int32, s.width)
		for frame := range frames {
			for y := range s.rows {
				for i := range s.comps {
					comp := v.order(i)
					v.get(row, raw, frame, comp, y)
					if v.green && comp == 1 {
						copy(ref, row)
					}
					v.forward(row, ref, comp)
					for _, x := range row {
						if x < 0 || x > v.mask() {
							t.Fatalf("%d is no sample of %d bytes", x, s.bytes)
						}
					}
					if !v.backward(row, ref, comp) {
						t.Fatal("no level")
					}
					v.put(row, got, frame, comp, y)
				}
			}
		}
		if !bytes.Equal(got, raw) {
			t.Fatalf("%x became %x", raw, got)
		}
	})
}

// TestDivideCovers: whatever was found, blocks cover the object without gaps and none is too long.
func TestDivideCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(0, 20<<20).Draw(t, "size")
		f := findings{compressed: rapid.Bool().Draw(t, "compressed")}
		for range rapid.IntRange(0, 3).Draw(t, "regions") {
			f.regions = append(f.regions, region{
				offset: rapid.Int64Range(0, size).Draw(t, "offset"), size: rapid.Int64Range(0, size).Draw(t, "length"),
				bits: rapid.SampledFrom([]int{0, 1, 8, 12, 16, 32, 64}).Draw(t, "bits"),
				rows: rapid.SampledFrom([]int{0, 1, 7, 512, 3000, 65535}).Draw(t, "rows"),
				cols: rapid.SampledFrom([]int{0, 1, 7, 512, 3000, 65535}).Draw(t, "cols"), comps: rapid.IntRange(0, 5).Draw(t, "comps"),
				planar: rapid.Bool().Draw(t, "planar"), channels: rapid.SampledFrom([]int{0, 0, 1, 12, 65535}).Draw(t, "channels"),
			})
		}
		checkParts(t, divide(size, f), size)
	})
}

func checkParts(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, parts []part, size int64,
) {
	t.Helper()
	at := int64(0)
	for _, p := range parts {
		if p.offset != at || p.size < 1 || p.size > MaxBlock {
			t.Fatalf("block of %d bytes at %d, want one at %d", p.size, p.offset, at)
		}
		if p.kind == samples && (p.shape.frame() < 1 || p.size%p.shape.frame() != 0) {
			t.Fatalf("block of %d bytes with frames of %d", p.size, p.shape.frame())
		}
		at += int64(p.size)
	}
	if at != size {
		t.Fatalf("blocks end at %d of %d", at, size)
	}
}

// elements builds explicit little endian data sets for the scanner.
type elements []byte

func (e elements) add(tag uint32, vr string, length uint32, value ...byte) elements {
	e = binary.LittleEndian.AppendUint16(e, uint16(tag>>16))
	e = binary.LittleEndian.AppendUint16(e, uint16(tag))
	switch vr {
	case "":
		e = binary.LittleEndian.AppendUint32(e, length)
	case "SQ", "OW", "OB", "UN":
		e = binary.LittleEndian.AppendUint32(append(append(e, vr...), 0, 0), length)
	default:
		e = binary.LittleEndian.AppendUint16(append(e, vr...), uint16(length))
	}
	return append(e, value...)
}

func (e elements) image() elements {
	return e.add(tagRows, "US", 2, 4, 0).add(tagColumns, "US", 2, 3, 0).add(tagBitsAllocated, "US", 2, 16, 0).add(tagPixels, "OW", 24, make([]byte, 24)...)
}

func TestScan(t *testing.T) {
	deep := func(levels int) elements {
		var e elements
		for range levels {
			e = e.add(0x0010_1234, "SQ", undefinedLength).add(tagItem, "", undefinedLength)
		}
		for range levels {
			e = e.add(tagItemEnd, "", 0).add(tagSequenceEnd, "", 0)
		}
		return e
	}
	inside, twice := elements{}.image(), elements{}.add(tagPixels, "OW", 0)
	for name, c := range map[string]struct {
		object elements
		found  int
	}{
		"plain":                       {elements{}.image(), 1},
		"rows as decimal":             {elements{}.add(tagRows, "US", 4, 4, 0, 0, 0).image(), 0},
		"deepest":                     {deep(maxDepth).image(), 1},
		"too deep":                    {deep(maxDepth + 1).image(), 0},
		"sequence by length":          {elements{}.add(0x0010_1234, "SQ", uint32(len(inside)), inside...).image(), 1},
		"pixels in a sequence only":   {elements{}.add(0x0010_1234, "SQ", undefinedLength).add(tagItem, "", uint32(len(inside)), inside...).add(tagSequenceEnd, "", 0), 0},
		"item by length":              {elements{}.add(0x0010_1234, "SQ", undefinedLength).add(tagItem, "", uint32(len(inside)), inside...).add(tagSequenceEnd, "", 0).image(), 1},
		"sequence without end":        {elements{}.add(0x0010_1234, "SQ", undefinedLength).add(tagItem, "", uint32(len(inside)), inside...), 0},
		"something else as an item":   {elements{}.add(0x0010_1234, "SQ", undefinedLength).add(0x0010_0010, "PN", 0).image(), 0},
		"length beyond the end":       {elements{}.add(0x0010_1234, "OB", 1<<20).image(), 0},
		"pixels twice":                {append(elements{}.image(), twice...), 1},
		"descending tags":             {elements{}.add(0x0030_0010, "US", 2, 1, 1).image(), 0},
		"encapsulated":                {elements{}.add(tagRows, "US", 2, 4, 0).add(tagPixels, "OB", undefinedLength).add(tagItem, "", 0).add(tagSequenceEnd, "", 0), 0},
		"no such VR":                  {elements{}.add(0x0010_0010, "ZZ", 0).image(), 0},
		"odd things after the pixels": {append(elements{}.image(), 1, 2, 3, 4, 5, 6, 7, 8, 9), 1},
		"unknown VR, implicit inside": {elements{}.add(0x0011_0010, "UN", undefinedLength).add(tagItem, "", undefinedLength).add(0x0010_0010, "", 2, 65, 65).add(tagItemEnd, "", 0).add(tagSequenceEnd, "", 0).image(), 1},
	} {
		f, err := scan(bytes.NewReader(c.object), int64(len(c.object)), explicitLittle)
		if err != nil || len(f.regions) != c.found {
			t.Errorf("%s: %d regions, error %v, want %d", name, len(f.regions), err, c.found)
			continue
		}
		if c.found > 0 {
			r := f.regions[0]
			if r.rows != 4 || r.cols != 3 || r.bits != 16 || r.comps != 1 || r.size != 24 || int(r.offset) != bytes.LastIndex(bytes.TrimSuffix(c.object, twice), []byte{0xE0, 0x7F, 0x10, 0})+12 {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
}

// TestScanIsBounded feeds objects made to keep a scanner busy.
func TestScanIsBounded(t *testing.T) {
	many := elements{}.add(0x0010_1234, "SQ", undefinedLength).add(tagItem, "", 0)
	for range 2 * maxElements {
		many = many.add(tagItem, "", 0)
	}
	many = many.add(tagSequenceEnd, "", 0).image()
	r := &countingReader{r: bytes.NewReader(many)}
	f, err := scan(r, int64(len(many)), explicitLittle)
	if err != nil || len(f.regions) != 0 {
		t.Errorf("%d regions, error %v", len(f.regions), err)
	}
	if r.n > maxScanned {
		t.Errorf("%d bytes read, at most %d", r.n, maxScanned)
	}
	// Regions without number: waveforms of nothing.
	group := elements{}.add(tagWaveChannels, "US", 2, 1, 0).add(tagWaveBits, "US", 2, 16, 0).add(tagWaveData, "OW", 0)
	var items elements
	for range 4 * maxRegions {
		items = items.add(tagItem, "", uint32(len(group)), group...)
	}
	object := elements{}.add(tagWaveforms, "SQ", uint32(len(items)), items...)
	f, err = scan(bytes.NewReader(object), int64(len(object)), explicitLittle)
	if err != nil || len(f.regions) != maxRegions {
		t.Errorf("%d regions, error %v, at most %d", len(f.regions), err, maxRegions)
	}
}

type countingReader struct {
	r *bytes.Reader
	n int
}

func (c *countingReader) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.r.ReadAt(p, at)
	c.n += n
	return n, err
}
