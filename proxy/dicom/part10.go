package dicom

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/towpath/towpath/proxy/dicom/ul"
)

// Part10Meta is what the head of a DICOM file says of the object in it (PS3.10 §7.1).
type Part10Meta struct {
	TransferSyntax string
	SOPClass       string
	SOPInstance    string
	// SourceAE is who sent the object; it may be empty.
	SourceAE string
}

// ErrNotPart10 means that a file does not start like a DICOM file.
var ErrNotPart10 = errors.New("not a DICOM file (the letters DICM are missing at byte 128)")

// The limits of ReadPart10: of the whole file meta group, and of a value that is kept.
const (
	maxMeta      = 1 << 20
	maxMetaValue = 256
)

// Elements of group 0002 (PS3.10 table 7.1-1).
const (
	metaGroupLength    = 0x0000
	metaVersion        = 0x0001
	metaSOPClass       = 0x0002
	metaSOPInstance    = 0x0003
	metaTransferSyntax = 0x0010
	metaImplementation = 0x0012
	metaImplVersion    = 0x0013
	metaSourceAE       = 0x0016
)

// ReadPart10 reads the head of a DICOM file and returns what it says, and the data set's bytes as a stream: what follows the
// head, whatever its encoding. Memory stays below 64 KiB. A missing or wrong group length does no harm, except that a deflated
// data set needs a right one, since its bytes can look like anything.
func ReadPart10(r io.Reader) (Part10Meta, io.Reader, error) {
	meta, data, err := readHead(r)
	if err != nil {
		return Part10Meta{}, nil, err
	}
	for _, uid := range []struct{ name, value string }{
		{"transfer syntax", meta.TransferSyntax}, {"SOP class", meta.SOPClass}, {"SOP instance", meta.SOPInstance},
	} {
		if !ValidUID(uid.value) {
			return Part10Meta{}, nil, fmt.Errorf("the file head has no valid %s UID", uid.name)
		}
	}
	return meta, data, nil
}

// readHead reads the file head without judging its UIDs.
func readHead(r io.Reader) (Part10Meta, io.Reader, error) {
	br := bufio.NewReaderSize(r, 32<<10)
	head := make([]byte, 132)
	if _, err := io.ReadFull(br, head); err != nil || string(head[128:]) != "DICM" {
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return Part10Meta{}, nil, fmt.Errorf("read the file head: %w", err)
		}
		return Part10Meta{}, nil, ErrNotPart10
	}
	s := metaScanner{r: br, declared: -1}
	if err := s.scan(); err != nil {
		return Part10Meta{}, nil, err
	}
	return s.meta, br, nil
}

// metaScanner reads group 0002, which is always in Explicit VR Little Endian.
type metaScanner struct {
	r        *bufio.Reader
	meta     Part10Meta
	declared int64 // value of the group length, -1 if missing
	read     int64 // bytes of the group after the group length element
}

func (s *metaScanner) scan() error {
	for {
		if s.meta.TransferSyntax == deflatedExplicit && s.read == s.declared {
			return nil
		}
		head, err := s.r.Peek(8)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil // the caller finds out what is missing
			}
			return fmt.Errorf("read the file head: %w", err)
		}
		if binary.LittleEndian.Uint16(head) != 2 {
			return nil
		}
		if err := s.element(binary.LittleEndian.Uint16(head[2:]), string(head[4:6]), head); err != nil {
			return err
		}
	}
}

