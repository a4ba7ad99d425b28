package pdu_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/dicom/pdu"
)

// pdv is one fragment for a test.
type pdv struct {
	pdu.PDV
	payload []byte
}

// dataPDU encodes fragments as one P-DATA-TF.
func dataPDU(fragments ...pdv) []byte {
	var body []byte
	for _, v := range fragments {
		body = binary.BigEndian.AppendUint32(body, uint32(len(v.payload)+2))
		control := byte(0)
		if v.Command {
			control |= 1
		}
		if v.Last {
			control |= 2
		}
		body = append(append(body, v.ContextID, control), v.payload...)
	}
	return append(pdu.Header{Type: pdu.TypeData, Length: uint32(len(body))}.Append(nil), body...)
}

// TestReaderStreams compares what a Reader hands out, by Read and by WriteTo and over connections that deliver in odd pieces,
// with the fragments that went in.
func TestReaderStreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want []pdv
		var stream []byte
		for range rapid.IntRange(1, 5).Draw(t, "pdus") {
			var fragments []pdv
			for range rapid.IntRange(1, 4).Draw(t, "pdvs") {
				payload := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload")
				fragments = append(fragments, pdv{payload: payload, PDV: pdu.PDV{
					ContextID: rapid.Uint8().Draw(t, "id"), Command: rapid.Bool().Draw(t, "command"), Last: rapid.Bool().Draw(t, "last"),
					Length: uint32(len(payload)),
				}})
			}
			stream = append(stream, dataPDU(fragments...)...)
			want = append(want, fragments...)
		}
		var src io.Reader = bytes.NewReader(stream)
		if rapid.Bool().Draw(t, "piecemeal") {
			src = iotest.OneByteReader(src)
		}
		r := pdu.NewReader(src, pdu.Limits{})
		for i, w := range want {
			v, err := r.NextPDV()
			for errors.Is(err, io.EOF) {
				if _, err := r.Next(); err != nil {
					t.Fatal(err)
				}
				v, err = r.NextPDV()
			}
			if err != nil || v != w.PDV {
				t.Fatalf("fragment %d is %+v, %v instead of %+v", i, v, err, w.PDV)
			}
			var got bytes.Buffer
			if rapid.Bool().Draw(t, "WriteTo") {
				_, err = r.WriteTo(&got)
			} else {
				_, err = io.Copy(&got, struct{ io.Reader }{r})
			}
			if err != nil || !bytes.Equal(got.Bytes(), w.payload) {
				t.Fatalf("fragment %d: payload differs (%v)", i, err)
			}
		}
		if _, err := r.NextPDV(); !errors.Is(err, io.EOF) {
			t.Fatalf("%v after the last fragment", err)
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("%v after the last PDU", err)
		}
	})
}

