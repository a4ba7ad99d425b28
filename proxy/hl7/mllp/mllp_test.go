package mllp_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy/hl7/mllp"
)

// naive decodes a complete stream without any state: the model for the Decoder.
func naive(stream []byte, limit int) (frames [][]byte, rest string, err error) {
	junk := 0
	for {
		at := bytes.IndexByte(stream, mllp.StartBlock)
		before := stream
		if at >= 0 {
			before = stream[:at]
		}
		for _, c := range before {
			if !bytes.Contains([]byte("\x00 \t\r\n"), []byte{c}) {
				junk++
			}
		}
		if junk > mllp.MaxJunk {
			return frames, "", mllp.ErrNoStart
		}
		if at < 0 {
			return frames, "outside", nil
		}
		stream = stream[at+1:]
	inside:
		end, undecided := -1, -1
		for i := range stream {
			if stream[i] == mllp.StartBlock {
				head := string(stream[i+1 : min(len(stream), i+4)])
				if head == "MSH" || head == "FHS" || head == "BHS" {
					if i > limit {
						return frames, "", mllp.ErrTooLong
					}
					stream = stream[i+1:]
					goto inside
				}
				if len(head) < 3 && (strings.HasPrefix("MSH", head) || strings.HasPrefix("FHS", head) || strings.HasPrefix("BHS", head)) {
					undecided = i
					break
				}
			}
			if stream[i] == mllp.EndBlock && i+1 < len(stream) && (stream[i+1] == mllp.CarriageReturn || stream[i+1] == mllp.StartBlock) {
				end = i
				break
			}
		}
		if undecided >= 0 {
			if undecided > limit {
				return frames, "", mllp.ErrTooLong
			}
			return frames, "inside", nil
		}
		if end < 0 {
			switch content, loose := bytes.CutSuffix(stream, []byte{mllp.EndBlock}); {
			case len(content) > limit:
				return frames, "", mllp.ErrTooLong
			case loose:
				return frames, "loose", nil
			}
			return frames, "inside", nil
		}
		if end > limit {
			return frames, "", mllp.ErrTooLong
		}
		frames = append(frames, stream[:end])
		junk = 0
		if stream[end+1] == mllp.CarriageReturn {
			end++
		}
		stream = stream[end+1:]
	}
}

func state(d *mllp.Decoder) string {
	switch {
	case d.Loose():
		return "loose"
	case d.Inside():
		return "inside"
	default:
		return "outside"
	}
}

func decode(d *mllp.Decoder, pieces [][]byte) (frames [][]byte, rest string, err error) {
	for _, p := range pieces {
		d.Feed(p)
		clear(p) // the Decoder must have its own copy
		for {
			frame, ok, err := d.Next()
			if err != nil {
				return frames, "", err
			}
			if !ok {
				break
			}
			frames = append(frames, frame)
		}
	}
	return frames, state(d), nil
}

func split(stream []byte, cuts []int) (pieces [][]byte) {
	last := 0
	slices.Sort(cuts)
	for _, c := range append(cuts, len(stream)) {
		if c = min(c, len(stream)); c > last {
			pieces = append(pieces, slices.Clone(stream[last:c]))
			last = c
		}
	}
	return pieces
}

func TestAnySplitGivesTheSameFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alphabet := []byte{mllp.StartBlock, mllp.EndBlock, mllp.CarriageReturn, '\n', 'M', 'S', 'H', '|', 0, 0xff}
		stream := rapid.SliceOfN(rapid.SampledFrom(alphabet), 0, 200).Draw(t, "stream")
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		cuts := rapid.SliceOfN(rapid.IntRange(0, 200), 0, 20).Draw(t, "cuts")
		check(t, stream, limit, cuts)
	})
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func check(t failer, stream []byte, limit int, cuts []int) {
	t.Helper()
	want, wantRest, wantErr := naive(stream, limit)
	got, rest, err := decode(mllp.NewDecoder(limit), split(stream, cuts))
	if !errors.Is(err, wantErr) || rest != wantRest {
		t.Fatalf("state %q, error %v; want %q, %v", rest, err, wantRest, wantErr)
	}
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("frames %q, want %q", got, want)
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte("\x0bMSH|^~\\&|A\r\x1c\r\x0bMSH|^~\\&|B\r\x1c\r"), 100, 3, 17)
	f.Add([]byte("junk\x0bMSH\x1c\x0bMSH\x1c"), 100, 1, 2)
	f.Add([]byte("\x0b\x1c\x1c\x1c\r\n"), 1, 0, 0)
	f.Add([]byte("\x0bMSH|cut of\x0bMSH|whole\x1c\r\x0bM\x0bMS\x0bFHS\x1c"), 100, 12, 13)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 8, 5, 5)
	f.Add([]byte("\x0b0123456789\x1c\r"), 9, 11, 12)
	f.Fuzz(func(t *testing.T, stream []byte, limit, a, b int) {
		if limit < 1 || limit > 1<<16 || a < 0 || b < 0 {
			return
		}
		check(t, stream, limit, []int{a, b})
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alphabet := []byte{mllp.StartBlock, mllp.EndBlock, mllp.CarriageReturn, 'M', 'S', 'H', '|', 0xe4}
		messages := rapid.SliceOfN(rapid.SliceOfN(rapid.SampledFrom(alphabet), 0, 30), 0, 8).Draw(t, "messages")
		var stream []byte
		var want [][]byte
		for _, m := range messages {
			framed, err := mllp.Append(stream, m)
			ambiguous := bytes.Contains(m, []byte("\x1c\r")) || bytes.Contains(m, []byte("\x1c\x0b")) || bytes.Contains(m, []byte("\x0bMSH"))
			if (err != nil) != ambiguous {
				t.Fatalf("Append(%q): %v", m, err)
			}
			if err == nil {
				stream, want = framed, append(want, m)
			}
		}
		got, rest, err := decode(mllp.NewDecoder(0), [][]byte{stream})
		if err != nil || rest != "outside" || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("got %q, %q, %v; want %q", got, rest, err, want)
		}
	})
}

func TestLooseEnd(t *testing.T) {
	d := mllp.NewDecoder(0)
	if _, ok := d.End(); ok {
		t.Fatal("End of nothing")
	}
	d.Feed([]byte("\x0bMSH|one\x1c"))
	if _, ok, _ := d.Next(); ok || !d.Loose() {
		t.Fatalf("a lone end block must be loose, not an end (ok %v)", ok)
	}
	// More content: it was none.
	d.Feed([]byte("more\x1c"))
	if _, ok, _ := d.Next(); ok || !d.Loose() {
		t.Fatal("the second end block must be loose")
	}
	frame, ok := d.End()
	if !ok || string(frame) != "MSH|one\x1cmore" {
		t.Fatalf("End: %q, %v", frame, ok)
	}
	// A late carriage return does no harm.
	d.Feed([]byte("\r\x0bMSH|two\x1c\r"))
	if frame, ok, err := d.Next(); !ok || err != nil || string(frame) != "MSH|two" {
		t.Fatalf("Next: %q, %v, %v", frame, ok, err)
	}
}

func TestKeepAlivesAreNoJunk(t *testing.T) {
	d := mllp.NewDecoder(0)
	for range 100 {
		d.Feed(bytes.Repeat([]byte("\r\n"), mllp.MaxJunk))
		if _, ok, err := d.Next(); ok || err != nil {
			t.Fatalf("Next: %v, %v", ok, err)
		}
	}
	d.Feed(bytes.Repeat([]byte("x"), mllp.MaxJunk+1))
	for range 2 {
		if _, _, err := d.Next(); !errors.Is(err, mllp.ErrNoStart) {
			t.Fatalf("error %v, want ErrNoStart", err)
		}
	}
}

func TestFramesStayIntact(t *testing.T) {
	d := mllp.NewDecoder(0)
	d.Feed([]byte("\x0bfirst\x1c\r\x0bsec"))
	first, _, _ := d.Next()
	_ = append(first, "XXXXXXXXXX"...) // must not reach into the second frame
	d.Feed([]byte("ond\x1c\r"))
	second, ok, _ := d.Next()
	if !ok || string(first) != "first" || string(second) != "second" {
		t.Fatalf("%q, %q", first, second)
	}
}

func BenchmarkDecoder(b *testing.B) {
	frame, err := mllp.Append(nil, bytes.Repeat([]byte("OBX|1|ED|PDF||abcdefghijklmnopqrstuvwxyz\r"), 256))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(frame)))
	d := mllp.NewDecoder(0)
	for b.Loop() {
		d.Feed(frame)
		if _, ok, _ := d.Next(); !ok {
			b.Fatal("no frame")
		}
	}
}
