package dimse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Tag is the element number of a command element; the group is always 0000.
type Tag uint16

// The elements of PS3.7 §E.1 that occur in C-ECHO, C-STORE and in telling other commands apart.
const (
	TagGroupLength           Tag = 0x0000 // UL
	TagAffectedSOPClass      Tag = 0x0002 // UI
	TagRequestedSOPClass     Tag = 0x0003 // UI
	TagCommandField          Tag = 0x0100 // US
	TagMessageID             Tag = 0x0110 // US
	TagMessageIDResponded    Tag = 0x0120 // US
	TagMoveDestination       Tag = 0x0600 // AE
	TagPriority              Tag = 0x0700 // US
	TagDataSetType           Tag = 0x0800 // US
	TagStatus                Tag = 0x0900 // US
	TagOffendingElement      Tag = 0x0901 // AT, many
	TagErrorComment          Tag = 0x0902 // LO
	TagErrorID               Tag = 0x0903 // US
	TagAffectedSOPInstance   Tag = 0x1000 // UI
	TagRequestedSOPInstance  Tag = 0x1001 // UI
	TagEventType             Tag = 0x1002 // US
	TagActionType            Tag = 0x1008 // US
	TagRemaining             Tag = 0x1020 // US, sub-operations
	TagCompleted             Tag = 0x1021 // US, sub-operations
	TagFailed                Tag = 0x1022 // US, sub-operations
	TagWarned                Tag = 0x1023 // US, sub-operations
	TagMoveOriginatorAE      Tag = 0x1030 // AE
	TagMoveOriginatorMessage Tag = 0x1031 // US
)

// String returns the tag as (0000,0100).
func (t Tag) String() string { return fmt.Sprintf("(0000,%04X)", uint16(t)) }

// maxElements bounds the elements of one command set; PS3.7 defines fewer than 40.
const maxElements = 128

// elementHeader: group (2), element (2), length (4), little-endian.
const elementHeader = 8

// Element is one element of a command set, its value as on the wire.
type Element struct {
	Tag   Tag
	Value []byte
}

// Set is a command set, in the order of its tags and without the group length, which is computed.
type Set struct {
	elements []Element
}

// errShort means that an element is cut off.
var errShort = errors.New("a command element is cut off")

// Decode decodes a command set. Values are views into b. The group length is not believed, since some old devices get it wrong; the
// set ends where b ends.
func Decode(b []byte) (Set, error) {
	var s Set
	for first := true; len(b) > 0; first = false {
		if len(b) < elementHeader {
			return Set{}, errShort
		}
		group, tag, n := binary.LittleEndian.Uint16(b), Tag(binary.LittleEndian.Uint16(b[2:])), binary.LittleEndian.Uint32(b[4:])
		b = b[elementHeader:]
		switch {
		case group != 0:
			return Set{}, fmt.Errorf("an element of group %04X in a command set", group)
		case uint64(n) > uint64(len(b)):
			return Set{}, errShort
		case len(s.elements) == maxElements:
			return Set{}, fmt.Errorf("more than %d elements in a command set", maxElements)
		}
		if _, twice := s.value(tag); twice {
			return Set{}, fmt.Errorf("element %s occurs twice", tag)
		}
		if tag == TagGroupLength {
			if !first {
				return Set{}, errors.New("the group length is not the first element")
			}
		} else {
			s.insert(Element{Tag: tag, Value: b[:n:n]})
		}
		b = b[n:]
	}
	if _, ok := s.US(TagCommandField); !ok {
		return Set{}, fmt.Errorf("element %s, the command, is missing", TagCommandField)
	}
	return s, nil
}

// Encode returns the command set with its group length in front.
func (s *Set) Encode() []byte {
	n := 0
	for _, e := range s.elements {
		n += elementHeader + len(e.Value)
	}
	b := make([]byte, 0, elementHeader+4+n)
	b = appendElement(b, TagGroupLength, binary.LittleEndian.AppendUint32(nil, uint32(n)))
	for _, e := range s.elements {
		b = appendElement(b, e.Tag, e.Value)
	}
	return b
}

func appendElement(b []byte, t Tag, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(t))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

// Elements returns the elements in the order of their tags. They must not be changed.
func (s *Set) Elements() []Element { return s.elements }

// US returns an unsigned 16-bit value.
func (s *Set) US(t Tag) (uint16, bool) {
	v, ok := s.value(t)
	if !ok || len(v) != 2 {
		return 0, false
	}
	return binary.LittleEndian.Uint16(v), true
}

// Text returns a UI, AE or LO value without its padding; absent is empty.
func (s *Set) Text(t Tag) string {
	v, _ := s.value(t)
	return strings.Trim(string(v), " \x00")
}

// SetUS sets an unsigned 16-bit value.
func (s *Set) SetUS(t Tag, v uint16) { s.put(t, binary.LittleEndian.AppendUint16(nil, v)) }

// SetUI sets a UID, padded with NUL to even length; empty removes it.
func (s *Set) SetUI(t Tag, v string) { s.putText(t, v, 0) }

// SetText sets an AE or LO value, padded with a space to even length; empty removes it.
func (s *Set) SetText(t Tag, v string) { s.putText(t, v, ' ') }

func (s *Set) putText(t Tag, v string, pad byte) {
	if v == "" {
		s.remove(t)
		return
	}
	b := []byte(v)
	if len(b)%2 == 1 {
		b = append(b, pad)
	}
	s.put(t, b)
}

// CommandField returns what kind of message this is.
func (s *Set) CommandField() Command {
	v, _ := s.US(TagCommandField)
	return Command(v)
}

// MessageID returns the ID of a request; responses carry it in TagMessageIDResponded.
func (s *Set) MessageID() uint16 {
	v, _ := s.US(TagMessageID)
	return v
}

// HasDataSet reports whether a data set follows (PS3.7 table E.1-1: every value but 0101H says so).
func (s *Set) HasDataSet() bool {
	v, ok := s.US(TagDataSetType)
	return ok && v != noDataSet
}

func (s *Set) value(t Tag) ([]byte, bool) {
	for _, e := range s.elements {
		if e.Tag == t {
			return e.Value, true
		}
	}
	return nil, false
}

func (s *Set) put(t Tag, v []byte) {
	s.remove(t)
	s.insert(Element{Tag: t, Value: v})
}

// insert keeps the order of tags. Sets come in order, so that it is nearly always an append.
func (s *Set) insert(e Element) {
	i := len(s.elements)
	for i > 0 && s.elements[i-1].Tag > e.Tag {
		i--
	}
	s.elements = append(s.elements, Element{})
	copy(s.elements[i+1:], s.elements[i:])
	s.elements[i] = e
}

func (s *Set) remove(t Tag) {
	for i, e := range s.elements {
		if e.Tag == t {
			s.elements = append(s.elements[:i], s.elements[i+1:]...)
			return
		}
	}
}
