package codec

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// seeds are objects of each kind and their encodings.
func seeds() (objects, encoded [][]byte) {
	row := func(n, step int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i*step/7 ^ i>>5)
		}
		return b
	}
	var color, wave elements
	color = color.add(tagSamplesPerPixel, "US", 2, 3, 0).add(tagPlanar, "US", 2, 0, 0).add(tagRows, "US", 2, 9, 0).add(tagColumns, "US", 2, 8, 0).
		add(tagBitsAllocated, "US", 2, 8, 0).add(tagPixels, "OB", 216, row(216, 3)...)
	group := elements{}.add(tagWaveChannels, "US", 2, 2, 0).add(tagWaveBits, "US", 2, 16, 0).add(tagWaveData, "OW", 80, row(80, 5)...)
	wave = wave.add(tagWaveforms, "SQ", undefinedLength).add(tagItem, "", uint32(len(group)), group...).add(tagSequenceEnd, "", 0)
	wide := elements{}.add(tagRows, "US", 2, 3, 0).add(tagColumns, "US", 2, 3, 0).add(tagBitsAllocated, "US", 2, 32, 0).add(tagPixels, "OW", 36, row(36, 1)...)
	objects = [][]byte{nil, {1}, elements{}.image(), color, wave, wide, append(make([]byte, 128), "DICM"...), row(3000, 9)}
	c := New(1)
	for _, o := range objects {
		var b bytes.Buffer
		if _, err := c.Encode(&b, bytes.NewReader(o), int64(len(o)), Hints{TransferSyntax: explicitLittle}); err == nil {
			encoded = append(encoded, b.Bytes())
		}
	}
	return objects, encoded
}

// formerly are small objects that version 1 has written.
func formerly(f *testing.F) (encoded [][]byte) {
	f.Helper()
	for _, name := range []string{"gray8", "color", "planar", "median", "linear", "sparse", "waveform"} {
		b, err := os.ReadFile(filepath.Join("testdata", "v1", name+".twpc"))
		if err != nil {
			f.Fatal(err)
		}
		encoded = append(encoded, b)
	}
	return encoded
}

// FuzzDecode: the decoder neither panics nor writes more than announced.
func FuzzDecode(f *testing.F) {
	_, encoded := seeds()
	for _, b := range encoded {
		f.Add(b)
	}
	c := New(1)
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		h, err := c.Decode(&out, bytes.NewReader(b), 1<<22)
		if int64(out.Len()) > h.Size || err == nil && int64(out.Len()) != h.Size {
			t.Fatalf("%d bytes, announced %d, error %v", out.Len(), h.Size, err)
		}
	})
}

// FuzzBlock: a payload of any method without the checksum in the way.
func FuzzBlock(f *testing.F) {
	_, encoded := seeds()
	for _, b := range append(encoded, formerly(f)...) {
		for b = b[HeaderSize:]; len(b) > 0; {
			h, err := ParseBlockHeader(b)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(h.method), h.Size, b[BlockHeaderSize:][:h.Payload])
			b = b[BlockHeaderSize+h.Payload:]
		}
	}
	// Small samples are not worth predicting, so they are predicted by hand.
	w, err := newWorker()
	if err != nil {
		f.Fatal(err)
	}
	raw := make([]byte, 2*3*48*40)
	for i := range raw {
		raw[i] = byte(i * i >> 9)
	}
	for _, s := range []shape{
		{width: 48, rows: 40, comps: 3, bytes: 2},
		{width: 48, rows: 240, comps: 1, bytes: 1},
		{width: 240, rows: 24, comps: 1, bytes: 2, transposed: true},
		{width: 40, rows: 48, comps: 3, bytes: 1, planar: true},
	} {
		p := w.choose(raw, s)
		p.fitted[0] = predictor{kind: linearKind, w: [directions]linear{{500, -100, 300, 10, 20}}, hi: 1 << 15}
		f.Add(byte(braided), len(raw), w.appendBraided(nil, raw, p))
		if s.transposed {
			f.Add(byte(curves), len(raw), w.appendCurves(nil, raw, &p.view))
		}
	}
	c := New(1)
	f.Fuzz(func(t *testing.T, m byte, size int, payload []byte) {
		if size < 1 || size > 1<<18 || len(payload) < 1 || len(payload) > size || m >= methods {
			return
		}
		w, err := c.acquire()
		if err != nil {
			t.Fatal(err)
		}
		defer c.release(w)
		h := BlockHeader{method: method(m), Size: size, Payload: len(payload)}
		out, err := w.decode([]byte("x"), h, payload)
		if err == nil && len(out) != 1+size || len(out) > 1+size {
			t.Fatalf("%d bytes, announced %d, error %v", len(out)-1, size, err)
		}
	})
}

// FuzzScan: whatever the scanner finds lies inside the object, and blocks made of it cover it.
func FuzzScan(f *testing.F) {
	objects, _ := seeds()
	for _, o := range objects {
		for _, s := range []string{"", implicitLittle, explicitLittle, explicitBig} {
			f.Add(o, s)
		}
	}
	f.Fuzz(func(t *testing.T, object []byte, syntax string) {
		found, err := scan(bytes.NewReader(object), int64(len(object)), syntax)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range found.regions {
			if r.offset < 0 || r.size < 0 || r.offset+r.size > int64(len(object)) {
				t.Fatalf("region %+v of %d bytes", r, len(object))
			}
		}
		checkParts(t, divide(int64(len(object)), found), int64(len(object)))
	})
}

// FuzzRoundTrip: encoding and decoding is the identity.
func FuzzRoundTrip(f *testing.F) {
	objects, _ := seeds()
	for _, o := range objects {
		f.Add(o, explicitLittle)
	}
	c := New(1)
	f.Fuzz(func(t *testing.T, object []byte, syntax string) {
		var encoded, back bytes.Buffer
		s, err := c.Encode(&encoded, bytes.NewReader(object), int64(len(object)), Hints{TransferSyntax: syntax})
		if err != nil {
			t.Fatal(err)
		}
		if s.Encoded != int64(encoded.Len()) {
			t.Fatalf("%d bytes, said %d", encoded.Len(), s.Encoded)
		}
		if _, err := c.Decode(&back, &encoded, int64(len(object))); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Bytes(), object) {
			t.Fatal("other bytes")
		}
	})
}
