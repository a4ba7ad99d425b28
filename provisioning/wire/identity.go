package wire

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrIdentity means that somebody else than the coordinator of the token has answered, or that its answer was changed on the way.
var ErrIdentity = errors.New("the answer is not from the coordinator that this token belongs to")

// identityContext separates identity fingerprints from any other use of SHA-256 over the same keys.
const identityContext = "identity v1\x00"

// FingerprintSize is the length of a Fingerprint in bytes: 160 bits against a second preimage.
const FingerprintSize = 20

// Fingerprint pins an Identity. It travels in the token.
type Fingerprint [FingerprintSize]byte

// String is the form shown to people: 32 base-32 letters.
func (f Fingerprint) String() string { return lowerBase32.EncodeToString(f[:]) }

// Identity is the public half of a coordinator. It needs no protection on the way, because the token pins it.
type Identity struct {
	// HPKE is the public key requests are sealed to, see KEM.
	HPKE []byte `json:"hpke"`
	// Network is the key that signs NetMaps.
	Network ed25519.PublicKey `json:"network"`
}

// KEM is the key encapsulation of sealed requests: X25519 and ML-KEM-768 combined, so that a recording made today is worth nothing
// even if one of the two falls (RFC 9180 §4 with draft-ietf-hpke-pq).
func KEM() hpke.KEM { return hpke.MLKEM768X25519() }

// Fingerprint is SHA-256 over both keys, each with its length before it, cut to FingerprintSize.
func (i Identity) Fingerprint() Fingerprint {
	h := sha256.New()
	h.Write([]byte(identityContext))
	for _, k := range [][]byte{i.HPKE, i.Network} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(k))))
		h.Write(k)
	}
	return Fingerprint(h.Sum(nil)[:FingerprintSize])
}

// Verify refuses, with ErrIdentity, an Identity other than the pinned one, and one with keys that cannot be used.
func (i Identity) Verify(pinned Fingerprint) error {
	got := i.Fingerprint()
	if subtle.ConstantTimeCompare(got[:], pinned[:]) != 1 {
		return ErrIdentity
	}
	if len(i.Network) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: the network key has %d bytes", ErrIdentity, len(i.Network))
	}
	if _, err := KEM().NewPublicKey(i.HPKE); err != nil {
		return fmt.Errorf("%w: the enrolment key cannot be used: %w", ErrIdentity, err)
	}
	return nil
}
