package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// magic begins a blob and has its version.
const magic = "TPS1"

// Bounds of a blob's parts in bytes.
const (
	// nameSize is that of an object's name: two bytes for the algorithm and a SHA-256.
	nameSize = 2 + 32
	// maxPublic is far more than a sealed object's public area, 12 to 78 bytes with our attributes.
	maxPublic = 256
	// maxPrivate leaves room for MaxSecret, the seed, the integrity value and the lengths.
	maxPrivate = 512
	sumSize    = 4
)

// blob is a sealed secret as it is stored: magic, PCRs (4 bytes), then the name of the storage key, the public and the private area of
// the object, each with its length in two bytes before it, then CRC-32 (IEEE) of all that. Numbers are big-endian. The checksum tells
// damage from a foreign TPM; against people, the TPM's own integrity value in the private area protects.
type blob struct {
	pcrs                    pcrs
	parent, public, private []byte
}

func (b blob) encode() []byte {
	out := binary.BigEndian.AppendUint32([]byte(magic), uint32(b.pcrs))
	for _, part := range [][]byte{b.parent, b.public, b.private} {
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
		out = append(out, part...)
	}
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out))
}

// parseBlob is the reverse of encode; all its errors are ErrDamaged. It accepts nothing that encode does not make.
func parseBlob(in []byte) (blob, error) {
	head := len(magic) + 4
	if len(in) < head+sumSize || !bytes.HasPrefix(in, []byte(magic)) {
		return blob{}, fmt.Errorf("%w: it does not begin as one", ErrDamaged)
	}
	body, sum := in[:len(in)-sumSize], in[len(in)-sumSize:]
	if binary.BigEndian.Uint32(sum) != crc32.ChecksumIEEE(body) {
		return blob{}, fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	b := blob{pcrs: pcrs(binary.BigEndian.Uint32(in[len(magic):]))}
	rest := body[head:]
	for _, part := range []struct {
		to       *[]byte
		min, max int
	}{{&b.parent, nameSize, nameSize}, {&b.public, 1, maxPublic}, {&b.private, 1, maxPrivate}} {
		if len(rest) < 2 {
			return blob{}, fmt.Errorf("%w: it is cut", ErrDamaged)
		}
		size := int(binary.BigEndian.Uint16(rest))
		rest = rest[2:]
		if size < part.min || size > part.max || size > len(rest) {
			return blob{}, fmt.Errorf("%w: a part has %d bytes", ErrDamaged, size)
		}
		*part.to, rest = rest[:size], rest[size:]
	}
	if len(rest) != 0 || b.pcrs >= 1<<pcrCount {
		return blob{}, fmt.Errorf("%w: it goes on where it should end", ErrDamaged)
	}
	return b, nil
}
