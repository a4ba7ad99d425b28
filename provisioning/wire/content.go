package wire

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// ContentHash identifies what a NetMap says: all of it but for which generation and when it was issued. The zero value stands for none.
type ContentHash [sha256.Size]byte

// IsZero reports whether h stands for none.
func (h ContentHash) IsZero() bool { return h == ContentHash{} }

// String is the text form: 64 hexadecimal digits.
func (h ContentHash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h ContentHash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *ContentHash) UnmarshalText(b []byte) error {
	if len(b) != 2*len(h) {
		return fmt.Errorf("a content hash has %d hexadecimal digits and not %d", 2*len(h), len(b))
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// Encoded is a NetMap in the exact bytes that are signed, and what they say.
type Encoded struct {
	Payload []byte
	Hash    ContentHash
}

// Encode returns the canonical form of m: the same for equal maps, and the one that Sign signs.
func Encode(m NetMap) (Encoded, error) {
	p, err := json.Marshal(m)
	if err != nil {
		return Encoded{}, fmt.Errorf("encode the NetMap: %w", err)
	}
	return Encoded{Payload: p, Hash: contentOf(p)}, nil
}

// Sign signs e with the network's key, or one that has a Delegation, which the caller then sets.
func (e Encoded) Sign(key ed25519.PrivateKey) Signed {
	return Signed{Payload: e.Payload, Signature: ed25519.Sign(key, append([]byte(netMapContext), e.Payload...))}
}

// Hash identifies what the map in s says. It is taken from the signed bytes, so that fields this build does not know count, too.
func (s Signed) Hash() ContentHash { return contentOf(s.Payload) }

// contentOf leaves out Generation, Issued and Expires: they stand together, between the network and the Node. What precedes them holds no
// such name, because a quotation mark within a string is escaped.
func contentOf(payload []byte) ContentHash {
	head, rest, ok := bytes.Cut(payload, []byte(`"generation":`))
	i := bytes.Index(rest, []byte(`"self":`))
	if !ok || i < 0 {
		return sha256.Sum256(payload)
	}
	h := sha256.New()
	h.Write(head)
	h.Write(rest[i:])
	return ContentHash(h.Sum(nil))
}
