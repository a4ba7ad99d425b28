package codec

import (
	"encoding/binary"
	"fmt"
)

// appendUnbraided appends the original of a braided block of size bytes to dst.
func (w *worker) appendUnbraided(dst, payload []byte, size int) ([]byte, error) {
	r := reader{b: payload}
	v, err := w.parseView(&r, size)
	if err != nil {
		return dst, err
	}
	shift := uint(r.byte())
	if shift > maxShift {
		return dst, fmt.Errorf("%w: contexts", ErrCorrupt)
	}
	u := unbraider{w: w, view: &v}
	for comp := range v.comps {
		if u.fitted[comp], err = parsePredictor(&r); err != nil {
			return dst, err
		}
		if u.fitted[comp].kind > linearKind {
			return dst, fmt.Errorf("%w: predictor", ErrCorrupt)
		}
	}
	parts := int(r.byte())
	if parts < 1 || parts > strands {
		return dst, fmt.Errorf("%w: strands", ErrCorrupt)
	}
	total := size / v.bytes
	w.moods.use(shift)
	if u.next, err = w.parseGroups(&r, v.comps, shift, total, parts); err != nil {
		return dst, err
	}
	w.rest = append(append(w.rest[:0], r.b...), 0, 0, 0, 0, 0, 0, 0, 0) // eight bytes are read at a time
	w.byMood = grow(w.byMood, total)
	unfoldAll(w.byMood, w.sorted, w.rest, scaleOf(v.bytes))
	u.errs = w.byMood
	at := len(dst)
	dst = reserve(dst, size)[:at+size]
	if !u.rows(dst[at:], parts) {
		return dst[:at], fmt.Errorf("%w: tokens", ErrCorrupt)
	}
	return dst, nil
}

// unfoldAll makes errors of tokens and the bits that follow them. bits ends with eight bytes more.
func unfoldAll(errs []int16, toks, bits []byte, s scale) {
	var base [256]uint32 // smallest folded error of a token | how many bits follow << 24
	var short [256]int16 // the error of a token that no bits follow
	for t := range tokens {
		u, more := s.value(uint(t))
		base[t], short[t] = u|uint32(more)<<24, int16(unfold(u))
	}
	errs = errs[:len(toks)]
	pos, last := uint(0), uint(len(bits)-8)
	for i, t := range toks {
		b := base[t]
		if b < 1<<24 {
			errs[i] = short[t]
			continue // as for most of a quiet context
		}
		more := uint(b >> 24)
		u := b&0xFFFFFF + uint32(binary.LittleEndian.Uint64(bits[min(pos>>3, last):])>>(pos&7))&(1<<(more&31)-1)
		pos += more
		errs[i] = int16(unfold(u))
	}
}

// unbraider gives back samples from errors.
type unbraider struct {
	w      *worker
	view   *view
	fitted [maxComps]predictor
	errs   []int16 // by context
	next   places
}

// rows decodes all rows of a block.
func (u *unbraider) rows(raw []byte, parts int) bool {
	v := u.view
	for strand := range parts {
		for comp := range v.comps {
			u.lane(strand, comp).reset(v.width)
		}
	}
	rows := len(raw) / v.frame() * v.rows
	half := firstStrand(rows, parts)
	for i := range half {
		for n := range v.comps {
			comp := v.order(n)
			y0, y1 := i%v.rows, (half+i)%v.rows
			if i == 0 {
				y1 = 0 // nothing above it is known
			}
			switch {
			case half+i >= rows:
				if !u.one(0, comp, y0) || !u.put(raw, 0, comp, y0, i) {
					return false
				}
				continue
			case y0 > 0 && y1 > 0:
				if !u.two(comp) {
					return false
				}
			case !u.one(0, comp, y0) || !u.one(1, comp, y1):
				return false
			}
			if !u.put(raw, 0, comp, y0, i) || !u.put(raw, 1, comp, y1, half+i) {
				return false
			}
		}
	}
	return true
}

// lane returns what is remembered of a component in a strand.
func (u *unbraider) lane(strand, comp int) *lane { return &u.w.lanes[strand*maxComps+comp] }

// places returns where the next error of each context of a component is.
func (u *unbraider) places(strand, comp int) *[contexts]uint32 {
	return (*[contexts]uint32)(u.next[strand][comp<<contextBits:])
}

// put writes the present row of a component, the ith of all frames, and goes on to the next one.
func (u *unbraider) put(raw []byte, strand, comp, y, i int) bool {
	v, w, l := u.view, u.w, u.lane(strand, comp)
	row := l.row()
	if v.levels != nil || v.flipped || v.green {
		w.row = append(w.row[:0], row...)
		row = w.row
		if !v.backward(row, w.greens[strand], comp) {
			return false
		}
	}
	if v.green && comp == 1 {
		w.greens[strand] = append(w.greens[strand][:0], row...)
	}
	v.put(row, raw, i/v.rows, comp, i%v.rows)
	l.end(y)
	return true
}

// reversal prepares a row.
func (u *unbraider) reversal(strand, comp, y int) reversal {
	l := u.lane(strand, comp)
	l.begin(y)
	t := u.w.trail(u.view, l, &u.fitted[comp], u.w.ahead[strand])
	u.w.ahead[strand] = t.ahead
	return reversal{trail: t, row: l.row(), errs: u.errs, next: u.places(strand, comp)}
}

// one decodes a row of a strand.
func (u *unbraider) one(strand, comp, y int) bool {
	r := u.reversal(strand, comp, y)
	switch {
	case y == 0:
		return r.first()
	case u.fitted[comp].kind == medianKind:
		return r.median()
	default:
		return r.weighted()
	}
}

// two decodes a row of each strand, neither of them the first one.
func (u *unbraider) two(comp int) bool {
	r0, r1 := u.reversal(0, comp, 1), u.reversal(1, comp, 1)
	if u.fitted[comp].kind == medianKind {
		return medianTwice(&r0, &r1)
	}
	return weightedTwice(&r0, &r1)
}
