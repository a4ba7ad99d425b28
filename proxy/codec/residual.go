package codec

import "math/bits"

// The contexts of a component: errors of samples are sorted by how lively their neighborhood is.
const (
	contextBits = 6
	contexts    = 1 << contextBits
	tokens      = 64 // classes of errors
)

// linear holds weights in 1/1024 of what differs from the sample above: of the samples to the left, above left, above right, second to
// the left and second above.
type linear [5]int32

const (
	weightBits = 10
	maxWeight  = 4 << weightBits
)

// predictorKind says how a predictor works.
type predictorKind byte

const (
	medianKind   predictorKind = iota // the median edge detector of JPEG-LS (ISO 14495-1 A.4.1)
	linearKind                        // weights
	directedKind                      // weights by the direction of edges
)

// directions are how many kinds of neighborhoods there are: none in particular, and edges along and across the rows.
const directions = 3

// predictor says how the samples of a component are predicted.
type predictor struct {
	kind   predictorKind
	w      [directions]linear // linearKind uses the first
	lo, hi int32              // predictions by weights are kept within
}

// direction compares the differences along the rows with those across them: 2 if along is more than twice across, 1 if across is more than
// twice along, else 0. It does not branch: nobody could guess the way. Both are at least 0 and below 1<<29.
func direction(along, across int32) int {
	return int((2*across-along)>>31&2 | (2*along-across)>>31&1)
}

// median fills in the errors of a row: the prediction is the middle one of left, above, and left + above - above left.
func median(errs, cur, up []int32) {
	n := len(errs)
	x0, a0 := cur[pad:][:n], cur[pad-1:][:n]
	b0, c0 := up[pad:][:n], up[pad-1:][:n]
	for x := range errs {
		a, b := a0[x], b0[x]
		errs[x] = x0[x] - middle(a, b, c0[x])
	}
}

// weighted fills in the errors of a row for a linear predictor.
func (p *predictor) weighted(errs, cur, up, up2 []int32) {
	n := len(errs)
	x0, a0, e0 := cur[pad:][:n], cur[pad-1:][:n], cur[pad-2:][:n]
	b0, c0, d0 := up[pad:][:n], up[pad-1:][:n], up[pad+1:][:n]
	f0 := up2[pad:][:n]
	w, lo, hi := p.w[0], p.lo, p.hi
	for x := range errs {
		b := b0[x]
		s := w[0]*(a0[x]-b) + w[1]*(c0[x]-b) + w[2]*(d0[x]-b) + w[3]*(e0[x]-b) + w[4]*(f0[x]-b)
		errs[x] = x0[x] - min(max(b+(s+1<<(weightBits-1))>>weightBits, lo), hi)
	}
}

// middle is the median edge detector: the middle one of a, b and a + b - c. It does not branch, since in noise nobody could guess the way.
func middle(a, b, c int32) int32 {
	d := a - b
	d &= d >> 31
	low, high := b+d, a-d
	v := a + b - c - low
	v &^= v >> 31
	v += low - high
	return high + v&(v>>31)
}

func abs(v int32) int32 {
	s := v >> 31
	return (v ^ s) - s
}

// context returns the context of a liveliness: four to the octave, merged by shift.
func context(lively int32, shift uint) uint {
	s := uint32(4*lively + 8)
	l := uint(bits.Len32(s))
	return min((l-4)<<2+uint(s>>((l-3)&31))&3, contexts-1) >> (shift & 7)
}

// moods is a table of the contexts of all but the liveliest neighborhoods.
type moods struct {
	table [4096]uint8
	shift uint
	made  bool
}

// use makes the table for a shift.
func (m *moods) use(shift uint) {
	if m.made && m.shift == shift {
		return
	}
	m.shift, m.made = shift, true
	for i := range m.table {
		m.table[i] = uint8(context(int32(i), shift))
	}
}

// of is the function context, by the table where possible.
func (m *moods) of(lively int32) uint {
	if uint(lively) < uint(len(m.table)) {
		return uint(m.table[lively])
	}
	return context(lively, m.shift)
}

// scale says how errors become tokens: values up to 1<<direct have their own, above that there are 1<<mantissa to the octave, and the
// rest of the bits follows as it is.
type scale struct {
	direct, mantissa uint
}

// scaleOf returns the scale for samples of 1 or 2 bytes. Both need fewer than [tokens].
func scaleOf(bytes int) scale {
	if bytes == 1 {
		return scale{5, 3}
	}
	return scale{4, 2}
}

// token returns the token of a folded error, and how many bits follow.
func (s scale) token(u uint32) (token, rest uint) {
	if u < 1<<s.direct {
		return uint(u), 0
	}
	n := uint(bits.Len32(u) - 1)
	return 1<<s.direct + (n-s.direct)<<s.mantissa + uint(u>>(n-s.mantissa))&(1<<s.mantissa-1), n - s.mantissa
}

// value returns the smallest folded error of a token, and how many bits are to be added. It is the inverse of token.
func (s scale) value(token uint) (u uint32, rest uint) {
	if token < 1<<s.direct {
		return uint32(token), 0
	}
	token -= 1 << s.direct
	n := s.direct + token>>s.mantissa
	return uint32(1<<s.mantissa+token&(1<<s.mantissa-1)) << (n - s.mantissa), n - s.mantissa
}
