package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/towpath/towpath/proxy/spool/seal"
)

// A file of an item is
//
//	"TWPSPL1\n"  payload  description  length(4)  CRC-32C(4)  "TWPEND1\n"
//
// The description is JSON; length and CRC are those of the description, big-endian. It stands last because size and digest of the
// payload are known only then, and the payload is written once, as it arrives. The leading mark leaves room for other forms; sealed.go has one.
const (
	headMark = "TWPSPL1\n"
	tailMark = "TWPEND1\n"
	tailSize = 4 + 4 + len(tailMark)
	// maxDescription bounds what is read back: attributes escape to at most six bytes for one.
	maxDescription = 6*MaxAttributes + 4<<10
)

// ErrCorrupt means that what is stored is not what was written.
var ErrCorrupt = errors.New("the stored item is damaged")

// description is what the file of an item says of it.
type description struct {
	ID ID `json:"id"`
	Meta
	Size    int64     `json:"size"`
	SHA256  digest    `json:"sha256"`
	Created time.Time `json:"created"`

	fileSize int64
	// Of a sealed item: its data key, what is hidden and what is beside it, and whether that is hidden still.
	sealed, locked bool
	epoch          seal.EpochID
	hidden, label  []byte
}

// digest is written as hexadecimal text.
type digest [sha256.Size]byte

func (d digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

func (d *digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) {
		return errors.New("not a digest")
	}
	_, err := hex.Decode(d[:], text)
	return err //nolint:wrapcheck // the caller says what could not be read
}

// tail returns what stands behind the payload.
func (d description) tail() ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("describe the item: %w", err)
	}
	crc := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	b = binary.BigEndian.AppendUint32(b, uint32(len(b))) // at most maxDescription
	b = binary.BigEndian.AppendUint32(b, crc)
	return append(b, tailMark...), nil
}

// readDescription reads what a file says of its item and checks everything but the payload.
func readDescription(f storedFile, id ID) (description, error) {
	size, err := f.Size()
	if err != nil {
		return description{}, err
	}
	if size < int64(len(headMark)+tailSize) {
		return description{}, fmt.Errorf("%w: the file is too short", ErrCorrupt)
	}
	head, tail := make([]byte, len(headMark)), make([]byte, tailSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return description{}, fmt.Errorf("read the head of an item: %w", err)
	}
	if _, err := f.ReadAt(tail, size-int64(tailSize)); err != nil {
		return description{}, fmt.Errorf("read the tail of an item: %w", err)
	}
	if string(head) == sealedMark {
		return readSealed(f, id, size)
	}
	length := int64(binary.BigEndian.Uint32(tail))
	if string(head) != headMark || !bytes.HasSuffix(tail, []byte(tailMark)) || length > maxDescription ||
		length > size-int64(len(headMark)+tailSize) {
		return description{}, fmt.Errorf("%w: the file does not have the form of an item", ErrCorrupt)
	}
	text := make([]byte, length)
	if _, err := f.ReadAt(text, size-int64(tailSize)-length); err != nil {
		return description{}, fmt.Errorf("read the description of an item: %w", err)
	}
	if crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(tail[4:]) {
		return description{}, fmt.Errorf("%w: the description's checksum is wrong", ErrCorrupt)
	}
	var d description
	if err := json.Unmarshal(text, &d); err != nil {
		return description{}, fmt.Errorf("%w: the description cannot be read", ErrCorrupt)
	}
	if d.ID != id || d.Size != size-int64(len(headMark)+tailSize)-length || d.validate() != nil {
		return description{}, fmt.Errorf("%w: the description does not fit the file", ErrCorrupt)
	}
	d.fileSize = size
	return d, nil
}

// An ID is a sequence number of fixed width, so that IDs sort as text. It does not depend on the clock.
const idLength = 16

func newID(sequence uint64) ID { return ID(fmt.Sprintf("%0*x", idLength, sequence)) }

func (id ID) sequence() (uint64, bool) {
	if len(id) != idLength {
		return 0, false
	}
	n, err := strconv.ParseUint(string(id), 16, 64)
	return n, err == nil && newID(n) == id
}

// Kinds of files in the folder of items.
const (
	extTemporary = ".tmp"      // being written, worthless after a crash
	extQueued    = ".item"     // StateQueued
	extParked    = ".parked"   // StateParked
	extCarried   = ".carried"  // StateCarried
	extNote      = ".note"     // why a parked item was parked
	extPriority  = ".priority" // another priority than the one it came with
	extGone      = ".gone"     // an item of the journal is forgotten, but the journal could not be written
)

func itemName(id ID, ext string) string { return itemsDir + "/" + string(id) + ext }

func validText(s string) bool { return utf8.ValidString(s) }
