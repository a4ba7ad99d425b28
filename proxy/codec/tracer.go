package codec

// A finding is the error of a sample in the lower 16 bits, and its component and context above.
type finding uint32

const errorBits = 16

func found(q uint, err int32) finding { return finding(q)<<errorBits | finding(uint16(err)) }

// first is for the first row of a frame or strand: each sample is predicted from the one before.
func (t *trail) first(row []int32, finds []finding, base uint) {
	n := len(row)
	finds, sizes := finds[:n], t.sizes[:n]
	a, west := t.a, int32(0)
	for x, s := range row {
		q := t.moods.of(4*west) & (contexts - 1)
		err := (s-a+t.half)&t.mask - t.half
		a = s
		west = abs(err)
		sizes[x] = west
		finds[x] = found(base|q, err)
	}
}

// median is for the predictor of that name.
func (t *trail) median(finds []finding, base uint) {
	n := len(t.ahead)
	finds, sizes := finds[:n], t.sizes[:n]
	moods, half, mask := t.moods, t.half, t.mask
	a, west := t.a, int32(0)
	for x := range t.ahead {
		o := &t.ahead[x]
		b, c := o.base, o.corner
		q := moods.of(o.lively+abs(c-a)+2*west) & (contexts - 1)
		err := (o.sample-middle(a, b, c)+half)&mask - half
		a = o.sample
		west = abs(err)
		sizes[x] = west
		finds[x] = found(base|q, err)
	}
}

// weighted is for weights.
func (t *trail) weighted(finds []finding, base uint) {
	n := len(t.ahead)
	finds, sizes := finds[:n], t.sizes[:n]
	moods := t.moods
	a, aa, west := t.a, t.aa, int32(0)
	for x := range t.ahead {
		o := &t.ahead[x]
		q := moods.of(o.lively+abs(o.corner-a)+2*west) & (contexts - 1)
		err := (o.sample-min(max((t.w0*a+t.w3*aa+o.base)>>weightBits, t.lo), t.hi)+t.half)&t.mask - t.half
		aa, a = a, o.sample
		west = abs(err)
		sizes[x] = west
		finds[x] = found(base|q, err)
	}
}
