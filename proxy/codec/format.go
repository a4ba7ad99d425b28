package codec

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Version is the format that this package writes. It reads all versions up to this one.
const Version = 2

// Sizes of the format, in bytes.
const (
	// HeaderSize is the length of the header of an encoded object.
	HeaderSize = 56
	// BlockHeaderSize is the length of the header of each block.
	BlockHeaderSize = 13
	// MaxBlock is the most original bytes that a block holds. The payload of a block is never longer than its original.
	MaxBlock = 2 << 20
	// MaxObject is the longest object that can be encoded.
	MaxObject = 64 << 30
	// WorkerMemory is the most memory that a worker holds, with the buffers of the block it works at.
	WorkerMemory = 24 << 20
)

const magic = "TWPC"

var (
	// ErrVersion means that a newer program has encoded the object.
	ErrVersion = errors.New("unknown codec version")
	// ErrCorrupt means that the bytes are not what an encoder has written.
	ErrCorrupt = errors.New("corrupt codec data")
	// ErrTooLarge means that an object is longer than allowed.
	ErrTooLarge = errors.New("object too large for the codec")
)

// Header is what an encoded object says of itself.
type Header struct {
	Version int
	// Size is the length of the original in bytes.
	Size int64
	// Blocks is how many blocks follow.
	Blocks int
	// Digest is the SHA-256 of the original.
	Digest [sha256.Size]byte
}

func (h Header) append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, magic...)
	dst = append(dst, byte(h.Version), 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.Size))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Blocks))
	dst = append(dst, h.Digest[:]...)
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[at:]))
}

// ParseHeader reads the first [HeaderSize] bytes of an encoded object. The error is ErrVersion when a newer program wrote it, and
// ErrCorrupt when it is none.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize || string(b[:4]) != magic {
		return Header{}, fmt.Errorf("%w: no header", ErrCorrupt)
	}
	if b[4] == 0 || b[4] > Version {
		return Header{}, fmt.Errorf("%w: the object was encoded with version %d, this program knows up to %d: update it", ErrVersion, b[4], Version)
	}
	if checksum(b[:HeaderSize-4]) != binary.LittleEndian.Uint32(b[HeaderSize-4:]) {
		return Header{}, fmt.Errorf("%w: header checksum", ErrCorrupt)
	}
	size, blocks := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint32(b[16:])
	if size > MaxObject || uint64(blocks) > size || (blocks == 0) != (size == 0) {
		return Header{}, fmt.Errorf("%w: %d bytes in %d blocks", ErrCorrupt, size, blocks)
	}
	h := Header{Version: int(b[4]), Size: int64(size), Blocks: int(blocks)}
	copy(h.Digest[:], b[20:])
	return h, nil
}

// method says how a block is coded.
type method byte

const (
	stored    method = iota // the bytes themselves
	zipped                  // zstd
	shuffled                // width, then zstd of the bytes of wide numbers sorted by significance
	predicted               // see unpredicted.go; written by version 1
	curves                  // see curves.go
	braided                 // see braided.go; since version 2
)

// methods is how many there are.
const methods = byte(braided) + 1

// BlockHeader is what a block says of itself.
type BlockHeader struct {
	method   method
	checksum uint32
	// Size is the length of the original, Payload that of what follows this header, in bytes.
	Size, Payload int
}

func (h BlockHeader) put(dst []byte) {
	dst[0] = byte(h.method)
	binary.LittleEndian.PutUint32(dst[1:], uint32(h.Size))
	binary.LittleEndian.PutUint32(dst[5:], uint32(h.Payload))
	binary.LittleEndian.PutUint32(dst[9:], h.checksum)
}

// ParseBlockHeader reads the first [BlockHeaderSize] bytes of a block. Both lengths are checked: 1 ≤ Payload ≤ Size ≤ [MaxBlock].
func ParseBlockHeader(b []byte) (BlockHeader, error) {
	if len(b) < BlockHeaderSize {
		return BlockHeader{}, fmt.Errorf("%w: block header is cut off", ErrCorrupt)
	}
	size, payload := binary.LittleEndian.Uint32(b[1:]), binary.LittleEndian.Uint32(b[5:])
	if b[0] >= methods || size > MaxBlock || payload > size || payload == 0 {
		return BlockHeader{}, fmt.Errorf("%w: block of method %d, %d bytes in %d", ErrCorrupt, b[0], size, payload)
	}
	return BlockHeader{
		method: method(b[0]), Size: int(size), Payload: int(payload), checksum: binary.LittleEndian.Uint32(b[9:]),
	}, nil
}

// checksum is CRC-32C. It finds accidents early; the SHA-256 of the whole decides.
func checksum(b []byte) uint32 {
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}