func TestReaderRefusesLengths(t *testing.T) {
	for _, tc := range []struct {
		name   string
		head   pdu.Header
		reason pdu.Reason
	}{
		{"request of 4 GiB", pdu.Header{Type: pdu.TypeAssociateRQ, Length: 0xFFFFFFFF}, pdu.ReasonInvalidParameter},
		{"request too short", pdu.Header{Type: pdu.TypeAssociateRQ, Length: 67}, pdu.ReasonInvalidParameter},
		{"accept too long", pdu.Header{Type: pdu.TypeAssociateAC, Length: pdu.DefaultMaxAssociate + 1}, pdu.ReasonInvalidParameter},
		{"data of 4 GiB", pdu.Header{Type: pdu.TypeData, Length: 0xFFFFFFFF}, pdu.ReasonInvalidParameter},
		{"data beyond what we announce", pdu.Header{Type: pdu.TypeData, Length: pdu.DefaultMaxData + 7}, pdu.ReasonInvalidParameter},
		{"data without a PDV", pdu.Header{Type: pdu.TypeData, Length: 0}, pdu.ReasonInvalidParameter},
		{"long abort", pdu.Header{Type: pdu.TypeAbort, Length: 5}, pdu.ReasonInvalidParameter},
		{"short release", pdu.Header{Type: pdu.TypeReleaseRQ, Length: 0}, pdu.ReasonInvalidParameter},
		{"type 0", pdu.Header{Type: 0, Length: 4}, pdu.ReasonUnrecognizedPDU},
		{"type 8", pdu.Header{Type: 8, Length: 4}, pdu.ReasonUnrecognizedPDU},
		{"HTTP", pdu.DecodeHeader([6]byte([]byte("GET / "))), pdu.ReasonUnrecognizedPDU},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := pdu.NewReader(bytes.NewReader(tc.head.Append(nil)), pdu.Limits{})
			_, err := r.Next()
			bad, ok := errors.AsType[*pdu.Error](err)
			if !ok || bad.Reason != tc.reason {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestWholeGrowsWithWhatArrives announces a large PDU and sends little of it, many times over.
func TestWholeGrowsWithWhatArrives(t *testing.T) {
	stream := append(pdu.Header{Type: pdu.TypeAssociateRQ, Length: pdu.DefaultMaxAssociate}.Append(nil), make([]byte, 100)...)
	readers := make([]*pdu.Reader, 20)
	for i := range readers {
		readers[i] = pdu.NewReader(bytes.NewReader(stream), pdu.Limits{})
		if _, err := readers[i].Next(); err != nil {
			t.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, r := range readers {
		if _, err := r.Whole(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("got %v", err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / uint64(len(readers)); each > 8<<10 {
		t.Errorf("%d bytes allocated for 100 bytes that arrived", each)
	}
}

func TestReaderRefusesWrongPDVs(t *testing.T) {
	for name, body := range map[string][]byte{
		"longer than its PDU":         {0, 0, 0, 9, 1, 0, 'x', 'x'},
		"shorter than its own header": {0, 0, 0, 1, 1, 0, 'x', 'x'},
		"length of 4 GiB":             {0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 'x', 'x'},
	} {
		r := pdu.NewReader(bytes.NewReader(append(pdu.Header{Type: pdu.TypeData, Length: 8}.Append(nil), body...)), pdu.Limits{})
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.NextPDV(); !errors.As(err, new(*pdu.Error)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	stray := append(dataPDU(pdv{payload: []byte("ab"), PDV: pdu.PDV{ContextID: 1}}), 0, 0)
	stray[5] += 2
	r := pdu.NewReader(bytes.NewReader(stray), pdu.Limits{})
	_, _ = r.Next()
	if _, err := r.NextPDV(); err != nil {
		t.Fatal(err)
	}
	if err := r.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.NextPDV(); !errors.As(err, new(*pdu.Error)) {
		t.Errorf("stray bytes: got %v", err)
	}
}

func TestReaderInsistsOnReadingToTheEnd(t *testing.T) {
	b := dataPDU(pdv{payload: []byte("abcd"), PDV: pdu.PDV{ContextID: 1}})
	r := pdu.NewReader(bytes.NewReader(append(b, b...)), pdu.Limits{})
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err == nil {
		t.Error("the next PDU is read before this one has ended")
	}
	if _, err := r.Whole(); err == nil {
		t.Error("P-DATA-TF is read whole")
	}
	if _, err := r.NextPDV(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.NextPDV(); err == nil {
		t.Error("the next fragment is read before this one has ended")
	}
}

func TestWriteToTellsWhoseErrorItIs(t *testing.T) {
	b := dataPDU(pdv{payload: []byte("abcd"), PDV: pdu.PDV{ContextID: 1}})
	open := func(b []byte) *pdu.Reader {
		r := pdu.NewReader(bytes.NewReader(b), pdu.Limits{})
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.NextPDV(); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if _, err := open(b[:len(b)-1]).WriteTo(io.Discard); !errors.As(err, new(*pdu.ReadError)) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off stream: %v", err)
	}
	full := errors.New("disk full")
	r, w := io.Pipe()
	_ = r.CloseWithError(full)
	if _, err := open(b).WriteTo(w); !errors.Is(err, full) || errors.As(err, new(*pdu.ReadError)) {
		t.Errorf("full disk: %v", err)
	}
}

func TestMaxFragment(t *testing.T) {
	for _, tc := range []struct {
		peer, own uint32
		want      int
	}{
		{16384, 131072, 16378}, {0, 131072, 131066}, {16385, 131072, 16378}, {131072, 16384, 16378}, {8, 100, 2}, {7, 100, 2}, {1, 100, 2},
	} {
		if got := pdu.MaxFragment(tc.peer, tc.own); got != tc.want {
			t.Errorf("MaxFragment(%d, %d) is %d instead of %d", tc.peer, tc.own, got, tc.want)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(dataPDU(pdv{payload: []byte("ab"), PDV: pdu.PDV{ContextID: 1, Last: true}}))
	f.Add(append(pdu.EncodeReleaseRQ(), pdu.EncodeReleaseRP()...))
	f.Add(build(f, 1, 1, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := pdu.NewReader(bytes.NewReader(b), pdu.Limits{})
		var taken int
		for {
			h, err := r.Next()
			if err != nil {
				return
			}
			taken += pdu.HeaderSize + int(h.Length)
			if h.Type != pdu.TypeData {
				whole, err := r.Whole()
				if err != nil {
					return
				}
				if len(whole) != pdu.HeaderSize+int(h.Length) {
					t.Fatalf("a PDU of %d bytes has %d", h.Length, len(whole))
				}
				continue
			}
			for {
				v, err := r.NextPDV()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return
				}
				n, err := r.WriteTo(io.Discard)
				if err != nil {
					return
				}
				if n != int64(v.Length) {
					t.Fatalf("a fragment of %d bytes has %d", v.Length, n)
				}
			}
			if taken > len(b) {
				t.Fatalf("%d bytes read of %d", taken, len(b))
			}
		}
	})
}