func (s *metaScanner) element(tag uint16, vr string, head []byte) error {
	size, n := int64(8), int64(binary.LittleEndian.Uint16(head[6:]))
	switch vr {
	case "OB", "OW", "UN", "UT", "SQ", "OF", "OD", "OL", "OV", "UC", "UR": // long form: two reserved bytes, then a 32-bit length
		long, err := s.r.Peek(12)
		if err != nil {
			return fmt.Errorf("the file head is cut off: %w", io.ErrUnexpectedEOF)
		}
		size, n = 12, int64(binary.LittleEndian.Uint32(long[8:]))
	}
	if s.read+size+n > maxMeta {
		return fmt.Errorf("the file head is larger than %d bytes", maxMeta)
	}
	if _, err := s.r.Discard(int(size)); err != nil {
		return fmt.Errorf("read the file head: %w", err)
	}
	s.read += size + n
	var keep *string
	switch tag {
	case metaTransferSyntax:
		keep = &s.meta.TransferSyntax
	case metaSOPClass:
		keep = &s.meta.SOPClass
	case metaSOPInstance:
		keep = &s.meta.SOPInstance
	case metaSourceAE:
		keep = &s.meta.SourceAE
	}
	if keep == nil && tag != metaGroupLength || n > maxMetaValue {
		if _, err := s.r.Discard(int(n)); err != nil {
			return fmt.Errorf("the file head is cut off: %w", io.ErrUnexpectedEOF)
		}
		return nil
	}
	value := make([]byte, n)
	if _, err := io.ReadFull(s.r, value); err != nil {
		return fmt.Errorf("the file head is cut off: %w", io.ErrUnexpectedEOF)
	}
	if keep != nil {
		*keep = strings.Trim(string(value), " \x00")
	} else if n == 4 {
		s.declared, s.read = int64(binary.LittleEndian.Uint32(value)), 0
	}
	return nil
}

// AppendPart10 appends the head of a DICOM file to b: preamble, prefix and file meta group, with our implementation's name. The
// data set follows it.
func (m Part10Meta) AppendPart10(b []byte) []byte {
	var group []byte
	group = appendLong(group, metaVersion, "OB", []byte{0, 1})
	group = appendUID(group, metaSOPClass, m.SOPClass)
	group = appendUID(group, metaSOPInstance, m.SOPInstance)
	group = appendUID(group, metaTransferSyntax, m.TransferSyntax)
	group = appendUID(group, metaImplementation, ul.ImplementationClass)
	group = appendShort(group, metaImplVersion, "SH", pad(ul.ImplementationVersion, ' '))
	if m.SourceAE != "" {
		group = appendShort(group, metaSourceAE, "AE", pad(m.SourceAE, ' '))
	}
	b = append(b, make([]byte, 128)...)
	b = append(b, "DICM"...)
	b = appendShort(b, metaGroupLength, "UL", binary.LittleEndian.AppendUint32(nil, uint32(len(group))))
	return append(b, group...)
}

func appendUID(b []byte, tag uint16, uid string) []byte {
	return appendShort(b, tag, "UI", pad(uid, 0))
}

func appendShort(b []byte, tag uint16, vr string, value []byte) []byte {
	b = append(b, 2, 0, byte(tag), byte(tag>>8))
	b = append(b, vr...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

func appendLong(b []byte, tag uint16, vr string, value []byte) []byte {
	b = append(b, 2, 0, byte(tag), byte(tag>>8))
	b = append(b, vr...)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

func pad(s string, with byte) []byte {
	if len(s)%2 == 0 {
		return []byte(s)
	}
	return append([]byte(s), with)
}

// DigestDataset returns the SHA-256 and the size in bytes of the data set in the DICOM file at path, that is of the file without
// its head: what must be the same at both ends of a transfer.
func DigestDataset(path string) (sum [sha256.Size]byte, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, 0, err
	}
	defer func() { _ = f.Close() }() // only read
	return digest(f)
}

func digest(r io.Reader) (sum [sha256.Size]byte, size int64, err error) {
	_, data, err := readHead(r)
	if err != nil {
		return sum, 0, err
	}
	h := sha256.New()
	if size, err = io.Copy(h, data); err != nil {
		return sum, 0, fmt.Errorf("read the data set: %w", err)
	}
	return [sha256.Size]byte(h.Sum(nil)), size, nil
}
