package dicom

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
)

// Tags that this package reads in data sets (PS3.6).
const (
	tagSOPClass          = 0x0008_0016
	tagSOPInstance       = 0x0008_0018
	tagStudyDate         = 0x0008_0020
	tagStudyTime         = 0x0008_0030
	tagQueryLevel        = 0x0008_0052
	tagModalities        = 0x0008_0061
	tagRefSOPClass       = 0x0008_1150
	tagRefSOPInstance    = 0x0008_1155
	tagTransaction       = 0x0008_1195
	tagFailureReason     = 0x0008_1197
	tagFailedSequence    = 0x0008_1198
	tagRefSequence       = 0x0008_1199
	tagStudyInstance     = 0x0020_000D
	tagSeriesInstance    = 0x0020_000E
	tagStudyInstances    = 0x0020_1208
	tagProcedurePriority = 0x0040_1003
	tagItem              = 0xFFFE_E000
	tagItemEnd           = 0xFFFE_E00D
	tagSequenceEnd       = 0xFFFE_E0DD
	undefinedLength      = 0xFFFF_FFFF
	maxSequenceDepth     = 16
	identifyPrefix       = 64 << 10 // bytes of a data set that are looked at
	bigEndianExplicit    = "1.2.840.10008.1.2.2"
	privateGEImplicitBE  = "1.2.840.113619.5.2" // only its pixels are big-endian
)

var (
	errCutElement = errors.New("a data element is cut off")
	errNested     = errors.New("sequences are nested too deeply")
	errNoItem     = errors.New("something other than an item in a sequence")
)

// encoding is how a data set is written (PS3.5 §7.1 and annex A).
type encoding struct {
	explicit bool
	order    binary.ByteOrder
}

func encodingOf(transferSyntax string) encoding {
	switch transferSyntax {
	case ImplicitLittleEndian, privateGEImplicitBE:
		return encoding{order: binary.LittleEndian}
	case bigEndianExplicit:
		return encoding{explicit: true, order: binary.BigEndian}
	}
	return encoding{explicit: true, order: binary.LittleEndian}
}

// element is one data element; value is a view. That of a sequence holds its items without the final delimiter.
type element struct {
	tag   uint32
	value []byte
}

func (e element) text() string { return strings.Trim(string(e.value), " \x00") }

// elements reads data elements one after the other. It allocates nothing and looks at each byte once.
type elements struct {
	b     []byte
	enc   encoding
	depth int
}

// next returns io.EOF at the end and another error where the bytes make no sense or end in the middle.
func (s *elements) next() (element, error) {
	if len(s.b) == 0 {
		return element{}, io.EOF
	}
	e, inner, n, head, err := s.header()
	if err != nil {
		return element{}, err
	}
	s.b = s.b[head:]
	if n != undefinedLength {
		if uint64(n) > uint64(len(s.b)) {
			return element{}, errCutElement
		}
		e.value, s.b = s.b[:n:n], s.b[n:]
		return e, nil
	}
	if e.tag == tagItem || e.tag == tagItemEnd || e.tag == tagSequenceEnd {
		return element{}, errNoItem
	}
	end, err := sequenceEnd(s.b, inner, s.depth+1)
	if err != nil {
		return element{}, err
	}
	e.value, s.b = s.b[:end], s.b[end+8:]
	return e, nil
}

