package codec

import (
	"fmt"

	"github.com/klauspost/compress/fse"
	"github.com/klauspost/compress/huff0"
	"github.com/klauspost/compress/zstd"
)

// worker codes one block at a time. It keeps its memory from block to block.
type worker struct {
	zip   *zstd.Encoder
	unzip *zstd.Decoder
	huff  huff0.Scratch
	tree  *huff0.Scratch // of the decoder
	fse   fse.Scratch
	unfse fse.Scratch

	raw, check []byte // bytes of blocks
	try, out   []byte // attempts

	lanes          [strands * maxComps]lane
	ref, row, errs []int32
	greens         [strands][]int32
	ahead          [strands][]outlook
	seen           []byte
	levels, ranks  []uint16

	finds    []finding // of all samples, in their order
	byMood   []int16   // errors by context
	sorted   []byte    // tokens by context
	rest     []byte    // the bits that follow tokens
	counts   []uint32
	classify [classified]uint16 // token | rest << 8 of small folded errors
	scale    scale
	moods    moods
}

// classified is how many folded errors have a table entry.
const classified = 4096

func newWorker() (*worker, error) {
	w := &worker{}
	var err error
	w.zip, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(blockTarget),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("make a zstd encoder: %w", err)
	}
	w.unzip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBlock), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("make a zstd decoder: %w", err)
	}
	w.huff.Reuse = huff0.ReusePolicyNone
	return w, nil
}

// use sets the tables for a scale.
func (w *worker) use(s scale) {
	if w.scale == s {
		return
	}
	w.scale = s
	for u := range w.classify {
		token, rest := s.token(uint32(u))
		w.classify[u] = uint16(token | rest<<8)
	}
}

// encode returns a block with its header, appended to dst. raw are its original bytes.
func (w *worker) encode(dst, raw []byte, p part) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, BlockHeaderSize)...)
	m, dst := w.payload(dst, raw, p)
	if n := len(dst) - at - BlockHeaderSize; m == stored || n >= len(raw) || n == 0 {
		m, dst = stored, append(dst[:at+BlockHeaderSize], raw...)
	}
	BlockHeader{method: m, checksum: checksum(raw), Size: len(raw), Payload: len(dst) - at - BlockHeaderSize}.put(dst[at:])
	return dst
}

// payload appends the shortest payload that it finds.
func (w *worker) payload(dst, raw []byte, p part) (method, []byte) {
	switch p.kind {
	case finished:
		return stored, dst
	case numbers:
		return w.appendNumbers(dst, raw, p.shape.bytes)
	case samples:
		return w.appendSamples(dst, raw, p.shape)
	default:
		return zipped, w.zip.EncodeAll(raw, dst)
	}
}

// Which of zstd and prediction is better is found on a sample of a block. Where it is not clear, both are done.
const (
	trialPart = 40      // of a block is the sample
	trialMin  = 8 << 10 // bytes
)

// appendSamples codes samples by prediction or zstd, whichever is shorter.
func (w *worker) appendSamples(dst, raw []byte, s shape) (method, []byte) {
	at := len(dst)
	p := w.choose(raw, s)
	if s.transposed {
		return w.appendWaveform(dst, raw, p)
	}
	predict, zip := w.promising(raw, p)
	if predict {
		dst = w.appendBraided(dst, raw, p)
		if !zip {
			return braided, dst
		}
	}
	w.try = w.zip.EncodeAll(raw, w.try[:0])
	if predict && len(dst)-at <= len(w.try) {
		return braided, dst
	}
	return zipped, append(dst[:at], w.try...)
}

// appendWaveform codes a waveform as an image or as curves, whichever is shorter.
func (w *worker) appendWaveform(dst, raw []byte, p *plan) (method, []byte) {
	at := len(dst)
	dst = w.appendBraided(dst, raw, p)
	w.try = w.appendCurves(w.try[:0], raw, &p.view)
	if len(w.try) < len(dst)-at {
		return curves, append(dst[:at], w.try...)
	}
	return braided, dst
}

