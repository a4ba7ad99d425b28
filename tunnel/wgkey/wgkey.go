package wgkey

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

// Size is the length of every WireGuard key in bytes.
const Size = 32

// ErrMalformed is wrapped by every parse error of this package.
var ErrMalformed = errors.New("malformed WireGuard key")

// PublicKey identifies a peer. It is comparable and may be a map key. The zero value is no key.
type PublicKey [Size]byte

// PrivateKey is a Curve25519 scalar. It prints as "(private key)" everywhere; only the Reveal methods give it away. The zero value is
// no key.
type PrivateKey struct{ s secret }

// PresharedKey is the optional symmetric key of a peer pair. It hides itself like PrivateKey. The zero value is no key.
type PresharedKey struct{ s secret }

// NewPrivateKey makes a key from the system's randomness, clamped as RFC 7748 §5 asks.
func NewPrivateKey() (PrivateKey, error) {
	var b [Size]byte
	if _, err := rand.Read(b[:]); err != nil {
		return PrivateKey{}, fmt.Errorf("make a WireGuard key: %w", err)
	}
	b[0] &= 248
	b[31] = b[31]&127 | 64
	return PrivateKey{newSecret(b)}, nil
}

// NewPresharedKey makes a key from the system's randomness.
func NewPresharedKey() (PresharedKey, error) {
	var b [Size]byte
	if _, err := rand.Read(b[:]); err != nil {
		return PresharedKey{}, fmt.Errorf("make a preshared key: %w", err)
	}
	return PresharedKey{newSecret(b)}, nil
}

// Public returns the public key that belongs to k.
func (k PrivateKey) Public() (PublicKey, error) {
	b := k.s.reveal()
	p, err := ecdh.X25519().NewPrivateKey(b[:])
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return PublicKey(p.PublicKey().Bytes()), nil
}

// IsZero reports whether no key was set.
func (k PrivateKey) IsZero() bool { return k.s.isZero() }

// Equal compares in a time that does not depend on where the keys differ.
func (k PrivateKey) Equal(o PrivateKey) bool { return k.s.equal(o.s) }

// RevealHex returns the secret in the form of WireGuard's cross-platform configuration protocol.
func (k PrivateKey) RevealHex() string { return k.s.hex() }

// RevealText returns the secret in base64, for the one file that stores it.
func (k PrivateKey) RevealText() string {
	b := k.s.reveal()
	return base64.StdEncoding.EncodeToString(b[:])
}

// RevealBytes returns a copy of the secret, for the kernel interface.
func (k PrivateKey) RevealBytes() [Size]byte { return k.s.reveal() }

// IsZero reports whether no key was set.
func (k PresharedKey) IsZero() bool { return k.s.isZero() }

// Equal compares in a time that does not depend on where the keys differ.
func (k PresharedKey) Equal(o PresharedKey) bool { return k.s.equal(o.s) }

// RevealHex returns the secret in the form of WireGuard's cross-platform configuration protocol.
func (k PresharedKey) RevealHex() string { return k.s.hex() }

// RevealBytes returns a copy of the secret, for the kernel interface.
func (k PresharedKey) RevealBytes() [Size]byte { return k.s.reveal() }

// IsZero reports whether no key was set.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// String is the base64 form.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Hex is the form of WireGuard's cross-platform configuration protocol.
func (k PublicKey) Hex() string { return hex.EncodeToString(k[:]) }

// MarshalText writes the base64 form.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the base64 form.
func (k *PublicKey) UnmarshalText(t []byte) error {
	p, err := ParsePublicKey(string(t))
	if err != nil {
		return err
	}
	*k = p
	return nil
}
