package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrSignature means that a document was not signed by the network's key, or was changed after.
var ErrSignature = errors.New("the signature does not fit the network's key")

// netMapContext separates NetMap signatures from any other use of the same key (Ed25519ph-style domain separation by prefix).
const netMapContext = "netmap v1\x00"

// Signed is a NetMap as it travels and is stored: the exact bytes that were signed, and the signature.
type Signed struct {
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
	// Delegation is set where the network's key is kept off the coordinator: then Signature is by the key it names.
	Delegation *Delegation `json:"delegation,omitempty"`
}

// Sign encodes and signs m with the network's key, or one that has a Delegation, which the caller then sets.
func Sign(m NetMap, key ed25519.PrivateKey) (Signed, error) {
	p, err := json.Marshal(m)
	if err != nil {
		return Signed{}, fmt.Errorf("encode the NetMap: %w", err)
	}
	return Signed{Payload: p, Signature: ed25519.Sign(key, append([]byte(netMapContext), p...))}, nil
}

// Open verifies s with the network's key and decodes it. It refuses a Format above our own and a map of another network than the key's.
// What a delegated key has signed is NetMap.Delegated.
func (s Signed) Open(key ed25519.PublicKey) (NetMap, error) {
	signer := key
	if s.Delegation != nil {
		if err := s.Delegation.Verify(key); err != nil {
			return NetMap{}, err
		}
		signer = s.Delegation.Key
	}
	if !verify(signer, netMapContext, s.Payload, s.Signature) {
		return NetMap{}, ErrSignature
	}
	var m NetMap
	if err := json.Unmarshal(s.Payload, &m); err != nil {
		return NetMap{}, fmt.Errorf("decode the NetMap: %w", err)
	}
	if m.Format > Format {
		return NetMap{}, fmt.Errorf("the NetMap has format %d and this build knows up to %d: update the software of this box", m.Format, Format)
	}
	if m.Network != NetworkID(key) {
		return NetMap{}, fmt.Errorf("%w: the map is of network %s", ErrSignature, m.Network)
	}
	m.Delegated = s.Delegation != nil
	return m, nil
}

// verify checks a signature over a context and a message; a key or signature of another size fits nothing.
func verify(key ed25519.PublicKey, context string, message, signature []byte) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, append([]byte(context), message...), signature)
}

// NetworkID is the short name of the network that a signing key stands for: 16 base-32 letters of its SHA-256.
func NetworkID(key ed25519.PublicKey) string {
	h := sha256.Sum256(key)
	return lowerBase32.EncodeToString(h[:10])
}

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
