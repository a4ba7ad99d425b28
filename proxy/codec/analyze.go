package codec

import (
	"math"
	"math/bits"
)

// How many rows are looked at, spread over the block, and at most what part of them.
const (
	probeFew  = 16
	probeMany = 64
	probePart = 8
)

// probe calls f for about n rows spread over the block.
func (v *view) probe(frames, n int, f func(frame, y int)) {
	total := frames * v.rows
	step := max(1, total/n, min(probePart, total/4))
	for i := step / 2; i < total; i += step {
		if v.rows > 1 && i%v.rows == 0 {
			f(i/v.rows, 1)
			continue
		}
		f(i/v.rows, i%v.rows)
	}
}

// look chooses byte order, sign and color transform: what makes the differences between neighbors smallest. For signed numbers the
// top bit must be inverted, or each change of sign would be a jump.
func (w *worker) look(v *view, raw []byte, frames int) {
	best := math.Inf(1)
	choice := *v
	try := func(bigEndian, flipped, green bool) {
		t := *v
		t.bigEndian, t.flipped, t.green = bigEndian, flipped, green
		bits, n := 0, 1
		t.probe(frames, probeFew, func(frame, y int) {
			bits += w.roughness(&t, raw, frame, y)
			n += v.width * v.comps
		})
		// Something must speak for a change.
		if mean := float64(bits) / float64(n); mean < 0.97*best {
			best, choice = mean, t
		}
	}
	try(false, false, false)
	try(false, true, false)
	if v.comps == 3 {
		try(false, false, true)
	}
	// Noise above this is rare; bytes in the wrong order look like it.
	if v.bytes == 2 && best > 7 {
		try(true, false, false)
		try(true, true, false)
		if v.comps == 3 {
			try(true, false, true)
		}
	}
	*v = choice
}

// roughness estimates the bits of the differences in a row.
func (w *worker) roughness(v *view, raw []byte, frame, y int) int {
	sum := 0
	ref, row := grow(w.ref, v.width), grow(w.row, v.width)
	w.ref, w.row = ref, row
	if v.green {
		v.get(ref, raw, frame, 1, y)
	}
	for comp := range v.comps {
		v.get(row, raw, frame, comp, y)
		v.forward(row, ref, comp)
		for x := 1; x < len(row); x++ {
			sum += bits.Len32(uint32(abs(row[x] - row[x-1])))
		}
	}
	return sum
}

// rankMin is how long a block must be, in bytes, for ranks to pay for the set of levels.
const rankMin = 16 << 10

// rank looks for blocks that use few of the numbers they could, such as images stretched in contrast: there the rank of a number among
// those that occur is coded.
func (w *worker) rank(v *view, raw []byte, frames int) {
	if v.bytes != 2 || v.comps != 1 || len(raw) < rankMin {
		return
	}
	w.seen = grow(w.seen, 1<<16)
	clear(w.seen)
	v.probe(frames, probeMany, func(frame, y int) { w.see(v, raw, frame, y) })
	if n, span := w.span(v); 3*n > span {
		return
	}
	for frame := range frames {
		for y := range v.rows {
			w.see(v, raw, frame, y)
		}
	}
	n, span := w.span(v)
	if 2*n > span || n > frames*v.rows*v.width/16 {
		return
	}
	flip := v.flip()
	w.levels = grow(w.levels, n)[:0]
	w.ranks = grow(w.ranks, 1<<16)
	for i := range w.seen {
		if w.seen[i^flip] != 0 {
			w.ranks[i] = uint16(len(w.levels))
			w.levels = append(w.levels, uint16(i))
		}
	}
	v.levels, v.ranks = w.levels, w.ranks
}

// see marks the stored samples of a row.
func (w *worker) see(v *view, raw []byte, frame, y int) {
	row := grow(w.row, v.width)
	w.row = row
	v.get(row, raw, frame, 0, y)
	seen := (*[1 << 16]byte)(w.seen)
	for _, s := range row {
		seen[uint16(s)] = 1
	}
}

// span returns how many numbers were seen, and from the lowest to the highest how many there are.
func (w *worker) span(v *view) (n, span int) {
	lo, hi, flip := -1, 0, v.flip()
	for i := range w.seen {
		if w.seen[i^flip] != 0 {
			n++
			hi = i
			if lo < 0 {
				lo = i
			}
		}
	}
	return n, hi - lo + 1
}

