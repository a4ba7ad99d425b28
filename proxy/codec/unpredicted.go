package codec

import (
	"encoding/binary"
	"fmt"
)

// appendUnpredicted appends the original of a predicted block of size bytes to dst. Version 1 wrote such blocks: bits in the order of samples,
// one strand.
func (w *worker) appendUnpredicted(dst, payload []byte, size int) ([]byte, error) {
	r := reader{b: payload}
	v, err := w.parseView(&r, size)
	if err != nil {
		return dst, err
	}
	shift := uint(r.byte())
	if shift > maxShift {
		return dst, fmt.Errorf("%w: contexts", ErrCorrupt)
	}
	var fitted [maxComps]predictor
	for comp := range v.comps {
		if fitted[comp], err = parsePredictor(&r); err != nil {
			return dst, err
		}
	}
	total := size / v.bytes
	w.moods.use(shift)
	u := unpredictor{moods: &w.moods, bytes: v.bytes, scale: scaleOf(v.bytes)}
	begin, err := w.parseGroups(&r, v.comps, shift, total, 1)
	if err != nil {
		return dst, err
	}
	w.rest = append(append(w.rest[:0], r.b...), 0, 0, 0, 0, 0, 0, 0, 0) // eight bytes are read at a time
	u.begin(w.sorted, begin[0], w.rest)
	at := len(dst)
	dst = reserve(dst, size)[:at+size]
	if !w.rows(&v, &u, &fitted, dst[at:]) {
		return dst[:at], fmt.Errorf("%w: tokens", ErrCorrupt)
	}
	return dst, nil
}

// rows decodes all rows of a block.
func (w *worker) rows(v *view, u *unpredictor, fitted *[maxComps]predictor, raw []byte) bool {
	for comp := range v.comps {
		w.lanes[comp].reset(v.width)
	}
	for frame := range len(raw) / v.frame() {
		for y := range v.rows {
			for n := range v.comps {
				comp := v.order(n)
				l := &w.lanes[comp]
				l.begin(y)
				u.next = (*[contexts]uint32)(u.at[comp<<contextBits:])
				var ok bool
				switch p := &fitted[comp]; {
				case y == 0:
					ok = u.first(l)
				case p.kind == linearKind:
					ok = u.weighted(l, p)
				case p.kind == directedKind:
					ok = u.directed(l, p)
				default:
					ok = u.median(l)
				}
				if !ok {
					return false
				}
				w.row = append(w.row[:0], l.row()...)
				if !v.backward(w.row, w.ref, comp) {
					return false
				}
				if v.green && comp == 1 {
					w.ref = append(w.ref[:0], w.row...)
				}
				v.put(w.row, raw, frame, comp, y)
				l.end(y)
			}
		}
	}
	return true
}

// unpredictor gives back samples from tokens and bits.
type unpredictor struct {
	toks  []byte // by context
	at    [contexts * maxComps]uint32
	next  *[contexts]uint32 // of the component at work: the place of the next token of each context
	base  [256]uint32       // smallest folded error of a token
	more  [256]uint8        // how many bits follow
	bits  []byte
	pos   uint // in bits
	moods *moods
	bytes int
	scale scale
}

// begin sets the input: tokens by context, and at least eight bytes of bits.
func (u *unpredictor) begin(toks []byte, at [contexts * maxComps]uint32, bits []byte) {
	u.toks, u.at, u.bits = toks, at, bits
	for t := range tokens {
		base, more := u.scale.value(uint(t))
		u.base[t], u.more[t] = base, uint8(more)
	}
}

// signExtend is by how much a number is shifted up and down again to take it modulo the range of a sample.
func (u *unpredictor) signExtend() uint { return uint(32-8*u.bytes) & 31 }

// first is the inverse of the function first.
func (u *unpredictor) first(l *lane) bool {
	n := len(l.cur) - 2*pad
	cur, sizes := l.cur[pad:][:n], l.errs[1:][:n]
	toks, bits, pos, moods, cut := u.toks, u.bits, u.pos, u.moods, u.signExtend()
	last := uint(len(bits) - 8)
	a, west := l.cur[pad-1], int32(0)
	for x := range cur {
		q := moods.of(4*west) & (contexts - 1)
		at := u.next[q]
		if uint(at) >= uint(len(toks)) {
			return false
		}
		u.next[q] = at + 1
		t := toks[at]
		more := uint(u.more[t])
		e := u.base[t] + uint32(binary.LittleEndian.Uint64(bits[min(pos>>3, last):])>>(pos&7))&(1<<(more&31)-1)
		pos += more
		err := unfold(e)
		west = abs(err)
		sizes[x] = west
		a = int32(uint32(a+err) << cut >> cut)
		cur[x] = a
	}
	u.pos = pos
	return true
}

