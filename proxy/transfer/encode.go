package transfer

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"
)

// errMalformed is a message that no peer of ours sends.
var errMalformed = errors.New("the peer sent a malformed message")

// Numbers are big-endian, texts have a length of two bytes before them.

func appendText(b []byte, s string) []byte {
	s = s[:min(len(s), 0xffff)]
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendBytes(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.BigEndian.AppendUint64(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixNano()))
}

func appendAttributes(b []byte, m map[string]string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = appendText(appendText(b, k), m[k])
	}
	return b
}

// decoder reads what those write. After the first mistake it is bad and returns zero values.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if v := d.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// size is a length or an offset of a payload.
func (d *decoder) size() int64 {
	v := d.u64()
	if v > MaxItem {
		d.bad = true
		return 0
	}
	return int64(v)
}

func (d *decoder) text(limit int) string {
	n := int(d.u16())
	if n > limit {
		d.bad = true
	}
	return string(d.take(n))
}

func (d *decoder) bytes(limit int) []byte {
	n := d.u32()
	if uint64(n) > uint64(limit) {
		d.bad = true
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) digest() (v [sha256.Size]byte) {
	copy(v[:], d.take(len(v)))
	return v
}

// time returns zero for what was zero.
func (d *decoder) time() time.Time {
	n := d.u64()
	if n == 0 || d.bad {
		return time.Time{}
	}
	return time.Unix(0, int64(n)).UTC()
}

func (d *decoder) attributes() map[string]string {
	n := int(d.u16())
	if n > maxAttributeCount {
		d.bad = true
	}
	if n == 0 || d.bad {
		return nil
	}
	m := make(map[string]string, n)
	for range n {
		k := d.text(MaxAttributes)
		m[k] = d.text(MaxAttributes)
	}
	if len(m) != n {
		d.bad = true
	}
	return m
}

// end wants that nothing is left.
func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return errMalformed
	}
	return nil
}
