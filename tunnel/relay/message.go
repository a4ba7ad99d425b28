package relay

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"

	"golang.org/x/crypto/blake2s"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// kind is the type of a WireGuard message (WireGuard paper §5.4).
type kind uint32

const (
	initiation kind = 1
	response   kind = 2
	cookie     kind = 3
	transport  kind = 4
)

// Sizes of messages in bytes; a transport message has at least its header and an authentication tag.
const (
	initiationSize = 148
	responseSize   = 92
	cookieSize     = 64
	transportMin   = 32
	macsSize       = 32 // mac1 and mac2 end both handshake messages
	macSize        = 16
)

// message is what the header of a packet says. Indexes are numbers without order; those that a kind does not have are 0.
type message struct {
	kind             kind
	sender, receiver uint32
}

// classify reads the header of a packet; ok is false for what is no WireGuard message.
func classify(p []byte) (m message, ok bool) {
	if len(p) < transportMin {
		return message{}, false
	}
	m.kind = kind(binary.LittleEndian.Uint32(p))
	first, second := binary.LittleEndian.Uint32(p[4:]), binary.LittleEndian.Uint32(p[8:])
	switch m.kind {
	case initiation:
		m.sender, ok = first, len(p) == initiationSize
	case response:
		m.sender, m.receiver, ok = first, second, len(p) == responseSize
	case cookie:
		m.receiver, ok = first, len(p) == cookieSize
	case transport:
		m.receiver, ok = first, true
	}
	if !ok {
		return message{}, false
	}
	return m, true
}

// macLabel is LABEL_MAC1 (WireGuard paper §5.4.4).
const macLabel = "mac1----"

// macKey recognizes handshake messages to the owner of one public key. It is for one goroutine at a time.
type macKey struct {
	hash hash.Hash
	sum  [macSize]byte
}

func newMACKey(k wgkey.PublicKey) (*macKey, error) {
	key := blake2s.Sum256(append([]byte(macLabel), k[:]...))
	h, err := blake2s.New128(key[:])
	if err != nil {
		return nil, fmt.Errorf("hash under a public key: %w", err)
	}
	return &macKey{hash: h}, nil
}

// fits reports whether a handshake message is for the owner of the key. It proves nothing of who made it.
func (k *macKey) fits(p []byte) bool {
	covered := len(p) - macsSize
	k.hash.Reset()
	_, _ = k.hash.Write(p[:covered]) // a hash never fails
	return subtle.ConstantTimeCompare(k.hash.Sum(k.sum[:0]), p[covered:covered+macSize]) == 1
}
