package codec

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// TestBraided: blocks of one and of two strands decode to their originals, whatever their shape and whatever is in them.
func TestBraided(t *testing.T) {
	w, err := newWorker()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ width, rows, want int }{{300, 120, strands}, {300, 15, 1}, {20, 100, 1}} {
		if got := strandsFor(&view{shape: shape{width: c.width, rows: c.rows, comps: 1, bytes: 2}}, c.rows); got != c.want {
			t.Errorf("%d x %d samples in %d strands, want %d", c.width, c.rows, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := shape{
			width: rapid.IntRange(1, 300).Draw(t, "width"), comps: rapid.SampledFrom([]int{1, 1, 3}).Draw(t, "comps"),
			bytes: rapid.IntRange(1, 2).Draw(t, "bytes"), planar: rapid.Bool().Draw(t, "planar"), rows: rapid.IntRange(1, 120).Draw(t, "rows"),
		}
		frames := rapid.SampledFrom([]int{1, 1, 2, 3, 7}).Draw(t, "frames")
		noise := rapid.SampledFrom([]int{1, 2, 40, 256}).Draw(t, "noise")
		source := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		raw := make([]byte, frames*s.frame())
		for i := range raw {
			raw[i] = byte(i/s.bytes/3 + source.IntN(noise))
		}
		p := w.choose(raw, s)
		if rapid.Bool().Draw(t, "weights") {
			for comp := range s.comps {
				p.fitted[comp] = predictor{kind: linearKind, w: [directions]linear{{maxWeight, -maxWeight, maxWeight, -maxWeight, maxWeight}}, hi: 1 << 15}
			}
		}
		coded := w.appendBraided([]byte("x"), raw, p)
		back, err := w.appendUnbraided([]byte("y"), coded[1:], len(raw))
		if err != nil || !bytes.Equal(back[1:], raw) {
			t.Fatalf("%d bytes in %d do not decode: %v", len(raw), len(coded), err)
		}
	})
}

// TestMiddle: the median edge detector without branches is that of the standard.
func TestMiddle(t *testing.T) {
	for a := int32(-3); a <= 3; a++ {
		for b := int32(-3); b <= 3; b++ {
			for c := int32(-9); c <= 9; c++ {
				want := a + b - c
				switch {
				case c >= max(a, b):
					want = min(a, b)
				case c <= min(a, b):
					want = max(a, b)
				}
				if got := middle(a, b, c); got != want {
					t.Errorf("middle(%d, %d, %d) = %d, want %d", a, b, c, got, want)
				}
			}
		}
	}
	for along := range int32(20) {
		for across := range int32(20) {
			want := 0
			if along > 2*across {
				want = 2
			} else if across > 2*along {
				want = 1
			}
			if got := direction(along, across); got != want {
				t.Errorf("direction(%d, %d) = %d, want %d", along, across, got, want)
			}
		}
	}
}
