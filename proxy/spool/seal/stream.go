package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	// Segment is how much plain text is sealed at a time, in bytes.
	Segment  = 64 << 10
	overhead = 16 // the tag of AES-GCM

	nonceSize    = 12
	maxSegments  = math.MaxUint32
	segmentWhole = Segment + overhead
)

// What the last byte of a nonce says.
const (
	middle      = 0
	last        = 1
	description = 2
)

// A nonce is seven zeros, the number of the segment, big-endian, and what it is: each key seals one item only.
func nonce(number uint32, kind byte) []byte {
	n := make([]byte, nonceSize)
	binary.BigEndian.PutUint32(n[nonceSize-5:], number)
	n[nonceSize-1] = kind
	return n
}

// SealedSize is what a payload of n bytes becomes. Also an empty one has a segment.
func SealedSize(n int64) int64 { return n + segments(n)*overhead }

func segments(n int64) int64 { return max((n+Segment-1)/Segment, 1) }

// SealDescription seals a short text with what is beside it in the clear, which it makes unchangeable.
func (c Item) SealDescription(text, beside []byte) []byte {
	return c.aead.Seal(nil, nonce(0, description), text, beside)
}

// OpenDescription is the reverse of SealDescription, or ErrOpen.
func (c Item) OpenDescription(sealed, beside []byte) ([]byte, error) {
	text, err := c.aead.Open(nil, nonce(0, description), sealed, beside)
	if err != nil {
		return nil, ErrOpen
	}
	return text, nil
}

// DescriptionOverhead is how much longer a description is sealed, in bytes.
const DescriptionOverhead = overhead

// Writer seals a payload. It holds one segment.
type Writer struct {
	to     io.Writer
	item   Item
	buf    []byte // plain, with room for the tag
	number int64
}

// Reset makes w seal another payload.
func (w *Writer) Reset(to io.Writer, item Item) {
	if w.buf == nil {
		w.buf = make([]byte, 0, segmentWhole)
	}
	w.to, w.item, w.buf, w.number = to, item, w.buf[:0], 0
}

// Write takes plain text. After an error the payload is lost.
func (w *Writer) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		if len(w.buf) == Segment { // there is more, so this is not the last one
			if err := w.flush(middle); err != nil {
				return n, err
			}
		}
		k := min(Segment-len(w.buf), len(p))
		w.buf = append(w.buf, p[:k]...)
		p = p[k:]
		n += k
	}
	return n, nil
}

// Finish seals the rest.
func (w *Writer) Finish() error { return w.flush(last) }

func (w *Writer) flush(kind byte) error {
	if w.number > maxSegments {
		return fmt.Errorf("a payload has more than %d segments", int64(maxSegments)+1)
	}
	sealed := w.item.aead.Seal(w.buf[:0], nonce(uint32(w.number), kind), w.buf, nil)
	w.number++
	w.buf = w.buf[:0]
	if _, err := w.to.Write(sealed); err != nil {
		return fmt.Errorf("write a sealed segment: %w", err)
	}
	return nil
}

// Reader opens a payload.
type Reader struct {
	from   io.ReaderAt
	at     int64 // where the payload begins
	size   int64 // of the plain text
	item   Item
	buf    []byte
	plain  []byte // of buf: what is to be read yet
	number int64
}

// NewReader reads a payload of that many plain bytes that lies sealed in from at an offset.
func NewReader(from io.ReaderAt, at, size int64, item Item) *Reader {
	return &Reader{from: from, at: at, size: size, item: item}
}

// Read returns plain text that was authenticated; ErrOpen when it cannot be.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 {
		if r.number >= segments(r.size) {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// next opens the next segment.
func (r *Reader) next() error {
	kind, size := byte(middle), int64(Segment)
	if r.number == segments(r.size)-1 {
		kind, size = last, r.size-r.number*Segment
	}
	if r.buf == nil {
		r.buf = make([]byte, min(r.size, Segment)+overhead)
	}
	sealed := r.buf[:size+overhead]
	switch n, err := r.from.ReadAt(sealed, r.at+r.number*segmentWhole); {
	case n == len(sealed):
	case errors.Is(err, io.EOF):
		return ErrOpen
	default:
		return fmt.Errorf("read a sealed segment: %w", err)
	}
	plain, err := r.item.aead.Open(sealed[:0], nonce(uint32(r.number), kind), sealed, nil)
	if err != nil {
		return ErrOpen
	}
	r.plain = plain
	r.number++
	return nil
}
