package codec

import "encoding/binary"

// view says how the samples of a block become numbers that are easy to predict. All of it is found by looking at the samples, so a
// wrong declaration costs size at most.
type view struct {
	shape
	bigEndian bool
	flipped   bool     // the top bit is inverted: signed numbers become ascending
	green     bool     // three components: what differs from the second one, and that one first
	levels    []uint16 // a sample is an index into these; nil if the numbers themselves are coded
	ranks     []uint16 // the inverse of levels
}

func (v *view) half() int32 { return 1 << (8*v.bytes - 1) }
func (v *view) mask() int32 { return 1<<(8*v.bytes) - 1 }

// flip returns the bit that is inverted.
func (v *view) flip() int {
	if v.flipped {
		return int(v.half())
	}
	return 0
}

// order returns the component that is coded in place of the nth: green comes first, the others refer to it.
func (v *view) order(n int) int {
	if v.green && n < 2 {
		return 1 - n
	}
	return n
}

// get returns width samples of a row as they are stored.
func (v *view) get(dst []int32, raw []byte, frame, comp, y int) {
	offset, stride := v.row(frame, comp, y)
	switch {
	case v.bytes == 1 && stride == 1:
		src := raw[offset:][:len(dst)]
		for x := range dst {
			dst[x] = int32(src[x])
		}
	case v.bytes == 1:
		for x := range dst {
			dst[x] = int32(raw[offset+x*stride])
		}
	case v.bigEndian:
		for x := range dst {
			dst[x] = int32(binary.BigEndian.Uint16(raw[2*(offset+x*stride):]))
		}
	case stride == 1:
		src := raw[2*offset:][:2*len(dst)]
		for len(dst) >= 4 && len(src) >= 8 {
			four := binary.LittleEndian.Uint64(src)
			dst[0], dst[1], dst[2], dst[3] = int32(four&0xFFFF), int32(four>>16&0xFFFF), int32(four>>32&0xFFFF), int32(four>>48)
			dst, src = dst[4:], src[8:]
		}
		for x := range dst {
			dst[x] = int32(binary.LittleEndian.Uint16(src[2*x:]))
		}
	default:
		for x := range dst {
			dst[x] = int32(binary.LittleEndian.Uint16(raw[2*(offset+x*stride):]))
		}
	}
}

// put is the inverse of get.
func (v *view) put(src []int32, raw []byte, frame, comp, y int) {
	offset, stride := v.row(frame, comp, y)
	switch {
	case v.bytes == 1:
		for x := range src {
			raw[offset+x*stride] = byte(src[x])
		}
	case v.bigEndian:
		for x := range src {
			binary.BigEndian.PutUint16(raw[2*(offset+x*stride):], uint16(src[x]))
		}
	case stride == 1:
		dst := raw[2*offset:][:2*len(src)]
		for x := range src {
			binary.LittleEndian.PutUint16(dst, uint16(src[x]))
			dst = dst[2:]
		}
	default:
		for x := range src {
			binary.LittleEndian.PutUint16(raw[2*(offset+x*stride):], uint16(src[x]))
		}
	}
}

// forward turns stored samples of a component into the numbers that are predicted. ref holds the stored samples of the green component.
func (v *view) forward(row, ref []int32, comp int) {
	switch {
	case v.green && comp != 1:
		half, mask := v.half(), v.mask()
		for x := range row {
			row[x] = (row[x] - ref[x] + half) & mask
		}
	case v.flipped:
		half := v.half()
		for x := range row {
			row[x] ^= half
		}
	}
	if v.ranks != nil {
		for x := range row {
			row[x] = int32(v.ranks[row[x]])
		}
	}
}

// backward is the inverse of forward. It reports false for a number that has no level.
func (v *view) backward(row, ref []int32, comp int) bool {
	if v.levels != nil {
		for x := range row {
			if int(row[x]) >= len(v.levels) {
				return false
			}
			row[x] = int32(v.levels[row[x]])
		}
	}
	switch {
	case v.green && comp != 1:
		half, mask := v.half(), v.mask()
		for x := range row {
			row[x] = (row[x] + ref[x] - half) & mask
		}
	case v.flipped:
		half := v.half()
		for x := range row {
			row[x] ^= half
		}
	}
	return true
}

// pad is how many samples beyond each end of a row a predictor may look at.
const pad = 2

// lane is what is remembered of a component: the present row and two above it, padded on both sides, and the sizes of the errors of
// the present row and the one above, with one of padding on each side.
type lane struct {
	cur, up, up2 []int32
	errs, errsUp []int32
	numbers      [3][]int32
	size         [2][]int32
}

func (l *lane) reset(width int) {
	for i := range l.numbers {
		l.numbers[i] = grow(l.numbers[i], width+2*pad)
		clear(l.numbers[i])
	}
	for i := range l.size {
		l.size[i] = grow(l.size[i], width+2)
		clear(l.size[i])
	}
	l.cur, l.up, l.up2 = l.numbers[0], l.numbers[1], l.numbers[2]
	l.errs, l.errsUp = l.size[0], l.size[1]
}

// row returns the present row without its padding.
func (l *lane) row() []int32 { return l.cur[pad : len(l.cur)-pad] }

// begin sets the padding on the left, from the row above.
func (l *lane) begin(y int) {
	if y == 0 {
		clear(l.up)
		clear(l.errsUp)
		l.cur[0], l.cur[1] = 0, 0
		return
	}
	l.cur[0], l.cur[1] = l.up[pad], l.up[pad]
}

// end sets the padding on the right and goes to the next row.
func (l *lane) end(y int) {
	n := len(l.cur)
	l.cur[n-1], l.cur[n-2] = l.cur[n-3], l.cur[n-3]
	l.cur, l.up, l.up2 = l.up2, l.cur, l.up
	if y == 0 {
		copy(l.up2, l.up)
	}
	l.errs, l.errsUp = l.errsUp, l.errs
}

// grow returns a slice of n elements, s if it is large enough.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
