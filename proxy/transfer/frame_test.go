package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// messages has one of each kind.
func messages() []message {
	it := Item{
		Origin: Origin{ID: "i", SHA256: [32]byte{1}}, Size: 5, Service: "pacs", Attributes: map[string]string{"a": "b", "c": ""}, Priority: 9,
		Created: time.Unix(5, 6).UTC(),
	}
	return []message{
		hello{1, 3, [16]byte{4}, 2, 1, "clinic"},
		welcome{0, 1, 1, 512, "center", []byte{1, 2}},
		offer{7, it},
		want{7, 99},
		refuse{7, reasonFull, "later"},
		chunk{7, 1 << 30, 10, 10, 4, methodRaw, []byte("abc")},
		chunk{7, 0, 100, 10, 9, methodCodec, []byte("z")},
		ack{12},
		signed{kindTaken, 7, []byte("receipt")},
		signed{kindFinal, 0, []byte("receipt")},
		named{kindSettled, "i", [32]byte{1}, Parked},
		named{kindAsk, "i", [32]byte{1}, 0},
		named{kindHeld, "i", [32]byte{1}, 0},
		named{kindUnknown, "i", [32]byte{1}, 0},
		number{kindPing, 1},
		number{kindPong, 1 << 63},
		number{kindAbandon, 7},
		number{kindDecoding, 20_000},
	}
}

func TestMessagesSurvive(t *testing.T) {
	var b []byte
	for _, m := range messages() {
		b = appendFrame(b, m)
	}
	r := newFrameReader(bytes.NewReader(b))
	for _, want := range messages() {
		got, err := r.next()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%T: %+v, %v", want, got, err)
		}
	}
	if _, err := r.next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// No kind may be longer than its limit, none shorter or longer than its fields.
func TestFramesAreBounded(t *testing.T) {
	for _, m := range messages() {
		whole := appendFrame(nil, m)
		if _, isChunk := m.(chunk); !isChunk {
			for _, spoilt := range [][]byte{whole[frameHead : len(whole)-1], append(bytes.Clone(whole[frameHead:]), 0)} {
				if _, err := parse(m.kind(), spoilt); !errors.Is(err, errMalformed) {
					t.Errorf("%T with %d bytes: %v", m, len(spoilt), err)
				}
			}
		}
		long := bytes.Clone(whole)
		copy(long[1:], []byte{0xff, 0xff, 0xff, 0xff})
		if _, err := newFrameReader(io.MultiReader(bytes.NewReader(long), endless{})).next(); !errors.Is(err, errMalformed) {
			t.Errorf("%T of 4 GiB: %v", m, err)
		}
	}
	for _, c := range []chunk{
		{size: 10, coded: 10, at: 8, data: []byte("abc")},
		{size: 10, coded: 9, data: []byte("abc")},
		{size: maxBlock + 1, coded: maxBlock + 1, data: []byte("abc")},
		{size: 10, coded: maxBlock * 2, method: methodCodec, data: []byte("abc")},
		{size: 10, coded: 10, method: 2, data: []byte("abc")},
		{size: 10, coded: 10},
		{offset: MaxItem + 1, size: 10, coded: 10, data: []byte("abc")},
		{size: maxBlock, coded: maxBlock, data: make([]byte, maxChunk+1)},
	} {
		if _, err := parse(kindChunk, c.appendTo(nil)); !errors.Is(err, errMalformed) {
			t.Errorf("chunk of %d at %d in %d of %d: %v", len(c.data), c.at, c.coded, c.size, err)
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// FuzzParse wants that whatever is parsed is written the same way, within its limit.
func FuzzParse(f *testing.F) {
	for _, m := range messages() {
		f.Add(byte(m.kind()), m.appendTo(nil))
	}
	f.Add(byte(kindRefuse), appendText(make([]byte, 9), "no text: \xb0"))
	f.Fuzz(func(t *testing.T, k byte, b []byte) {
		if len(b) > kind(k).limit() {
			return
		}
		m, err := parse(kind(k), b)
		if err != nil {
			return
		}
		again := m.appendTo(nil)
		n, err := parse(kind(k), again)
		if err != nil || !reflect.DeepEqual(m, n) {
			t.Errorf("%+v became %+v: %v", m, n, err)
		}
		if len(again) > kind(k).limit() {
			t.Errorf("%d bytes of kind %d", len(again), k)
		}
	})
}

// FuzzReceipt wants that what is parsed has one canonical form.
func FuzzReceipt(f *testing.F) {
	f.Add([]byte(receiptMark))
	r := Receipt{Kind: Taken, Origin: Origin{Node: "n", ID: "i"}}
	f.Add(append(r.appendBody(nil), make([]byte, 64)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReceipt(b)
		if err != nil {
			return
		}
		if got := r.appendBody(nil); !bytes.Equal(got, b[:len(b)-64]) {
			t.Errorf("%x became %x", b, got)
		}
	})
}

// The set of bytes is that of a map of bytes.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s spans
		have := map[int64]bool{}
		for range rapid.IntRange(0, 40).Draw(t, "pieces") {
			from := rapid.Int64Range(0, 60).Draw(t, "from")
			to := from + rapid.Int64Range(0, 12).Draw(t, "length")
			if !s.add(from, to) {
				t.Fatal("too many")
			}
			for i := from; i < to; i++ {
				have[i] = true
			}
		}
		got := map[int64]bool{}
		mark := func(from, to int64) {
			for i := from; i < to; i++ {
				got[i] = true
			}
		}
		mark(0, s.prefix)
		last := s.prefix
		for _, a := range s.ahead {
			if a[0] <= last || a[1] <= a[0] {
				t.Fatalf("%d and then %v", last, s.ahead)
			}
			last = a[1]
			mark(a[0], a[1])
		}
		if !maps.Equal(got, have) {
			t.Fatalf("%+v for %v", s, have)
		}
	})
}

func TestSpansAreBounded(t *testing.T) {
	var s spans
	for i := range int64(maxAhead) {
		if !s.add(2*i+1, 2*i+2) {
			t.Fatalf("refused after %d", i)
		}
	}
	if s.add(1<<30, 1<<30+1) {
		t.Error("endless pieces")
	}
}

func ExampleKind() {
	fmt.Println(Taken, Accepted, Parked, Kind(9))
	// Output: taken accepted parked kind 9
}
