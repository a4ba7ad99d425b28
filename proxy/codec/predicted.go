package codec

import (
	"encoding/binary"
	"fmt"
)

// The flags of a predicted block.
const (
	flagWide = 1 << iota
	flagBigEndian
	flagFlipped
	flagGreen
	flagPlanar
	flagTransposed
	flagLevels
	flagsKnown = 1<<iota - 1
)

const maxShift = 2

// shiftFor returns how many contexts are merged: their counts and tables must not weigh more than they save.
func shiftFor(samples int) uint {
	switch {
	case samples < 16<<10:
		return 2
	case samples < 128<<10:
		return 1
	default:
		return 0
	}
}

// plan is how the samples of a block are predicted.
type plan struct {
	view
	fitted [maxComps]predictor
}

// choose looks at a block and decides how to predict it.
func (w *worker) choose(raw []byte, s shape) *plan {
	frames := len(raw) / s.frame()
	p := &plan{view: view{shape: s}}
	w.look(&p.view, raw, frames)
	w.rank(&p.view, raw, frames)
	for comp := range s.comps {
		p.fitted[comp] = w.fit(&p.view, raw, frames, comp)
	}
	return p
}

// appendView appends what a decoder must know of a block.
func (w *worker) appendView(dst []byte, v *view) []byte {
	flags := 0
	for i, set := range []bool{v.bytes == 2, v.bigEndian, v.flipped, v.green, v.planar, v.transposed, v.levels != nil} {
		if set {
			flags |= 1 << i
		}
	}
	dst = append(dst, byte(flags), byte(v.comps))
	dst = binary.AppendUvarint(dst, uint64(v.width))
	dst = binary.AppendUvarint(dst, uint64(v.rows))
	if v.levels == nil {
		return dst
	}
	var set [1 << 13]byte
	for _, l := range v.levels {
		set[l>>3] |= 1 << (l & 7)
	}
	zip := w.zip.EncodeAll(set[:], nil)
	dst = binary.AppendUvarint(dst, uint64(len(zip)))
	return append(dst, zip...)
}

// parseView reads what appendView has written and checks it against the length of the block.
func (w *worker) parseView(r *reader, size int) (view, error) {
	flags, comps := r.byte(), int(r.byte())
	width, rows := r.length(size), r.length(size)
	if r.bad || flags&^flagsKnown != 0 || comps < 1 || comps > maxComps || width < 1 || rows < 1 {
		return view{}, fmt.Errorf("%w: shape", ErrCorrupt)
	}
	v := view{shape: shape{width: width, rows: rows, comps: comps, bytes: 1 + int(flags&flagWide)}}
	v.bigEndian, v.flipped, v.green = flags&flagBigEndian != 0, flags&flagFlipped != 0, flags&flagGreen != 0
	v.planar, v.transposed = flags&flagPlanar != 0, flags&flagTransposed != 0
	// width × rows cannot overflow: both are at most MaxBlock.
	if width*rows > size || size%v.frame() != 0 || v.green && comps != 3 || v.transposed && (comps != 1 || v.frame() != size) {
		return view{}, fmt.Errorf("%w: shape", ErrCorrupt)
	}
	if flags&flagLevels == 0 {
		return v, nil
	}
	if v.bytes != 2 || comps != 1 {
		return view{}, fmt.Errorf("%w: levels", ErrCorrupt)
	}
	set, err := w.inflate(nil, r.bytes(r.length(size)), 1<<13)
	if err != nil {
		return view{}, err
	}
	w.levels = w.levels[:0]
	for i := range 1 << 16 {
		if set[i>>3]>>(i&7)&1 != 0 {
			w.levels = append(w.levels, uint16(i))
		}
	}
	v.levels = w.levels
	return v, nil
}

// sets returns how many sets of weights the predictor has.
func (p *predictor) sets() int {
	switch p.kind {
	case linearKind:
		return 1
	case directedKind:
		return directions
	default:
		return 0
	}
}

// append writes a predictor.
func (p *predictor) append(dst []byte) []byte {
	dst = append(dst, byte(p.kind))
	if p.kind == medianKind {
		return dst
	}
	for _, set := range p.w[:p.sets()] {
		for _, w := range set {
			dst = binary.LittleEndian.AppendUint16(dst, uint16(w))
		}
	}
	dst = binary.LittleEndian.AppendUint16(dst, uint16(p.lo))
	return binary.LittleEndian.AppendUint16(dst, uint16(p.hi))
}

func parsePredictor(r *reader) (predictor, error) {
	p := predictor{kind: predictorKind(r.byte())}
	if p.kind > directedKind {
		return predictor{}, fmt.Errorf("%w: predictor %d", ErrCorrupt, p.kind)
	}
	if p.kind == medianKind {
		return p, nil
	}
	for set := range p.sets() {
		for i := range p.w[set] {
			w := int32(int16(r.uint16()))
			if abs(w) > maxWeight {
				return predictor{}, fmt.Errorf("%w: weight", ErrCorrupt)
			}
			p.w[set][i] = w
		}
	}
	p.lo, p.hi = int32(r.uint16()), int32(r.uint16())
	return p, nil
}

// reader reads a payload. After an attempt to read behind its end, bad is set and all values are zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// length reads a number up to most.
func (r *reader) length(most int) int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(most) {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}