// median is the inverse of the function median.
func (u *unpredictor) median(l *lane) bool {
	n := len(l.cur) - 2*pad
	cur, sizes := l.cur[pad:][:n], l.errs[1:][:n]
	d0, s0 := l.up[pad+1:][:n], l.errsUp[2:][:n]
	toks, bits, pos, moods, cut := u.toks, u.bits, u.pos, u.moods, u.signExtend()
	last := uint(len(bits) - 8)
	next := u.next
	a, b, c, west, north := l.cur[pad-1], l.up[pad], l.up[pad-1], int32(0), l.errsUp[1]
	for x := range cur {
		d, east := d0[x], s0[x]
		q := moods.of(abs(d-b)+abs(b-c)+abs(c-a)+2*west+north+east) & (contexts - 1)
		at := next[q]
		if uint(at) >= uint(len(toks)) {
			return false
		}
		next[q] = at + 1
		t := toks[at]
		more := uint(u.more[t])
		e := u.base[t] + uint32(binary.LittleEndian.Uint64(bits[min(pos>>3, last):])>>(pos&7))&(1<<(more&31)-1)
		pos += more
		err := unfold(e)
		west = abs(err)
		sizes[x] = west
		a = int32(uint32(middle(a, b, c)+err) << cut >> cut)
		cur[x] = a
		b, c, north = d, b, east
	}
	u.pos = pos
	return true
}

// weighted is the inverse of predictor.weighted.
func (u *unpredictor) weighted(l *lane, p *predictor) bool {
	n := len(l.cur) - 2*pad
	cur, sizes := l.cur[pad:][:n], l.errs[1:][:n]
	d0, s0, f0 := l.up[pad+1:][:n], l.errsUp[2:][:n], l.up2[pad:][:n]
	toks, bits, pos, moods, cut := u.toks, u.bits, u.pos, u.moods, u.signExtend()
	last := uint(len(bits) - 8)
	next := u.next
	w, lo, hi := p.w[0], p.lo, p.hi
	a, aa, b, c, west, north := l.cur[pad-1], l.cur[pad-2], l.up[pad], l.up[pad-1], int32(0), l.errsUp[1]
	for x := range cur {
		d, east := d0[x], s0[x]
		q := moods.of(abs(d-b)+abs(b-c)+abs(c-a)+2*west+north+east) & (contexts - 1)
		at := next[q]
		if uint(at) >= uint(len(toks)) {
			return false
		}
		next[q] = at + 1
		t := toks[at]
		more := uint(u.more[t])
		e := u.base[t] + uint32(binary.LittleEndian.Uint64(bits[min(pos>>3, last):])>>(pos&7))&(1<<(more&31)-1)
		pos += more
		err := unfold(e)
		west = abs(err)
		sizes[x] = west
		s := w[0]*(a-b) + w[1]*(c-b) + w[2]*(d-b) + w[3]*(aa-b) + w[4]*(f0[x]-b)
		aa = a
		a = int32(uint32(min(max(b+(s+1<<(weightBits-1))>>weightBits, lo), hi)+err) << cut >> cut)
		cur[x] = a
		b, c, north = d, b, east
	}
	u.pos = pos
	return true
}

// directed is the inverse of predictor.directed.
func (u *unpredictor) directed(l *lane, p *predictor) bool {
	n := len(l.cur) - 2*pad
	cur, sizes := l.cur[pad:][:n], l.errs[1:][:n]
	d0, s0, f0, g0 := l.up[pad+1:][:n], l.errsUp[2:][:n], l.up2[pad:][:n], l.up2[pad+1:][:n]
	toks, bits, pos, moods, cut := u.toks, u.bits, u.pos, u.moods, u.signExtend()
	last := uint(len(bits) - 8)
	next := u.next
	lo, hi := p.lo, p.hi
	a, aa, b, c, west, north := l.cur[pad-1], l.cur[pad-2], l.up[pad], l.up[pad-1], int32(0), l.errsUp[1]
	for x := range cur {
		d, east, f := d0[x], s0[x], f0[x]
		ca, along := abs(c-a), abs(d-b)+abs(b-c)
		q := moods.of(along+ca+2*west+north+east) & (contexts - 1)
		at := next[q]
		if uint(at) >= uint(len(toks)) {
			return false
		}
		next[q] = at + 1
		t := toks[at]
		more := uint(u.more[t])
		e := u.base[t] + uint32(binary.LittleEndian.Uint64(bits[min(pos>>3, last):])>>(pos&7))&(1<<(more&31)-1)
		pos += more
		err := unfold(e)
		west = abs(err)
		sizes[x] = west
		w := &p.w[direction(along+abs(a-aa), ca+abs(b-f)+abs(d-g0[x]))]
		s := w[0]*(a-b) + w[1]*(c-b) + w[2]*(d-b) + w[3]*(aa-b) + w[4]*(f-b)
		aa = a
		a = int32(uint32(min(max(b+(s+1<<(weightBits-1))>>weightBits, lo), hi)+err) << cut >> cut)
		cur[x] = a
		b, c, north = d, b, east
	}
	u.pos = pos
	return true
}