// fit chooses the predictor of a component: the median, or weights by least squares for the first three or all five neighbors. Whichever makes
// the errors of some rows cheapest.
func (w *worker) fit(v *view, raw []byte, frames, comp int) predictor {
	if v.width < 8 || v.rows < 3 {
		return predictor{}
	}
	w.lanes[comp].reset(v.width)
	l := &w.lanes[comp]
	var sums normal
	v.probe(frames, probeMany, func(frame, y int) {
		if y >= 2 {
			w.above(v, l, raw, frame, comp, y)
			add(&sums, l.cur, l.up, l.up2)
		}
	})
	candidates := solve(&sums)
	hi := v.mask()
	if v.levels != nil {
		hi = int32(len(v.levels) - 1)
	}
	cost := make([]float64, len(candidates))
	errs := grow(w.errs, v.width)
	w.errs = errs
	v.probe(frames, probeFew, func(frame, y int) {
		if y < 2 {
			return
		}
		w.above(v, l, raw, frame, comp, y)
		for i := range candidates {
			p := &candidates[i]
			p.hi = hi
			if p.kind == medianKind {
				median(errs, l.cur, l.up)
			} else {
				p.weighted(errs, l.cur, l.up, l.up2)
			}
			cost[i] += costOf(errs)
		}
	})
	best := 0
	for i := range candidates {
		// The later, the slower: it must be worth it.
		if cost[i] < 0.995*cost[best] {
			best = i
		}
	}
	return candidates[best]
}

// above reads a row and the two above it.
func (w *worker) above(v *view, l *lane, raw []byte, frame, comp, y int) {
	ref := grow(w.ref, v.width)
	w.ref = ref
	for i, row := range [][]int32{l.cur, l.up, l.up2} {
		in := row[pad:][:v.width]
		if v.green && comp != 1 {
			v.get(ref, raw, frame, 1, y-i)
		}
		v.get(in, raw, frame, comp, y-i)
		v.forward(in, ref, comp)
		row[0], row[1] = in[0], in[0]
		row[len(row)-1], row[len(row)-2] = in[len(in)-1], in[len(in)-1]
	}
}

// costOf estimates the bits of errors in contexts: the logarithm of their size, roughly.
func costOf(errs []int32) float64 {
	sum := 0.0
	for i := 0; i+8 <= len(errs); i += 8 {
		var group int32
		for _, e := range errs[i : i+8] {
			group += abs(e)
		}
		sum += math.Log2(float64(group) + 2)
	}
	return sum
}

// normal holds the normal equations of the least squares of weights.
type normal struct {
	a [5][5]float64
	b [5]float64
}

// add takes in every third sample of a row. Lively places count less: there the errors are large anyway.
func add(sums *normal, cur, up, up2 []int32) {
	for x := pad; x < len(cur)-pad; x += 3 {
		b := up[x]
		d := [5]int32{cur[x-1] - b, up[x-1] - b, up[x+1] - b, cur[x-2] - b, up2[x] - b}
		lively := abs(d[0]-d[1]) + abs(d[1]) + abs(d[2])
		if lively == 0 {
			continue
		}
		weight := 1 / float64(1+lively)
		weight *= weight
		t := weight * float64(cur[x]-b)
		for i := range d {
			wi := weight * float64(d[i])
			sums.b[i] += t * float64(d[i])
			for j := range i + 1 {
				sums.a[i][j] += wi * float64(d[j])
			}
		}
	}
}

// solve returns predictors to choose from, the median first.
func solve(sums *normal) []predictor {
	candidates := []predictor{{}}
	for _, k := range []int{3, 5} {
		p := predictor{kind: linearKind}
		if sums.solve(k, &p.w[0]) {
			candidates = append(candidates, p)
		}
	}
	return candidates
}

// solve finds the weights of the first k neighbors. It reports false if there are none that fit the format.
func (n *normal) solve(k int, w *linear) bool {
	var a [5][6]float64
	for i := range k {
		for j := range k {
			a[i][j] = n.a[max(i, j)][min(i, j)]
		}
		a[i][i] = a[i][i]*1.0001 + 1e-6
		a[i][k] = n.b[i]
	}
	for i := range k {
		for j := i + 1; j < k; j++ {
			f := a[j][i] / a[i][i]
			for c := i; c <= k; c++ {
				a[j][c] -= f * a[i][c]
			}
		}
	}
	for i := k - 1; i >= 0; i-- {
		s := a[i][k]
		for c := i + 1; c < k; c++ {
			s -= a[i][c] * float64(w[c]) / (1 << weightBits)
		}
		q := math.Round(s / a[i][i] * (1 << weightBits))
		if !(math.Abs(q) <= maxWeight) {
			return false
		}
		w[i] = int32(q)
	}
	return true
}
