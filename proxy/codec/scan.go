package codec

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// The limits of the scanner. What lies behind one is opaque.
const (
	maxDepth     = 16      // of nested sequences
	maxElements  = 200_000 // at all depths together
	maxMetaGroup = 1 << 20 // bytes of file meta information
	scanWindow   = 4 << 10 // bytes read at a time
	maxScanned   = 8 << 20 // bytes read from the object in all
	maxValue     = 64      // bytes of a value that is looked at
	maxRegions   = 256     // with samples
)

// Transfer syntaxes with uncompressed pixels (PS3.5 A.1, A.2, A.3).
const (
	implicitLittle = "1.2.840.10008.1.2"
	explicitLittle = "1.2.840.10008.1.2.1"
	explicitBig    = "1.2.840.10008.1.2.2"
)

// Tags that the scanner knows.
const (
	tagTransferSyntax  = 0x0002_0010
	tagSamplesPerPixel = 0x0028_0002
	tagPlanar          = 0x0028_0006
	tagRows            = 0x0028_0010
	tagColumns         = 0x0028_0011
	tagBitsAllocated   = 0x0028_0100
	tagWaveforms       = 0x5400_0100
	tagWaveChannels    = 0x003A_0005
	tagWaveBits        = 0x5400_1004
	tagWaveData        = 0x5400_1010
	tagFloatPixels     = 0x7FE0_0008
	tagDoublePixels    = 0x7FE0_0009
	tagPixels          = 0x7FE0_0010
	tagItem            = 0xFFFE_E000
	tagItemEnd         = 0xFFFE_E00D
	tagSequenceEnd     = 0xFFFE_E0DD
)

const undefinedLength = 0xFFFF_FFFF

// errOdd means that the scanner does not understand the object from some place on. It never leaves the package: what was found before
// that place is used, the rest is opaque.
var errOdd = errors.New("not understood")

// region is a part of an object that holds samples: pixels if channels is 0, else a waveform.
type region struct {
	offset, size int64
	bits         int // allocated for a sample
	rows, cols   int
	comps        int // samples per pixel
	planar       bool
	channels     int
}

// findings are what the scanner learns of an object.
type findings struct {
	compressed bool // the transfer syntax is a compressed one
	regions    []region
}

// element is the head of a data element.
type element struct {
	tag    uint32
	vr     [2]byte
	length uint32
}

// scanner walks over the heads of the elements of an object and reads hardly any value.
type scanner struct {
	r        io.ReaderAt
	size     int64
	window   []byte
	start    int64 // of window
	scanned  int64
	elements int
	big      bool
	implicit bool
	image    region
	wave     region
	found    []region
}

// scan looks for samples in an object. Read errors of r are returned, nothing else is an error.
func scan(r io.ReaderAt, size int64, syntax string) (findings, error) {
	s := scanner{r: r, size: size}
	f, err := s.object(syntax)
	f.regions = s.found
	if errors.Is(err, errOdd) {
		return f, nil
	}
	return f, err
}

func (s *scanner) object(syntax string) (findings, error) {
	at, meta, err := s.meta()
	if err != nil {
		return findings{}, err
	}
	if meta != "" {
		syntax = meta
	}
	switch syntax {
	case implicitLittle:
		s.implicit = true
	case explicitLittle:
	case explicitBig:
		s.big = true
	case "":
		if s.implicit, err = s.looksImplicit(at); err != nil {
			return findings{}, err
		}
	default:
		return findings{compressed: true}, nil
	}
	s.image = region{comps: 1}
	return findings{}, s.dataSet(at)
}

