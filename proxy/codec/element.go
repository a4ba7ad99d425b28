package codec

import (
	"encoding/binary"
	"fmt"
	"io"
)

// readError explains why an object could not be read as far as its size says.
func readError(err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // an io.ReaderAt returns EOF itself
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read the object: %w", err)
}

// element reads the head of the element at a place and returns where its value begins.
func (s *scanner) element(at int64) (element, int64, error) {
	if s.elements++; s.elements > maxElements {
		return element{}, 0, errOdd
	}
	b, err := s.bytes(at, 8)
	if err != nil {
		return element{}, 0, err
	}
	o := s.order()
	if at >= 132 && binary.LittleEndian.Uint16(b) == 2 && isVR(b[4], b[5]) {
		o = binary.LittleEndian // the file meta information is always explicit little endian (PS3.10 §7.1)
	} else if s.implicit || o.Uint16(b) == 0xFFFE {
		return element{tag: tagOf(o, b), length: o.Uint32(b[4:])}, at + 8, nil
	}
	e := element{tag: tagOf(o, b), vr: [2]byte{b[4], b[5]}}
	switch string(e.vr[:]) {
	case "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FL", "FD", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US":
		e.length = uint32(o.Uint16(b[6:]))
		return e, at + 8, nil
	case "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV":
		if b, err = s.bytes(at+8, 4); err != nil {
			return element{}, 0, err
		}
		e.length = o.Uint32(b)
		return e, at + 12, nil
	}
	return element{}, 0, errOdd
}

func tagOf(o binary.ByteOrder, b []byte) uint32 {
	return uint32(o.Uint16(b))<<16 | uint32(o.Uint16(b[2:]))
}

// after returns the place behind a value of known length.
func (s *scanner) after(value int64, length uint32) (int64, error) {
	end := value + int64(length)
	if length == undefinedLength || end > s.size {
		return 0, errOdd
	}
	return end, nil
}

// skip returns the place behind an element.
func (s *scanner) skip(e element, value int64, depth int) (int64, error) {
	if e.length != undefinedLength {
		return s.after(value, e.length)
	}
	if string(e.vr[:]) == "UN" {
		// A sequence of unknown VR is in implicit little endian inside (PS3.5 §6.2.2 note 2).
		implicit, big := s.implicit, s.big
		s.implicit, s.big = true, false
		defer func() { s.implicit, s.big = implicit, big }()
	}
	return s.sequence(e, value, depth+1, false)
}

// sequence walks over the items of a sequence and returns the place behind it. It descends into items only where it must to find
// their end, or where it looks for waveforms.
func (s *scanner) sequence(e element, at int64, depth int, waves bool) (int64, error) {
	if depth > maxDepth {
		return 0, errOdd
	}
	end, open := s.size, e.length == undefinedLength
	if !open {
		var err error
		if end, err = s.after(at, e.length); err != nil {
			return 0, err
		}
	}
	for open || at < end {
		item, value, err := s.element(at)
		if err != nil {
			return 0, err
		}
		if item.tag == tagSequenceEnd && open {
			return value, nil
		}
		if item.tag != tagItem {
			return 0, errOdd
		}
		if at, err = s.item(item, value, depth, waves); err != nil {
			return 0, err
		}
	}
	if at != end {
		return 0, errOdd
	}
	return at, nil
}

// item returns the place behind an item.
func (s *scanner) item(e element, at int64, depth int, waves bool) (int64, error) {
	open := e.length == undefinedLength
	end := s.size
	if !open {
		var err error
		if end, err = s.after(at, e.length); err != nil || !waves {
			return end, err
		}
	}
	if waves {
		s.wave = region{}
	}
	for open || at < end {
		e, value, err := s.element(at)
		if err != nil {
			return 0, err
		}
		if e.tag == tagItemEnd && open {
			return value, nil
		}
		if waves {
			if err := s.waveform(e, value); err != nil {
				return 0, err
			}
		}
		if at, err = s.skip(e, value, depth); err != nil {
			return 0, err
		}
	}
	if at != end {
		return 0, errOdd
	}
	return at, nil
}

// waveform keeps what describes a multiplex group of a waveform (PS3.3 C.10.9).
func (s *scanner) waveform(e element, value int64) (err error) {
	switch e.tag {
	case tagWaveChannels:
		s.wave.channels, err = s.number(e, value)
	case tagWaveBits:
		s.wave.bits, err = s.number(e, value)
	case tagWaveData:
		if e.length == undefinedLength || s.wave.channels == 0 {
			return errOdd
		}
		r := s.wave
		r.offset, r.size = value, min(int64(e.length), s.size-value)
		return s.note(r)
	}
	return err
}
