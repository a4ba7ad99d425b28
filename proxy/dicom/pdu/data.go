package pdu

import "encoding/binary"

// PDVHeaderSize is what stands before a fragment: item length (4), presentation context ID (1), message control header (1), in bytes.
const PDVHeaderSize = 6

// DataOverhead is what AppendDataHeader adds to a payload: the PDU header and one PDV header.
const DataOverhead = HeaderSize + PDVHeaderSize

// PDV is the head of one presentation data value: a fragment of a message (PS3.8 §9.3.5.1, annex E).
//
//	 0 .. 3                        4            5           6 ..
//	+---------------------------+------------+-----------+-----------+
//	| length of what follows    | context ID | control   | fragment  |
//	+---------------------------+------------+-----------+-----------+
//	                                          bit 0: command, not data set
//	                                          bit 1: last fragment
type PDV struct {
	ContextID uint8
	// Command is true for a fragment of a command set, false for one of a data set.
	Command bool
	// Last marks the last fragment of a command set or data set.
	Last bool
	// Length is the size of the fragment in bytes, without the header.
	Length uint32
}

// MaxFragment returns the largest even fragment that fits a P-DATA-TF body of maxLength bytes, our own limit being own. A
// maxLength of 0 means that the peer has no limit (PS3.8 §D.1); one too small for two bytes of payload is no usable limit and
// yields 2.
func MaxFragment(maxLength, own uint32) int {
	n := own
	if maxLength != 0 {
		n = min(n, maxLength)
	}
	if n < PDVHeaderSize+2 {
		return 2
	}
	return int((n - PDVHeaderSize) &^ 1)
}

// PutDataHeader writes the twelve bytes before a fragment into b: the head of a P-DATA-TF with one PDV.
func PutDataHeader(b []byte, v PDV) {
	_ = b[DataOverhead-1]
	b[0], b[1] = byte(TypeData), 0
	binary.BigEndian.PutUint32(b[2:], v.Length+PDVHeaderSize)
	binary.BigEndian.PutUint32(b[6:], v.Length+2)
	b[10] = v.ContextID
	b[11] = bit(v.Command) | bit(v.Last)<<1
}

// DecodePDV decodes the head of a fragment. Whether it fits its PDU is for the caller to see.
func DecodePDV(b [PDVHeaderSize]byte) (PDV, error) {
	n := binary.BigEndian.Uint32(b[:])
	if n < 2 {
		return PDV{}, invalid("a presentation data value claims %d bytes, less than its own header", n)
	}
	return PDV{ContextID: b[4], Command: b[5]&1 != 0, Last: b[5]&2 != 0, Length: n - 2}, nil
}
