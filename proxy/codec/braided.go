package codec

import "encoding/binary"

// strands is how many parts of a block are decoded in turn, sample by sample. What a sample is must be known before the next one can be
// predicted, and a processor would wait for that; with two strands it has something else to do.
const strands = 2

// strandMin is how many samples make a second strand pay: its first row is predicted from the left only.
const strandMin = 32 << 10

// strandsFor returns how many strands a block has.
func strandsFor(v *view, rows int) int {
	if v.transposed || rows < 16 || rows*v.width*v.comps < strandMin {
		return 1
	}
	return strands
}

// firstStrand returns how many of the rows of all frames are in the first strand.
func firstStrand(rows, strands int) int { return (rows + strands - 1) / strands }

// tally counts the samples of a strand by component and context.
type tally [contexts * maxComps]uint32

// appendBraided appends the payload of a braided block. It does not use w.try.
//
// Everything that a sample's error is made of stands with the others of its context, the first strand's before the second's: so a decoder
// brings back all errors before it needs the first one.
func (w *worker) appendBraided(dst, raw []byte, p *plan) []byte {
	total := len(raw) / p.bytes
	rows := len(raw) / p.frame() * p.rows
	shift, parts := shiftFor(total), strandsFor(&p.view, rows)
	dst = append(w.appendView(dst, &p.view), byte(shift))
	for comp := range p.comps {
		dst = p.fitted[comp].append(dst)
	}
	w.use(scaleOf(p.bytes))
	w.moods.use(shift)
	w.finds = grow(w.finds, total)
	var counts [strands]tally
	at := 0
	for strand := range parts {
		begin, end := 0, firstStrand(rows, parts)
		if strand == 1 {
			begin, end = end, rows
		}
		at = w.strand(p, raw, begin, end, at, &counts[strand])
	}
	return w.appendErrors(append(dst, byte(parts)), p.comps, shift, parts, &counts)
}

// strand fills in errors and contexts of some rows, from the place at on, and returns the place behind them.
func (w *worker) strand(p *plan, raw []byte, begin, end, at int, counts *tally) int {
	for comp := range p.comps {
		w.lanes[comp].reset(p.width)
	}
	for i := begin; i < end; i++ {
		frame, y := i/p.rows, i%p.rows
		if i == begin {
			y = 0 // nothing above it is known
		}
		for n := range p.comps {
			comp := p.order(n)
			finds := w.finds[at:][:p.width]
			w.trace(p, raw, frame, comp, i%p.rows, y == 0, finds)
			for _, f := range finds {
				counts[f>>errorBits&(contexts*maxComps-1)]++
			}
			w.lanes[comp].end(y)
			at += p.width
		}
	}
	return at
}

// trace reads a row and finds the errors of its samples and their contexts.
func (w *worker) trace(v *plan, raw []byte, frame, comp, y int, first bool, finds []finding) {
	l, p := &w.lanes[comp], &v.fitted[comp]
	if first {
		l.begin(0)
	} else {
		l.begin(1)
	}
	row := l.row()
	v.get(row, raw, frame, comp, y)
	if v.green && comp == 1 {
		w.ref = append(w.ref[:0], row...)
	}
	v.forward(row, w.ref, comp)
	base := uint(comp << contextBits)
	t := w.trail(&v.view, l, p, w.ahead[0])
	w.ahead[0] = t.ahead
	switch {
	case first:
		t.first(row, finds, base)
	case p.kind == medianKind:
		t.median(finds, base)
	default:
		t.weighted(finds, base)
	}
}

// appendErrors appends, for each component, the set of its contexts that occur, how many samples each has and how many of these are in the
// first of two strands; then all tokens, and the bits that follow them.
func (w *worker) appendErrors(dst []byte, comps int, shift uint, parts int, counts *[strands]tally) []byte {
	var total [contexts * maxComps]int
	var offset [contexts * maxComps]uint32
	sum := 0
	for comp := range comps {
		set, from := uint64(0), comp<<contextBits
		for i := range contexts {
			q := from + i
			offset[q] = uint32(sum)
			total[q] = int(counts[0][q] + counts[1][q])
			if sum += total[q]; total[q] > 0 {
				set |= 1 << i
			}
		}
		dst = append(dst, binary.LittleEndian.AppendUint64(nil, set)[:8>>shift]...)
		for q := from; q < from+contexts; q++ {
			if total[q] == 0 {
				continue
			}
			dst = binary.AppendUvarint(dst, uint64(total[q]))
			if parts == strands {
				dst = binary.AppendUvarint(dst, uint64(counts[0][q]))
			}
		}
	}
	w.byMood, w.sorted = grow(w.byMood, sum), grow(w.sorted, sum)
	scatter(w.byMood, w.finds, &offset)
	w.counts = grow(w.counts, comps<<contextBits*tokens)
	clear(w.counts)
	e := emitter{w: w, rest: w.rest[:0]}
	at := 0
	for q := range comps << contextBits {
		n := total[q]
		e.context(w.byMood[at:][:n], w.sorted[at:][:n], (*[tokens]uint32)(w.counts[q*tokens:]))
		at += n
	}
	w.rest = e.finish()
	return append(w.appendGroups(dst, comps<<contextBits, &total), w.rest...)
}

// scatter sorts errors by context. offset holds where each context begins.
func scatter(dst []int16, finds []finding, offset *[contexts * maxComps]uint32) {
	for _, f := range finds {
		q := f >> errorBits & (contexts*maxComps - 1)
		at := offset[q]
		offset[q] = at + 1
		dst[at] = int16(f)
	}
}

// emitter turns errors into tokens and bits.
type emitter struct {
	w    *worker
	rest []byte
	acc  uint64
	n    uint // bits in acc, below 8
}

// context takes in the errors of a context, and counts their tokens.
func (e *emitter) context(errs []int16, toks []byte, counts *[tokens]uint32) {
	toks = toks[:len(errs)]
	classify := &e.w.classify
	// No token is followed by more than 16 bits; eight bytes are written at a time.
	e.rest = reserve(e.rest, 2*len(errs)+16)
	out := e.rest[:cap(e.rest)]
	at, acc, have := len(e.rest), e.acc, e.n
	for i, s := range errs {
		u := fold(int32(s))
		var token, rest uint
		if u < classified {
			c := uint(classify[u])
			token, rest = c&0xFF, c>>8
		} else {
			token, rest = e.w.scale.token(u)
		}
		toks[i] = byte(token)
		counts[token&(tokens-1)]++
		if rest == 0 {
			continue // as for most of a quiet context
		}
		acc |= uint64(u&(1<<(rest&31)-1)) << (have & 63)
		have += rest
		binary.LittleEndian.PutUint64(out[at:], acc)
		at += int(have >> 3)
		acc >>= have & 56
		have &= 7
	}
	e.rest, e.acc, e.n = out[:at], acc, have
}

// finish returns the bits.
func (e *emitter) finish() []byte {
	if e.n > 0 {
		return append(e.rest, byte(e.acc))
	}
	return e.rest
}
