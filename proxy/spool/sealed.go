package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/towpath/towpath/proxy/spool/seal"
)

// A file of a sealed item is
//
//	"TWPSPL2\n"  epoch(16)  sealed payload  sealed description  label  lengths(4+4)  CRC-32C(4)  "TWPEND2\n"
//
// The label is JSON in the clear: what recovery needs to count items without a key. It is authenticated with the description, which holds
// all that tells items apart. The lengths are those of description and label, the CRC is that of both, big-endian.
const (
	sealedMark     = "TWPSPL2\n"
	sealedTailMark = "TWPEND2\n"
	sealedHead     = len(sealedMark) + seal.EpochIDSize
	sealedTailSize = 4 + 4 + 4 + len(sealedTailMark)
	maxLabel       = 1 << 10
)

// ErrNoKey means that an item was sealed and the key that opens it is not there.
var ErrNoKey = errors.New("the item is encrypted and the queue's key is not there")

// label is what a sealed file says in the clear.
type label struct {
	ID       ID        `json:"id"`
	Queue    string    `json:"queue"`
	Priority int       `json:"priority,omitempty"`
	Size     int64     `json:"size"`
	Created  time.Time `json:"created"`
	// Epoch is what the head says, too: a flipped bit there must not look like a key that is missing.
	Epoch string `json:"epoch"`
}

// secret is what it does not.
type secret struct {
	Attributes map[string]string `json:"attributes,omitempty"`
	SHA256     digest            `json:"sha256"`
}

// sealedTail returns what stands behind the payload.
func (d description) sealedTail(item seal.Item) ([]byte, error) {
	l, err := json.Marshal(label{ID: d.ID, Queue: d.Queue, Priority: d.Priority, Size: d.Size, Created: d.Created, Epoch: d.epoch.String()})
	if err != nil {
		return nil, fmt.Errorf("describe the item: %w", err)
	}
	text, err := json.Marshal(secret{Attributes: d.Attributes, SHA256: d.SHA256})
	if err != nil {
		return nil, fmt.Errorf("describe the item: %w", err)
	}
	b := item.SealDescription(text, l)
	length := len(b)
	b = append(b, l...)
	crc := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	b = binary.BigEndian.AppendUint32(b, uint32(length)) // at most maxDescription
	b = binary.BigEndian.AppendUint32(b, uint32(len(l))) // at most maxLabel
	b = binary.BigEndian.AppendUint32(b, crc)
	return append(b, sealedTailMark...), nil
}

// readSealed is readDescription for a sealed item. Attributes and digest are still to be opened.
func readSealed(f storedFile, id ID, size int64) (description, error) {
	tail, head := make([]byte, sealedTailSize), make([]byte, sealedHead)
	if size < int64(sealedHead+sealedTailSize) {
		return description{}, fmt.Errorf("%w: the file is too short", ErrCorrupt)
	}
	if _, err := f.ReadAt(head, 0); err != nil {
		return description{}, fmt.Errorf("read the head of an item: %w", err)
	}
	if _, err := f.ReadAt(tail, size-int64(sealedTailSize)); err != nil {
		return description{}, fmt.Errorf("read the tail of an item: %w", err)
	}
	hidden, clear := int64(binary.BigEndian.Uint32(tail)), int64(binary.BigEndian.Uint32(tail[4:]))
	rest := size - int64(sealedHead+sealedTailSize) - hidden - clear
	if !bytes.HasSuffix(tail, []byte(sealedTailMark)) || hidden > maxDescription || clear > maxLabel || rest < 0 {
		return description{}, fmt.Errorf("%w: the file does not have the form of an item", ErrCorrupt)
	}
	text := make([]byte, hidden+clear)
	if _, err := f.ReadAt(text, size-int64(sealedTailSize)-hidden-clear); err != nil {
		return description{}, fmt.Errorf("read the description of an item: %w", err)
	}
	if crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(tail[8:]) {
		return description{}, fmt.Errorf("%w: the description's checksum is wrong", ErrCorrupt)
	}
	var l label
	if err := json.Unmarshal(text[hidden:], &l); err != nil {
		return description{}, fmt.Errorf("%w: the description cannot be read", ErrCorrupt)
	}
	d := description{
		ID: l.ID, Meta: Meta{Queue: l.Queue, Priority: l.Priority}, Size: l.Size, Created: l.Created,
		fileSize: size, sealed: true, locked: true, hidden: text[:hidden], label: text[hidden:],
	}
	copy(d.epoch[:], head[len(sealedMark):])
	if d.ID != id || l.Epoch != d.epoch.String() || d.Size < 0 || d.validate() != nil || seal.SealedSize(d.Size) != rest {
		return description{}, fmt.Errorf("%w: the description does not fit the file", ErrCorrupt)
	}
	return d, nil
}

// reveal opens what is sealed of a description, if the key is there.
func (s *Spool) reveal(d *description) error {
	if !d.locked {
		return nil
	}
	item, err := s.cipher(d.epoch, d.ID)
	if errors.Is(err, ErrNoKey) {
		return nil
	}
	if err != nil {
		return err
	}
	text, err := item.OpenDescription(d.hidden, d.label)
	var x secret
	if err != nil || json.Unmarshal(text, &x) != nil {
		return fmt.Errorf("%w: its encrypted description was changed", ErrCorrupt)
	}
	d.Attributes, d.SHA256, d.locked = x.Attributes, x.SHA256, false
	if d.validate() != nil {
		return fmt.Errorf("%w: the description does not fit the file", ErrCorrupt)
	}
	return nil
}

// cipher is that of an item, or ErrNoKey.
func (s *Spool) cipher(id seal.EpochID, item ID) (seal.Item, error) {
	s.mu.Lock()
	var key *seal.Epoch
	if e := s.epochs[id]; e != nil {
		key = e.key
	}
	s.mu.Unlock()
	if key == nil {
		return seal.Item{}, ErrNoKey
	}
	return key.Item(string(item)) //nolint:wrapcheck // says all
}