// header reads tag, VR and length. inner is how the content of undefined length is written: that of UN is always implicit
// (PS3.5 §6.2.2, note 4).
func (s *elements) header() (e element, inner encoding, length uint32, size int, err error) {
	b, inner := s.b, s.enc
	if len(b) < 8 {
		return e, inner, 0, 0, errCutElement
	}
	e.tag = uint32(s.enc.order.Uint16(b))<<16 | uint32(s.enc.order.Uint16(b[2:]))
	if !s.enc.explicit || e.tag>>16 == tagItem>>16 {
		return e, inner, s.enc.order.Uint32(b[4:]), 8, nil
	}
	vr := string(b[4:6])
	if !slices.Contains([]string{"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}, vr) {
		return e, inner, uint32(s.enc.order.Uint16(b[6:])), 8, nil
	}
	if len(b) < 12 {
		return e, inner, 0, 0, errCutElement
	}
	if vr == "UN" {
		inner = encoding{order: binary.LittleEndian}
	}
	return e, inner, s.enc.order.Uint32(b[8:]), 12, nil
}

// sequenceEnd returns where the delimiter of a sequence of undefined length starts.
func sequenceEnd(b []byte, enc encoding, depth int) (int, error) {
	for at := 0; ; {
		tag, n, err := itemHeader(b[at:], enc)
		switch {
		case err != nil:
			return 0, err
		case tag == tagSequenceEnd:
			return at, nil
		case tag != tagItem:
			return 0, errNoItem
		}
		at += 8
		_, total, err := itemSize(b[at:], n, enc, depth)
		if err != nil {
			return 0, err
		}
		at += total
	}
}

func itemHeader(b []byte, enc encoding) (tag, length uint32, err error) {
	if len(b) < 8 {
		return 0, 0, errCutElement
	}
	return uint32(enc.order.Uint16(b))<<16 | uint32(enc.order.Uint16(b[2:])), enc.order.Uint32(b[4:]), nil
}

// itemSize returns the size of an item's content, and with its delimiter if it has one.
func itemSize(b []byte, length uint32, enc encoding, depth int) (size, total int, err error) {
	if length != undefinedLength {
		if uint64(length) > uint64(len(b)) {
			return 0, 0, errCutElement
		}
		return int(length), int(length), nil
	}
	if depth > maxSequenceDepth {
		return 0, 0, errNested
	}
	for s := (elements{b: b, enc: enc, depth: depth}); ; {
		at := len(b) - len(s.b)
		tag, _, err := itemHeader(s.b, enc)
		if err != nil {
			return 0, 0, err
		}
		if tag == tagItemEnd {
			return at, at + 8, nil
		}
		if _, err := s.next(); err != nil {
			return 0, 0, err
		}
	}
}

// items returns the contents of the items in the value of a sequence, as far as they make sense.
func items(b []byte, enc encoding) [][]byte {
	var out [][]byte
	for len(b) > 0 {
		tag, n, err := itemHeader(b, enc)
		if err != nil || tag != tagItem {
			return out
		}
		b = b[8:]
		size, total, err := itemSize(b, n, enc, 1)
		if err != nil {
			return out
		}
		out, b = append(out, b[:size]), b[total:]
	}
	return out
}

// place is where an object belongs: what a query at IMAGE level needs beside the instance (PS3.4 §C.4.1.2.1).
type place struct{ study, series string }

// identify reads the place of an object from the start of its data set. What cannot be found is empty.
func identify(prefix []byte, transferSyntax string) place {
	if transferSyntax == deflatedExplicit {
		inflated, _ := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(prefix)), identifyPrefix)) // it may well be cut
		prefix = inflated
	}
	var p place
	for s := (elements{b: prefix, enc: encodingOf(transferSyntax)}); ; {
		e, err := s.next()
		if err != nil || e.tag > tagSeriesInstance {
			return p
		}
		if uid := e.text(); ValidUID(uid) {
			switch e.tag {
			case tagStudyInstance:
				p.study = uid
			case tagSeriesInstance:
				p.series = uid
			}
		}
	}
}

// appendElement appends an element in Implicit VR Little Endian, which every peer must offer (PS3.5 §10.1). An odd value is padded:
// UIDs with NUL, text with a blank.
func appendElement(b []byte, tag uint32, value []byte, pad byte) []byte {
	if len(value)%2 == 1 {
		value = append(slices.Clip(value), pad)
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(tag>>16))
	b = binary.LittleEndian.AppendUint16(b, uint16(tag))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

func appendUI(b []byte, tag uint32, uid string) []byte { return appendElement(b, tag, []byte(uid), 0) }
