package codec

// outlook is what is known of a sample before those to its left are: all that rows above it say. The loops that go from sample to sample then
// have little left to do.
type outlook struct {
	lively int32 // of the rows above: differences there, and errors made above and above right
	base   int32 // of weights: the part of the prediction that the rows above make, in 1/1024, and 1/2; of the median: the sample above
	corner int32 // the sample above left
	sample int32 // itself; only an encoder knows it
}

// trail is how the samples of a row are coded.
type trail struct {
	ahead  []outlook
	sizes  []int32 // of the errors of this row, to be filled in
	a, aa  int32   // what stands for the samples to the left of the first
	w0, w3 int32   // the weights of these
	lo, hi int32
	moods  *moods
	half   int32 // of the range of a sample
	mask   int32
}

// trail looks at the rows above a row that is not the first.
func (w *worker) trail(v *view, l *lane, p *predictor, ahead []outlook) trail {
	n := v.width
	ahead = grow(ahead, n)
	t := trail{
		ahead: ahead, sizes: l.errs[1:][:n], a: l.cur[pad-1], aa: l.cur[pad-2],
		w0: p.w[0][0], w3: p.w[0][3], lo: p.lo, hi: p.hi, moods: &w.moods, half: v.half(), mask: v.mask(),
	}
	if p.kind == medianKind {
		l.aboveMedian(ahead)
	} else {
		l.aboveWeighted(ahead, &p.w[0])
	}
	return t
}

func (l *lane) aboveMedian(ahead []outlook) {
	n := len(ahead)
	cur, ups, easts := l.cur[pad:][:n], l.up[pad+1:][:n], l.errsUp[2:][:n]
	b, c, north := l.up[pad], l.up[pad-1], l.errsUp[1]
	for x := range ahead {
		d, east := ups[x], easts[x]
		ahead[x] = outlook{lively: abs(d-b) + abs(b-c) + north + east, base: b, corner: c, sample: cur[x]}
		b, c, north = d, b, east
	}
}

func (l *lane) aboveWeighted(ahead []outlook, w *linear) {
	n := len(ahead)
	cur, ups, seconds, easts := l.cur[pad:][:n], l.up[pad+1:][:n], l.up2[pad:][:n], l.errsUp[2:][:n]
	b, c, north := l.up[pad], l.up[pad-1], l.errsUp[1]
	w1, w2, w4 := w[1], w[2], w[4]
	wb := 1<<weightBits - w[0] - w1 - w2 - w[3] - w4
	for x := range ahead {
		d, east := ups[x], easts[x]
		ahead[x] = outlook{
			lively: abs(d-b) + abs(b-c) + north + east,
			base:   w1*c + w2*d + w4*seconds[x] + wb*b + 1<<(weightBits-1),
			corner: c,
			sample: cur[x],
		}
		b, c, north = d, b, east
	}
}
