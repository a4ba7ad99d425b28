package codec

import (
	"encoding/binary"
	"fmt"
)

// curvesBigEndian is set in the first byte of a payload of curves, which else holds how many bytes a sample has.
const curvesBigEndian = 0x80

// appendCurves codes a waveform channel by channel: the differences from instant to instant, first their lower bytes and then their
// upper ones, through zstd. Devices scale and combine channels, so differences repeat: that is where this beats prediction.
func (w *worker) appendCurves(dst, raw []byte, v *view) []byte {
	first := byte(v.bytes)
	if v.bigEndian {
		first |= curvesBigEndian
	}
	dst = binary.AppendUvarint(append(dst, first), uint64(v.rows))
	w.out = grow(w.out, len(raw))
	n := len(raw) / v.bytes
	row := grow(w.row, v.width)
	w.row = row
	for y := range v.rows {
		v.get(row, raw, 0, 0, y)
		low, last := w.out[y*v.width:][:v.width], int32(0)
		high := w.out[n*(v.bytes-1)+y*v.width:][:v.width]
		for x, s := range row {
			e := s - last
			last = s
			if v.bytes == 1 {
				low[x] = byte(fold(int32(int8(e))))
				continue
			}
			u := fold(int32(int16(e)))
			low[x], high[x] = byte(u), byte(u>>8)
		}
	}
	return w.zip.EncodeAll(w.out, dst)
}

// appendUncurved is the inverse of appendCurves.
func (w *worker) appendUncurved(dst, payload []byte, size int) ([]byte, error) {
	r := reader{b: payload}
	first, channels := r.byte(), r.length(size)
	v := view{shape: shape{bytes: int(first &^ curvesBigEndian), rows: channels, comps: 1, transposed: true}, bigEndian: first&curvesBigEndian != 0}
	if r.bad || v.bytes < 1 || v.bytes > 2 || channels == 0 || size%(channels*v.bytes) != 0 {
		return dst, fmt.Errorf("%w: channels", ErrCorrupt)
	}
	v.width = size / channels / v.bytes
	planes, err := w.inflate(w.try[:0], r.b, size)
	if err != nil {
		return dst, err
	}
	w.try = planes
	at := len(dst)
	dst = reserve(dst, size)[:at+size]
	n := size / v.bytes
	row := grow(w.row, v.width)
	w.row = row
	for y := range v.rows {
		low, high := planes[y*v.width:][:v.width], planes[n*(v.bytes-1)+y*v.width:][:v.width]
		last := int32(0)
		for x := range row {
			u := uint32(low[x])
			if v.bytes == 2 {
				u |= uint32(high[x]) << 8
			}
			last += unfold(u)
			row[x] = last
		}
		v.put(row, dst[at:], 0, 0, y)
	}
	return dst, nil
}

// fold makes small errors of both signs small numbers: 0, -1, 1, -2, 2 become 0, 1, 2, 3, 4.
func fold(e int32) uint32 { return uint32(e<<1 ^ e>>31) }

// unfold is the inverse of fold.
func unfold(u uint32) int32 { return int32(u>>1) ^ -int32(u&1) }
