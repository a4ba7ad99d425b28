package gatewaytest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Object is what the lab wants to know of a DICOM file (PS3.10 §7.1).
type Object struct {
	SOPClassUID, SOPInstanceUID, TransferSyntaxUID string
	// Digest is the SHA-256 of the data set alone, as it stands in the file: bit-identical data sets have one digest, whoever
	// wrote the file meta information before them.
	Digest string
	Size   int // of the data set, in bytes
}

// ReadObject reads a Part 10 file.
func ReadObject(name string) (Object, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return Object{}, err
	}
	o, err := ParseObject(data)
	if err != nil {
		return Object{}, fmt.Errorf("%s: %w", name, err)
	}
	return o, nil
}

// ParseObject reads the bytes of a Part 10 file.
func ParseObject(data []byte) (Object, error) {
	if len(data) < 132 || string(data[128:132]) != "DICM" {
		return Object{}, errors.New("no DICM prefix")
	}
	var o Object
	rest := data[132:]
	// File meta information is always Explicit VR Little Endian, group 0002.
	for len(rest) >= 8 && binary.LittleEndian.Uint16(rest) == 0x0002 {
		element := binary.LittleEndian.Uint16(rest[2:])
		header, length := 8, int(binary.LittleEndian.Uint16(rest[6:]))
		if vr := string(rest[4:6]); longForm(vr) {
			if len(rest) < 12 {
				return Object{}, errors.New("file meta information is cut off")
			}
			header, length = 12, int(binary.LittleEndian.Uint32(rest[8:]))
		}
		if length > len(rest)-header {
			return Object{}, errors.New("file meta information is cut off")
		}
		value := strings.TrimRight(string(rest[header:header+length]), "\x00 ")
		switch element {
		case 0x0002:
			o.SOPClassUID = value
		case 0x0003:
			o.SOPInstanceUID = value
		case 0x0010:
			o.TransferSyntaxUID = value
		}
		rest = rest[header+length:]
	}
	if o.TransferSyntaxUID == "" {
		return Object{}, errors.New("no transfer syntax in the file meta information")
	}
	sum := sha256.Sum256(rest)
	o.Digest, o.Size = hex.EncodeToString(sum[:]), len(rest)
	return o, nil
}

// longForm reports whether a VR has a 32-bit length in explicit encoding (PS3.5 §7.1.2).
func longForm(vr string) bool {
	switch vr {
	case "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV":
		return true
	}
	return false
}

// element appends one element in Explicit VR Little Endian. The value is padded to even length.
func element(b *bytes.Buffer, group, elem uint16, vr string, value []byte) {
	if len(value)%2 == 1 {
		pad := byte(' ')
		if vr == "UI" || vr == "OB" {
			pad = 0
		}
		value = append(bytes.Clone(value), pad)
	}
	head := binary.LittleEndian.AppendUint16(nil, group)
	head = binary.LittleEndian.AppendUint16(head, elem)
	head = append(head, vr...)
	if longForm(vr) {
		head = append(head, 0, 0)
		head = binary.LittleEndian.AppendUint32(head, uint32(len(value)))
	} else {
		head = binary.LittleEndian.AppendUint16(head, uint16(len(value)))
	}
	b.Write(head)
	b.Write(value)
}
