package seal

import (
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
)

// ErrOpen means that what was sealed is for another key, or was changed.
var ErrOpen = errors.New("what was sealed cannot be opened with this key")

// Sizes in bytes.
const (
	// PrivateSize is that of a private key: the seed from which the rest comes.
	PrivateSize = 32
	// PublicSize is that of a public key (ML-KEM-768 and X25519).
	PublicSize = 1184 + 32
)

func kem() hpke.KEM { return hpke.MLKEM768X25519() }

// KeyID tells key pairs apart: the start of the public half's SHA-256, in hexadecimal.
type KeyID string

const keyIDSize = 8

// PublicKey is what a queue is sealed to. The zero value is none.
type PublicKey struct {
	key hpke.PublicKey
	id  KeyID
}

// ParsePublicKey reads what Bytes gave.
func ParsePublicKey(b []byte) (PublicKey, error) {
	k, err := kem().NewPublicKey(b)
	if err != nil {
		return PublicKey{}, fmt.Errorf("read the public key of the queue: %w", err)
	}
	return publicKey(k), nil
}

func publicKey(k hpke.PublicKey) PublicKey {
	sum := sha256.Sum256(k.Bytes())
	return PublicKey{k, KeyID(hex.EncodeToString(sum[:keyIDSize]))}
}

// IsZero reports whether there is no key.
func (k PublicKey) IsZero() bool { return k.key == nil }

// ID names the key pair.
func (k PublicKey) ID() KeyID { return k.id }

// Bytes is what ParsePublicKey takes.
func (k PublicKey) Bytes() []byte { return k.key.Bytes() }

// PrivateKey opens what was sealed to its public half. It never prints. The zero value is none.
type PrivateKey struct{ key hpke.PrivateKey }

// NewPrivateKey draws one from the system's randomness.
func NewPrivateKey() (PrivateKey, error) {
	k, err := kem().GenerateKey()
	if err != nil {
		return PrivateKey{}, fmt.Errorf("make a key for the queue: %w", err)
	}
	return PrivateKey{k}, nil
}

// ParsePrivateKey reads what RevealBytes gave. Its errors do not quote it.
func ParsePrivateKey(b []byte) (PrivateKey, error) {
	if len(b) != PrivateSize {
		return PrivateKey{}, fmt.Errorf("a private key of a queue has %d bytes and not %d", PrivateSize, len(b))
	}
	k, err := kem().NewPrivateKey(b)
	if err != nil {
		return PrivateKey{}, errors.New("the private key of the queue cannot be used")
	}
	return PrivateKey{k}, nil
}

// IsZero reports whether there is no key.
func (k PrivateKey) IsZero() bool { return k.key == nil }

// Public is the other half.
func (k PrivateKey) Public() PublicKey { return publicKey(k.key.PublicKey()) }

// RevealBytes is the secret itself, PrivateSize bytes.
func (k PrivateKey) RevealBytes() ([]byte, error) {
	b, err := k.key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("take the queue's key out: %w", err)
	}
	return b, nil
}

const hidden = "[private key of a queue]"

// String hides the key.
func (PrivateKey) String() string { return hidden }

// GoString hides the key from %#v.
func (PrivateKey) GoString() string { return hidden }

// LogValue hides the key from slog.
func (PrivateKey) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText refuses: a key leaves by RevealBytes only.
func (PrivateKey) MarshalText() ([]byte, error) {
	return nil, errors.New("a private key is not written as text")
}
