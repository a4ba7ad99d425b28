package wgkey

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// ErrSecret is what encoders get that try to write a secret key.
var ErrSecret = errors.New("a secret key is never encoded: reveal it where it must be written")

// secret holds 32 bytes that no formatting of a value around it can show. Package fmt does not call methods of unexported fields, and
// with a wrong verb it even follows a pointer to an array; it never follows a pointer to a pointer.
type secret struct {
	b **[Size]byte // nil: all zero
	_ [0]func()    // not comparable: == on secrets is not constant-time
}

func newSecret(b [Size]byte) secret {
	p := &b
	return secret{b: &p}
}

func (s secret) reveal() [Size]byte {
	if s.b == nil {
		return [Size]byte{}
	}
	return **s.b
}

func (s secret) equal(o secret) bool {
	a, b := s.reveal(), o.reveal()
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (s secret) isZero() bool { return s.equal(secret{}) }

func (s secret) hex() string {
	b := s.reveal()
	return hex.EncodeToString(b[:])
}

const (
	hiddenPrivate   = "(private key)"
	hiddenPreshared = "(preshared key)"
)

// String hides the secret.
func (k PrivateKey) String() string { return hiddenPrivate }

// Format hides the secret from all verbs.
func (k PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hiddenPrivate) }

// LogValue hides the secret from slog.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(hiddenPrivate) }

// MarshalText refuses with ErrSecret, so that no encoder can write the secret by accident.
func (k PrivateKey) MarshalText() ([]byte, error) { return nil, ErrSecret }

// String hides the secret.
func (k PresharedKey) String() string { return hiddenPreshared }

// Format hides the secret from all verbs.
func (k PresharedKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hiddenPreshared) }

// LogValue hides the secret from slog.
func (k PresharedKey) LogValue() slog.Value { return slog.StringValue(hiddenPreshared) }

// MarshalText refuses with ErrSecret, so that no encoder can write the secret by accident.
func (k PresharedKey) MarshalText() ([]byte, error) { return nil, ErrSecret }
