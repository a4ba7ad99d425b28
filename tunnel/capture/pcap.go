package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// The classic file format (draft-ietf-opsawg-pcap): a header of 24 bytes, then 16 bytes before each packet. Times are in nanoseconds; packets
// begin with the IP header.
const (
	pcapMagic    = 0xa1b23c4d
	pcapMajor    = 2
	pcapMinor    = 4
	linkTypeRaw  = 101
	fileHeader   = 24
	recordHeader = 16
)

func writeFileHeader(w io.Writer) error {
	b := make([]byte, fileHeader)
	binary.LittleEndian.PutUint32(b, pcapMagic)
	binary.LittleEndian.PutUint16(b[4:], pcapMajor)
	binary.LittleEndian.PutUint16(b[6:], pcapMinor)
	binary.LittleEndian.PutUint32(b[16:], MaxHeaders)
	binary.LittleEndian.PutUint32(b[20:], linkTypeRaw)
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	return nil
}

// record is one packet as it is written.
type record struct {
	at    time.Time
	whole int // length of the packet in bytes
	n     int
	head  [MaxHeaders]byte
}

func (r *record) writeTo(w io.Writer) error {
	b := make([]byte, recordHeader+r.n)
	binary.LittleEndian.PutUint32(b, uint32(r.at.Unix()))
	binary.LittleEndian.PutUint32(b[4:], uint32(r.at.Nanosecond()))
	binary.LittleEndian.PutUint32(b[8:], uint32(r.n))
	binary.LittleEndian.PutUint32(b[12:], uint32(r.whole))
	copy(b[recordHeader:], r.head[:r.n])
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	return nil
}
