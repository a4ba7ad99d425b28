package wgkey

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
)

// Size is the length of every WireGuard key in bytes.
const Size = 32

// ErrMalformed is wrapped by every parse error of this package.
var ErrMalformed = errors.New("malformed WireGuard key")

// PublicKey identifies a peer. It is comparable and may be a map key. The zero value is no key.
type PublicKey [Size]byte

// PrivateKey is a Curve25519 scalar. It prints as "(private key)" everywhere; only RevealHex and RevealText give it away.
type PrivateKey struct {
	b [Size]byte
	_ [0]func() // not comparable: == on secrets is not constant-time
}

// PresharedKey is the optional symmetric key of a peer pair. It hides itself like PrivateKey.
type PresharedKey struct {
	b [Size]byte
	_ [0]func()
}

// NewPrivateKey makes a key from the system's randomness, clamped as RFC 7748 §5 asks.
func NewPrivateKey() (PrivateKey, error) {
	var k PrivateKey
	if _, err := rand.Read(k.b[:]); err != nil {
		return PrivateKey{}, fmt.Errorf("make a WireGuard key: %w", err)
	}
	k.b[0] &= 248
	k.b[31] = k.b[31]&127 | 64
	return k, nil
}

// NewPresharedKey makes a key from the system's randomness.
func NewPresharedKey() (PresharedKey, error) {
	var k PresharedKey
	if _, err := rand.Read(k.b[:]); err != nil {
		return PresharedKey{}, fmt.Errorf("make a preshared key: %w", err)
	}
	return k, nil
}

// Public returns the public key that belongs to k.
func (k PrivateKey) Public() (PublicKey, error) {
	p, err := ecdh.X25519().NewPrivateKey(k.b[:])
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return PublicKey(p.PublicKey().Bytes()), nil
}

// IsZero reports whether no key was set.
func (k PrivateKey) IsZero() bool { return k.b == [Size]byte{} }

// RevealHex returns the secret in the form of WireGuard's cross-platform configuration protocol.
func (k PrivateKey) RevealHex() string { return hex.EncodeToString(k.b[:]) }

// RevealText returns the secret in base64, for the one file that stores it.
func (k PrivateKey) RevealText() string { return base64.StdEncoding.EncodeToString(k.b[:]) }

// RevealBytes returns a copy of the secret, for the kernel interface.
func (k PrivateKey) RevealBytes() [Size]byte { return k.b }

// String hides the secret.
func (k PrivateKey) String() string { return "(private key)" }

// GoString hides the secret from %#v.
func (k PrivateKey) GoString() string { return k.String() }

// LogValue hides the secret from slog.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText refuses, so that no encoder can write the secret by accident.
func (k PrivateKey) MarshalText() ([]byte, error) {
	return nil, errors.New("a private key is never encoded: use RevealText")
}

// ParsePrivateKey reads the base64 form. The error never contains the input.
func ParsePrivateKey(s string) (PrivateKey, error) {
	b, err := parse(s)
	if err != nil {
		return PrivateKey{}, err
	}
	return PrivateKey{b: b}, nil
}

// IsZero reports whether no key was set.
func (k PresharedKey) IsZero() bool { return k.b == [Size]byte{} }

// Equal compares in a time that does not depend on where the keys differ.
func (k PresharedKey) Equal(o PresharedKey) bool {
	var d byte
	for i := range k.b {
		d |= k.b[i] ^ o.b[i]
	}
	return d == 0
}

// RevealHex returns the secret in the form of WireGuard's cross-platform configuration protocol.
func (k PresharedKey) RevealHex() string { return hex.EncodeToString(k.b[:]) }

// RevealBytes returns a copy of the secret, for the kernel interface.
func (k PresharedKey) RevealBytes() [Size]byte { return k.b }

// String hides the secret.
func (k PresharedKey) String() string { return "(preshared key)" }

// GoString hides the secret from %#v.
func (k PresharedKey) GoString() string { return k.String() }

// LogValue hides the secret from slog.
func (k PresharedKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText refuses, so that no encoder can write the secret by accident.
func (k PresharedKey) MarshalText() ([]byte, error) {
	return nil, errors.New("a preshared key is never encoded")
}

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

// ParsePublicKey reads the base64 form.
func ParsePublicKey(s string) (PublicKey, error) {
	b, err := parse(s)
	return PublicKey(b), err
}

func parse(s string) ([Size]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != Size {
		return [Size]byte{}, fmt.Errorf("%w: want base64 of %d bytes", ErrMalformed, Size)
	}
	return [Size]byte(b), nil
}