// meta reads preamble and file meta information, if they are there, and returns where the data set begins.
func (s *scanner) meta() (at int64, syntax string, err error) {
	b, err := s.bytes(128, 4)
	if errors.Is(err, errOdd) || err == nil && string(b) != "DICM" {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	for at = 132; ; {
		if at > maxMetaGroup {
			return 0, "", errOdd
		}
		b, err := s.bytes(at, 2)
		if err != nil {
			return 0, "", err
		}
		if binary.LittleEndian.Uint16(b) != 2 {
			return at, syntax, nil
		}
		e, value, err := s.element(at)
		if err != nil {
			return 0, "", err
		}
		if e.tag == tagTransferSyntax {
			if e.length > maxValue {
				return 0, "", errOdd
			}
			b, err := s.bytes(value, int(e.length))
			if err != nil {
				return 0, "", err
			}
			syntax = strings.TrimRight(string(b), "\x00 ")
		}
		if at, err = s.after(value, e.length); err != nil {
			return 0, "", err
		}
	}
}

// looksImplicit guesses the syntax of a data set of which nothing is known.
func (s *scanner) looksImplicit(at int64) (bool, error) {
	b, err := s.bytes(at, 8)
	if err != nil {
		return false, err
	}
	return !isVR(b[4], b[5]), nil
}

func isVR(a, b byte) bool {
	return 'A' <= a && a <= 'Z' && 'A' <= b && b <= 'Z'
}

// dataSet walks over the elements of the top level.
func (s *scanner) dataSet(at int64) error {
	for last := uint32(0); at < s.size; {
		e, value, err := s.element(at)
		if err != nil {
			return err
		}
		if e.tag <= last {
			return errOdd // elements are in ascending order (PS3.5 §7.1): we are lost
		}
		last = e.tag
		switch e.tag {
		case tagPixels, tagFloatPixels, tagDoublePixels:
			if at, err = s.pixels(e, value); err != nil {
				return err
			}
			continue
		case tagRows, tagColumns, tagBitsAllocated, tagSamplesPerPixel, tagPlanar:
			if err := s.geometry(e, value); err != nil {
				return err
			}
		case tagWaveforms:
			if at, err = s.sequence(e, value, 1, true); err != nil {
				return err
			}
			continue
		}
		if at, err = s.skip(e, value, 0); err != nil {
			return err
		}
	}
	return nil
}

// pixels notes where the pixels are. Their declared length may be wrong: what is there counts.
func (s *scanner) pixels(e element, value int64) (int64, error) {
	if e.length == undefinedLength {
		return 0, errOdd // encapsulated, against what the syntax says
	}
	r := s.image
	switch e.tag {
	case tagFloatPixels:
		r.bits = 32
	case tagDoublePixels:
		r.bits = 64
	}
	r.offset, r.size = value, min(int64(e.length), s.size-value)
	return value + r.size, s.note(r)
}

func (s *scanner) note(r region) error {
	if len(s.found) == maxRegions {
		return errOdd
	}
	s.found = append(s.found, r)
	return nil
}

// geometry keeps one of the numbers that describe the image. All of them are US (PS3.3 C.7.6.3).
func (s *scanner) geometry(e element, value int64) error {
	v, err := s.number(e, value)
	if err != nil {
		return err
	}
	switch e.tag {
	case tagRows:
		s.image.rows = v
	case tagColumns:
		s.image.cols = v
	case tagBitsAllocated:
		s.image.bits = v
	case tagSamplesPerPixel:
		s.image.comps = v
	case tagPlanar:
		s.image.planar = v == 1
	}
	return nil
}

// number reads a US value.
func (s *scanner) number(e element, value int64) (int, error) {
	if e.length != 2 {
		return 0, errOdd
	}
	b, err := s.bytes(value, 2)
	if err != nil {
		return 0, err
	}
	return int(s.order().Uint16(b)), nil
}

// order returns the byte order of the data set.
func (s *scanner) order() binary.ByteOrder {
	if s.big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// bytes returns n ≤ scanWindow bytes of the object, valid until the next call.
func (s *scanner) bytes(at int64, n int) ([]byte, error) {
	if at < 0 || at+int64(n) > s.size {
		return nil, errOdd
	}
	if at < s.start || at+int64(n) > s.start+int64(len(s.window)) {
		if s.scanned += scanWindow; s.scanned > maxScanned {
			return nil, errOdd
		}
		if s.window == nil {
			s.window = make([]byte, scanWindow)
		}
		s.window = s.window[:min(scanWindow, s.size-at)]
		if got, err := s.r.ReadAt(s.window, at); got < len(s.window) {
			s.window = s.window[:0]
			return nil, readError(err)
		}
		s.start = at
	}
	return s.window[at-s.start:][:n], nil
}
