package pdu

import (
	"encoding/binary"
	"fmt"
)

// Type is the first byte of a PDU (PS3.8 §9.3.1).
type Type uint8

// The seven PDU types of PS3.8 §9.3.2 to §9.3.8.
const (
	TypeAssociateRQ Type = 0x01
	TypeAssociateAC Type = 0x02
	TypeAssociateRJ Type = 0x03
	TypeData        Type = 0x04
	TypeReleaseRQ   Type = 0x05
	TypeReleaseRP   Type = 0x06
	TypeAbort       Type = 0x07
)

// String returns the standard's name of the PDU.
func (t Type) String() string {
	switch t {
	case TypeAssociateRQ:
		return "A-ASSOCIATE-RQ"
	case TypeAssociateAC:
		return "A-ASSOCIATE-AC"
	case TypeAssociateRJ:
		return "A-ASSOCIATE-RJ"
	case TypeData:
		return "P-DATA-TF"
	case TypeReleaseRQ:
		return "A-RELEASE-RQ"
	case TypeReleaseRP:
		return "A-RELEASE-RP"
	case TypeAbort:
		return "A-ABORT"
	}
	return fmt.Sprintf("PDU type %02XH", uint8(t))
}

// HeaderSize is the size in bytes of the head that all PDUs share.
const HeaderSize = 6

// Header is the head of a PDU.
type Header struct {
	Type Type
	// Length counts the bytes after the header.
	Length uint32
}

// DecodeHeader reads a header. The reserved byte is not tested, as PS3.8 §9.3.1 asks.
func DecodeHeader(b [HeaderSize]byte) Header {
	return Header{Type: Type(b[0]), Length: binary.BigEndian.Uint32(b[2:])}
}

// Append appends the six bytes of the header to b.
func (h Header) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(append(b, byte(h.Type), 0), h.Length)
}

// Reason is a provider's reason for an A-ABORT (PS3.8 table 9-26). The decoding errors of this package carry the one that fits.
type Reason uint8

// The reasons of PS3.8 table 9-26. Value 3 is reserved.
const (
	ReasonNotSpecified          Reason = 0
	ReasonUnrecognizedPDU       Reason = 1
	ReasonUnexpectedPDU         Reason = 2
	ReasonUnrecognizedParameter Reason = 4
	ReasonUnexpectedParameter   Reason = 5
	ReasonInvalidParameter      Reason = 6
)

// String returns the standard's words.
func (r Reason) String() string {
	switch r {
	case ReasonNotSpecified:
		return "reason not specified"
	case ReasonUnrecognizedPDU:
		return "unrecognized PDU"
	case ReasonUnexpectedPDU:
		return "unexpected PDU"
	case ReasonUnrecognizedParameter:
		return "unrecognized PDU parameter"
	case ReasonUnexpectedParameter:
		return "unexpected PDU parameter"
	case ReasonInvalidParameter:
		return "invalid PDU parameter value"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Error says why bytes are not a valid PDU, and with which reason to abort. It never quotes the bytes.
type Error struct {
	Reason  Reason
	Message string
}

func (e *Error) Error() string { return e.Message }

func invalid(format string, args ...any) error {
	return &Error{Reason: ReasonInvalidParameter, Message: fmt.Sprintf(format, args...)}
}
