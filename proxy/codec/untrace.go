package codec

// reversal is how the samples of a row are found again.
type reversal struct {
	trail
	row  []int32           // to be filled in
	errs []int16           // of all samples, by context
	next *[contexts]uint32 // where the next error of each context is
}

// first is the inverse of trail.first.
func (r *reversal) first() bool {
	n := len(r.row)
	sizes := r.sizes[:n]
	a, west := r.a, int32(0)
	for x := range r.row {
		q := r.moods.of(4*west) & (contexts - 1)
		at := r.next[q]
		if uint(at) >= uint(len(r.errs)) {
			return false
		}
		r.next[q] = at + 1
		err := int32(r.errs[at])
		west = abs(err)
		sizes[x] = west
		a = (a + err) & r.mask
		r.row[x] = a
	}
	return true
}

// median is the inverse of trail.median.
func (r *reversal) median() bool {
	n := len(r.ahead)
	row, sizes := r.row[:n], r.sizes[:n]
	errs, next, moods, mask := r.errs, r.next, r.moods, r.mask
	a, west := r.a, int32(0)
	for x := range r.ahead {
		o := &r.ahead[x]
		b, c := o.base, o.corner
		q := moods.of(o.lively+abs(c-a)+2*west) & (contexts - 1)
		at := next[q]
		if uint(at) >= uint(len(errs)) {
			return false
		}
		next[q] = at + 1
		err := int32(errs[at])
		west = abs(err)
		sizes[x] = west
		a = (middle(a, b, c) + err) & mask
		row[x] = a
	}
	return true
}

// weighted is the inverse of trail.weighted.
func (r *reversal) weighted() bool {
	n := len(r.ahead)
	row, sizes := r.row[:n], r.sizes[:n]
	errs, next, moods := r.errs, r.next, r.moods
	a, aa, west := r.a, r.aa, int32(0)
	for x := range r.ahead {
		o := &r.ahead[x]
		q := moods.of(o.lively+abs(o.corner-a)+2*west) & (contexts - 1)
		at := next[q]
		if uint(at) >= uint(len(errs)) {
			return false
		}
		next[q] = at + 1
		err := int32(errs[at])
		west = abs(err)
		sizes[x] = west
		s := r.w0*a + r.w3*aa + o.base
		aa = a
		a = (min(max(s>>weightBits, r.lo), r.hi) + err) & r.mask
		row[x] = a
	}
	return true
}

// medianTwice is median for a row of each strand in turn.
func medianTwice(r0, r1 *reversal) bool {
	n := len(r0.ahead)
	ahead1 := r1.ahead[:n]
	row0, sizes0, row1, sizes1 := r0.row[:n], r0.sizes[:n], r1.row[:n], r1.sizes[:n]
	errs, moods, mask := r0.errs, r0.moods, r0.mask
	a0, west0, a1, west1 := r0.a, int32(0), r1.a, int32(0)
	for x := range r0.ahead {
		o0, o1 := &r0.ahead[x], &ahead1[x]
		b0, c0, b1, c1 := o0.base, o0.corner, o1.base, o1.corner
		q0 := moods.of(o0.lively+abs(c0-a0)+2*west0) & (contexts - 1)
		q1 := moods.of(o1.lively+abs(c1-a1)+2*west1) & (contexts - 1)
		at0, at1 := r0.next[q0], r1.next[q1]
		if uint(at0) >= uint(len(errs)) || uint(at1) >= uint(len(errs)) {
			return false
		}
		r0.next[q0], r1.next[q1] = at0+1, at1+1
		err0, err1 := int32(errs[at0]), int32(errs[at1])
		west0, west1 = abs(err0), abs(err1)
		sizes0[x], sizes1[x] = west0, west1
		a0 = (middle(a0, b0, c0) + err0) & mask
		a1 = (middle(a1, b1, c1) + err1) & mask
		row0[x], row1[x] = a0, a1
	}
	return true
}

// weightedTwice is weighted for a row of each strand in turn.
func weightedTwice(r0, r1 *reversal) bool {
	n := len(r0.ahead)
	ahead1 := r1.ahead[:n]
	row0, sizes0, row1, sizes1 := r0.row[:n], r0.sizes[:n], r1.row[:n], r1.sizes[:n]
	errs, moods := r0.errs, r0.moods
	a0, aa0, west0, a1, aa1, west1 := r0.a, r0.aa, int32(0), r1.a, r1.aa, int32(0)
	for x := range r0.ahead {
		o0, o1 := &r0.ahead[x], &ahead1[x]
		q0 := moods.of(o0.lively+abs(o0.corner-a0)+2*west0) & (contexts - 1)
		q1 := moods.of(o1.lively+abs(o1.corner-a1)+2*west1) & (contexts - 1)
		at0, at1 := r0.next[q0], r1.next[q1]
		if uint(at0) >= uint(len(errs)) || uint(at1) >= uint(len(errs)) {
			return false
		}
		r0.next[q0], r1.next[q1] = at0+1, at1+1
		err0, err1 := int32(errs[at0]), int32(errs[at1])
		west0, west1 = abs(err0), abs(err1)
		sizes0[x], sizes1[x] = west0, west1
		s0, s1 := r0.w0*a0+r0.w3*aa0+o0.base, r0.w0*a1+r0.w3*aa1+o1.base
		aa0, aa1 = a0, a1
		a0 = (min(max(s0>>weightBits, r0.lo), r0.hi) + err0) & r0.mask
		a1 = (min(max(s1>>weightBits, r0.lo), r0.hi) + err1) & r0.mask
		row0[x], row1[x] = a0, a1
	}
	return true
}
