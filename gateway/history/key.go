package history

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Hash stands for a UID; the zero value for none.
type Hash [16]byte

// shortHash is how many bytes of a Hash people get to see.
const shortHash = 8

// String is short: 64 bits in hexadecimal, which no two studies of a box share by chance.
func (h Hash) String() string {
	if h == (Hash{}) {
		return ""
	}
	return hex.EncodeToString(h[:shortHash])
}

// Key makes Hashes. It never prints.
type Key struct{ secret [sha256.Size]byte }

// NewKey takes a secret of 32 bytes.
func NewKey(secret []byte) (Key, error) {
	var k Key
	if len(secret) != len(k.secret) {
		return k, fmt.Errorf("the key of the history has %d bytes, not %d", len(secret), len(k.secret))
	}
	copy(k.secret[:], secret)
	return k, nil
}

// String implements fmt.Stringer.
func (Key) String() string { return "(key of the history)" }

// GoString implements fmt.GoStringer.
func (k Key) GoString() string { return k.String() }

// Object is the Hash of a SOP Instance UID, and Study that of a Study Instance UID; both of an empty one are zero.
func (k Key) Object(uid string) Hash { return k.hash("object", uid) }

// Study is the other one.
func (k Key) Study(uid string) Hash { return k.hash("study", uid) }

func (k Key) hash(kind, uid string) (h Hash) {
	if uid == "" {
		return h
	}
	m := hmac.New(sha256.New, k.secret[:])
	_, _ = m.Write([]byte(kind + "\x00" + uid)) // never fails
	copy(h[:], m.Sum(nil))
	return h
}
