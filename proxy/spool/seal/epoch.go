package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

const (
	// EpochIDSize and dataKeySize are in bytes.
	EpochIDSize = 16
	dataKeySize = 32

	epochInfo = "towpath queue epoch v1"
	itemInfo  = "towpath queue item v1\x00"
)

// EpochID names an Epoch.
type EpochID [EpochIDSize]byte

// String is the ID in hexadecimal.
func (id EpochID) String() string { return hex.EncodeToString(id[:]) }

// Epoch is the data key of the items of a while. It never prints.
type Epoch struct {
	id EpochID

	mu  sync.Mutex
	key []byte // empty once wiped
}

// NewEpoch draws one from the system's randomness.
func NewEpoch() *Epoch {
	e := &Epoch{key: make([]byte, dataKeySize)}
	rand.Read(e.id[:]) // never fails: crypto/rand
	rand.Read(e.key)
	return e
}

// ID names the Epoch.
func (e *Epoch) ID() EpochID { return e.id }

// Wipe makes the Epoch forget its key. Item ciphers that were made stay usable.
func (e *Epoch) Wipe() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.key)
	e.key = nil
}

// String hides the key.
func (e *Epoch) String() string { return "[data key " + e.id.String() + "]" }

// GoString hides the key from %#v.
func (e *Epoch) GoString() string { return e.String() }

// LogValue hides the key from slog.
func (e *Epoch) LogValue() slog.Value { return slog.StringValue(e.String()) }

// A sealed Epoch is epochMark, the ID of the key pair, the ID of the Epoch, and what HPKE makes of the data key, with all before it
// authenticated.
const (
	epochMark      = "TWPEPO1\n"
	epochHead      = len(epochMark) + keyIDSize + EpochIDSize
	hpkeSize       = 1088 + 32 + dataKeySize + overhead
	sealedEpochMax = epochHead + hpkeSize
)

// SealedEpochSize is the size of a sealed Epoch in bytes.
const SealedEpochSize = sealedEpochMax

// Seal makes what only the private half of to opens.
func (e *Epoch) Seal(to PublicKey) (SealedEpoch, error) {
	id, err := hex.DecodeString(string(to.id))
	if err != nil || len(id) != keyIDSize {
		return SealedEpoch{}, errors.New("seal a data key: there is no public key")
	}
	head := slices.Concat([]byte(epochMark), id, e.id[:])
	enc, sender, err := hpke.NewSender(to.key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(epochInfo))
	if err != nil {
		return SealedEpoch{}, fmt.Errorf("seal a data key: %w", err)
	}
	sealed, err := sender.Seal(head, e.key)
	if err != nil {
		return SealedEpoch{}, fmt.Errorf("seal a data key: %w", err)
	}
	return SealedEpoch{id: e.id, to: to.id, text: slices.Concat(head, enc, sealed)}, nil
}

// SealedEpoch is an Epoch that a private key opens.
type SealedEpoch struct {
	id   EpochID
	to   KeyID
	text []byte
}

// ParseSealedEpoch reads what Bytes gave.
func ParseSealedEpoch(b []byte) (SealedEpoch, error) {
	if len(b) != sealedEpochMax || string(b[:len(epochMark)]) != epochMark {
		return SealedEpoch{}, errors.New("this is no sealed data key")
	}
	s := SealedEpoch{text: slices.Clone(b), to: KeyID(hex.EncodeToString(b[len(epochMark) : len(epochMark)+keyIDSize]))}
	copy(s.id[:], b[len(epochMark)+keyIDSize:])
	return s, nil
}

// ID names the Epoch.
func (s SealedEpoch) ID() EpochID { return s.id }

// To names the key pair that opens it.
func (s SealedEpoch) To() KeyID { return s.to }

// Bytes is what ParseSealedEpoch takes.
func (s SealedEpoch) Bytes() []byte { return slices.Clone(s.text) }

// Open returns the Epoch, or ErrOpen.
func (s SealedEpoch) Open(k PrivateKey) (*Epoch, error) {
	if k.IsZero() || len(s.text) != sealedEpochMax {
		return nil, ErrOpen
	}
	enc, sealed := s.text[epochHead:sealedEpochMax-dataKeySize-overhead], s.text[sealedEpochMax-dataKeySize-overhead:]
	r, err := hpke.NewRecipient(enc, k.key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(epochInfo))
	if err != nil {
		return nil, ErrOpen
	}
	key, err := r.Open(s.text[:epochHead], sealed)
	if err != nil || len(key) != dataKeySize {
		return nil, ErrOpen
	}
	return &Epoch{id: s.id, key: key}, nil
}

// Item is the cipher of one item. It seals one payload and one description.
type Item struct{ aead cipher.AEAD }

// Item derives the cipher of an item. The caller gives an ID once for sealing.
func (e *Epoch) Item(id string) (Item, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.key) == 0 {
		return Item{}, errors.New("the data key was forgotten")
	}
	key, err := hkdf.Key(sha256.New, e.key, e.id[:], itemInfo+id, dataKeySize)
	if err != nil {
		return Item{}, fmt.Errorf("derive the key of an item: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return Item{}, fmt.Errorf("derive the key of an item: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return Item{}, fmt.Errorf("derive the key of an item: %w", err)
	}
	return Item{aead}, nil
}