// promising says what is worth trying on a block.
func (w *worker) promising(raw []byte, p *plan) (predict, zip bool) {
	part, s := sample(raw, p.shape)
	if part == nil {
		return true, true
	}
	w.try = w.zip.EncodeAll(part, w.try[:0])
	z := len(w.try)
	trial := *p
	trial.shape = s
	w.try = w.appendBraided(w.try[:0], part, &trial)
	return len(w.try) < z+z/4, z < len(w.try)+len(w.try)/4
}

// sample returns rows from the middle of a block, nil if the block is too small for it.
func sample(raw []byte, s shape) ([]byte, shape) {
	want := max(len(raw)/trialPart, trialMin)
	if want > len(raw)/2 || s.planar {
		return nil, s
	}
	line := s.width * s.comps * s.bytes
	rows := max(4, want/line)
	if rows <= s.rows {
		from := (s.rows - rows) / 2
		middle := len(raw) / s.frame() / 2 * s.frame()
		s.rows = rows
		return raw[middle+from*line:][:rows*line], s
	}
	frames := want / s.frame()
	if frames == 0 || frames*2 > len(raw)/s.frame() {
		return nil, s
	}
	return raw[len(raw)/s.frame()/2*s.frame():][:frames*s.frame()], s
}

// appendNumbers codes wide numbers by zstd, as they are or first the lowest byte of all, then the next, and so on.
func (w *worker) appendNumbers(dst, raw []byte, width int) (method, []byte) {
	at := len(dst)
	w.try = grow(w.try, len(raw))
	n := len(raw) / width
	for i := range width {
		plane := w.try[i*n:][:n]
		for j := range plane {
			plane[j] = raw[j*width+i]
		}
	}
	dst = w.zip.EncodeAll(w.try, append(dst, byte(width)))
	w.out = w.zip.EncodeAll(raw, w.out[:0])
	if len(w.out) < len(dst)-at {
		return zipped, append(dst[:at], w.out...)
	}
	return shuffled, dst
}

// decode appends the original of a block to dst.
func (w *worker) decode(dst []byte, h BlockHeader, payload []byte) ([]byte, error) {
	at := len(dst)
	var err error
	switch h.method {
	case stored:
		dst = append(dst, payload...)
	case zipped:
		if dst, err = w.inflate(dst, payload, h.Size); err != nil {
			return dst[:at], err
		}
	case shuffled:
		if dst, err = w.appendUnshuffled(dst, payload, h.Size); err != nil {
			return dst[:at], err
		}
	case curves:
		if dst, err = w.appendUncurved(dst, payload, h.Size); err != nil {
			return dst[:at], err
		}
	case braided:
		if dst, err = w.appendUnbraided(dst, payload, h.Size); err != nil {
			return dst[:at], err
		}
	case predicted:
		if dst, err = w.appendUnpredicted(dst, payload, h.Size); err != nil {
			return dst[:at], err
		}
	}
	if len(dst)-at != h.Size || checksum(dst[at:]) != h.checksum {
		return dst[:at], fmt.Errorf("%w: block checksum", ErrCorrupt)
	}
	return dst, nil
}

// inflate appends exactly size bytes that zstd made smaller.
func (w *worker) inflate(dst, payload []byte, size int) ([]byte, error) {
	at := len(dst)
	dst = reserve(dst, size)
	out, err := w.unzip.DecodeAll(payload, dst[at:at:at+size])
	if err != nil || len(out) != size {
		return dst[:at], fmt.Errorf("%w: zstd block", ErrCorrupt)
	}
	return dst[:at+size], nil
}

func (w *worker) appendUnshuffled(dst, payload []byte, size int) ([]byte, error) {
	width := int(payload[0])
	if width != 4 && width != 8 || size%width != 0 {
		return dst, fmt.Errorf("%w: numbers of %d bytes", ErrCorrupt, width)
	}
	planes, err := w.inflate(w.try[:0], payload[1:], size)
	if err != nil {
		return dst, err
	}
	w.try = planes
	at := len(dst)
	dst = reserve(dst, size)[:at+size]
	n := size / width
	for i := range width {
		plane := planes[i*n:][:n]
		for j := range plane {
			dst[at+j*width+i] = plane[j]
		}
	}
	return dst, nil
}

// reserve makes room for n more bytes.
func reserve(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, len(b)+n), b...)
}
