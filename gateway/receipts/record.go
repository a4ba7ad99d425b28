package receipts

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// KeySize is the size of a journal's key in bytes.
const KeySize = 32

// maxLine bounds one record, in bytes; maxSigned what a caller may add to it.
const (
	maxLine   = 32 << 10
	maxSigned = 8 << 10
	maxText   = 200
)

// Entry is one delivery.
type Entry struct {
	// Seq counts from 1, without gaps.
	Seq uint64 `json:"seq"`
	// At is when the far end's answer arrived, Taken when the item was acknowledged here.
	At    time.Time `json:"at"`
	Taken time.Time `json:"taken"`
	Queue string    `json:"queue"`
	Item  string    `json:"item"`
	Size  int64     `json:"size"`
	// SHA256 is that of the item's bytes, in hexadecimal.
	SHA256 string `json:"sha256"`
	// Code is the answer in the protocol's own words, Peer who gave it.
	Code string `json:"code,omitempty"`
	Peer string `json:"peer,omitempty"`
	// Signed is the far gateway's word, in whatever form it has; nil for none. At most 8 KiB.
	Signed []byte `json:"signed,omitempty"`
	// Hash is the chain's after this record, in hexadecimal.
	Hash string `json:"hash,omitempty"`
}

// record is what a line says. The first of a file has From alone.
type record struct {
	// From is the chain's hash before the file, in hexadecimal.
	From  string    `json:"from,omitempty"`
	Seq   uint64    `json:"seq"`
	At    time.Time `json:"at,omitzero"`
	Taken time.Time `json:"taken,omitzero"`
	Queue string    `json:"queue,omitempty"`
	Item  string    `json:"item,omitempty"`
	Size  int64     `json:"size,omitempty"`
	Code  string    `json:"code,omitempty"`
	Peer  string    `json:"peer,omitempty"`
	// Box is encrypted.
	Box []byte `json:"box,omitempty"`
}

// box is what identifies content.
type box struct {
	SHA256 string `json:"sha256"`
	Signed []byte `json:"signed,omitempty"`
}

type chainHash [sha256.Size]byte

func (h chainHash) String() string { return hex.EncodeToString(h[:]) }

func (h chainHash) next(text []byte) chainHash {
	return sha256.Sum256(append(h[:], text...))
}

// line is the hash after a record, a space, and the record.
func (h chainHash) line(r record) ([]byte, chainHash, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, h, fmt.Errorf("write a receipt: %w", err)
	}
	after := h.next(text)
	return append(append([]byte(after.String()+" "), text...), '\n'), after, nil
}

// parseLine is the reverse of line, without the line's end.
func parseLine(line []byte) (r record, text []byte, after chainHash, err error) {
	const head = 2*sha256.Size + 1
	if len(line) < head || line[head-1] != ' ' {
		return r, nil, after, errDamaged
	}
	if _, err := hex.Decode(after[:], line[:head-1]); err != nil {
		return r, nil, after, errDamaged
	}
	if err := json.Unmarshal(line[head:], &r); err != nil {
		return r, nil, after, errDamaged
	}
	return r, line[head:], after, nil
}

var errDamaged = errors.New("this is no record")

// sealer encrypts boxes.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (sealer, error) {
	if len(key) != KeySize {
		return sealer{}, fmt.Errorf("the key of the receipts has %d bytes and not %d", len(key), KeySize)
	}
	derived, err := hkdf.Key(sha256.New, key, nil, "towpath receipts v1", KeySize)
	if err != nil {
		return sealer{}, fmt.Errorf("derive the key of the receipts: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return sealer{}, fmt.Errorf("derive the key of the receipts: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealer{}, fmt.Errorf("derive the key of the receipts: %w", err)
	}
	return sealer{aead}, nil
}

// seal turns an Entry into a record.
func (s sealer) seal(e Entry) (record, error) {
	text, err := json.Marshal(box{e.SHA256, e.Signed})
	if err != nil {
		return record{}, fmt.Errorf("write a receipt: %w", err)
	}
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce) // never fails: crypto/rand
	return record{
		Seq: e.Seq, At: e.At.UTC(), Taken: e.Taken.UTC(), Queue: e.Queue, Item: e.Item, Size: e.Size, Code: limit(e.Code), Peer: limit(e.Peer),
		Box: s.aead.Seal(nonce, nonce, text, nil),
	}, nil
}

// open is the reverse of seal.
func (s sealer) open(r record, after chainHash) (Entry, error) {
	e := Entry{Seq: r.Seq, At: r.At, Taken: r.Taken, Queue: r.Queue, Item: r.Item, Size: r.Size, Code: r.Code, Peer: r.Peer, Hash: after.String()}
	n := s.aead.NonceSize()
	if len(r.Box) < n {
		return e, errDamaged
	}
	text, err := s.aead.Open(nil, r.Box[:n], r.Box[n:], nil)
	var b box
	if err != nil || json.Unmarshal(text, &b) != nil {
		return e, errors.New("a receipt cannot be decrypted: the key is another one")
	}
	e.SHA256, e.Signed = b.SHA256, b.Signed
	return e, nil
}

func limit(s string) string { return s[:min(len(s), maxText)] }

func parseHash(text string) (h chainHash, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return h, errDamaged
	}
	copy(h[:], b)
	return h, nil
}
