package path

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// ProbeSize is the length of every probe in bytes. Questions and answers have one length, so that nobody gains by asking.
const ProbeSize = 48

// Window is how far the clocks of the two ends may differ. Beyond it they stay on the relay.
const Window = 10 * time.Minute

// magic begins a probe. The first four bytes of a WireGuard message are a number from 1 to 4, little-endian (WireGuard paper §5.4), so that no
// probe passes for one.
const magic = "twp\x01"

// label separates the keys of probes from all else that is made of WireGuard's static keys.
const label = "towpath path probe v1"

// Layout in bytes: magic 0–3, kind 4, zeros 5–7, id 8–15, sequence 16–23, echo 24–31, tag 32–47; numbers are big-endian.
const (
	kindAt, idAt, sequenceAt, echoAt, tagAt = 4, 8, 16, 24, 32
)

// Kind is what a probe is.
type Kind uint8

// Kinds of probes.
const (
	Ping Kind = 1
	Pong Kind = 2
)

// Probe is a question or its answer.
type Probe struct {
	Kind Kind
	// Echo is in a Pong the Sequence of its Ping, and otherwise 0.
	Echo uint64
	// Sequence grows with every probe of a sender. It is the time in microseconds since 1970, or the last one and 1.
	Sequence uint64
}

// ID names a pair of peers and which of the two is the sender. Strangers learn nothing from it.
type ID [8]byte

// IsProbe reports whether a packet is a probe and not a WireGuard message. It says nothing about who made it.
func IsProbe(p []byte) bool { return len(p) == ProbeSize && bytes.HasPrefix(p, []byte(magic)) }

// IDOf returns the ID of a packet for which IsProbe is true.
func IDOf(p []byte) ID { return ID(p[idAt:sequenceAt]) }

// Channel seals probes to one peer and opens those from it. It is not safe for concurrent use.
type Channel struct {
	sendID, receiveID ID
	sendKey, key      [sha256.Size]byte
	seen              replay
}

// NewChannel derives the keys of a pair from its static keys: X25519, then HKDF-SHA256 (RFC 5869) with a label of its own and both public
// keys. Either direction has its own key, so that a probe cannot be sent back to who made it.
func NewChannel(own wgkey.PrivateKey, peer wgkey.PublicKey) (*Channel, error) {
	public, err := own.Public()
	if err != nil {
		return nil, fmt.Errorf("key of probes: %w", err)
	}
	raw := own.RevealBytes()
	defer clear(raw[:])
	scalar, err := ecdh.X25519().NewPrivateKey(raw[:])
	if err != nil {
		return nil, fmt.Errorf("key of probes: %w", err)
	}
	point, err := ecdh.X25519().NewPublicKey(peer[:])
	if err != nil {
		return nil, fmt.Errorf("key of probes: %w", err)
	}
	shared, err := scalar.ECDH(point)
	if err != nil {
		return nil, fmt.Errorf("key of probes for %v: %w", peer, err)
	}
	defer clear(shared)
	c := &Channel{}
	if c.sendID, c.sendKey, err = expand(shared, public, peer); err != nil {
		return nil, err
	}
	c.receiveID, c.key, err = expand(shared, peer, public)
	return c, err
}

func expand(shared []byte, from, to wgkey.PublicKey) (id ID, key [sha256.Size]byte, err error) {
	info := string(slices.Concat(from[:], to[:]))
	out, err := hkdf.Key(sha256.New, shared, []byte(label), info, len(key)+len(id))
	if err != nil {
		return id, key, fmt.Errorf("key of probes: %w", err)
	}
	defer clear(out)
	copy(key[:], out)
	copy(id[:], out[len(key):])
	return id, key, nil
}

// ReceiveID is the ID of the probes that Open takes.
func (c *Channel) ReceiveID() ID { return c.receiveID }

// Seal returns p as a packet.
func (c *Channel) Seal(p Probe) []byte {
	b := make([]byte, ProbeSize)
	copy(b, magic)
	b[kindAt] = byte(p.Kind)
	copy(b[idAt:], c.sendID[:])
	binary.BigEndian.PutUint64(b[sequenceAt:], p.Sequence)
	binary.BigEndian.PutUint64(b[echoAt:], p.Echo)
	tag := sum(c.sendKey, b[:tagAt])
	copy(b[tagAt:], tag[:])
	return b
}

// Open returns what is in a packet. It is false for what the peer did not make, what was seen before, and what is older or newer than
// Window.
func (c *Channel) Open(b []byte, now time.Time) (Probe, bool) {
	if !IsProbe(b) || IDOf(b) != c.receiveID {
		return Probe{}, false
	}
	tag := sum(c.key, b[:tagAt])
	if !hmac.Equal(tag[:], b[tagAt:]) {
		return Probe{}, false
	}
	p := Probe{Kind: Kind(b[kindAt]), Sequence: binary.BigEndian.Uint64(b[sequenceAt:]), Echo: binary.BigEndian.Uint64(b[echoAt:])}
	at, width := microseconds(now), uint64(Window.Microseconds())
	if p.Kind != Ping && p.Kind != Pong || p.Sequence+width < at || p.Sequence > at+width || !c.seen.take(p.Sequence) {
		return Probe{}, false
	}
	return p, true
}

func sum(key [sha256.Size]byte, b []byte) (tag [ProbeSize - tagAt]byte) {
	h := hmac.New(sha256.New, key[:])
	h.Write(b)
	copy(tag[:], h.Sum(nil))
	return tag
}

func microseconds(t time.Time) uint64 {
	return uint64(max(t.UnixMicro(), 0))
}

// remembered is how many sequences a replay remembers. Probes that overtake more than this are lost.
const remembered = 128

// replay remembers the largest sequences that came.
type replay struct{ seen []uint64 } // ascending

// take reports whether n is new.
func (r *replay) take(n uint64) bool {
	i, found := slices.BinarySearch(r.seen, n)
	if found || i == 0 && len(r.seen) == remembered {
		return false
	}
	r.seen = slices.Insert(r.seen, i, n)
	if len(r.seen) > remembered {
		r.seen = slices.Delete(r.seen, 0, 1)
	}
	return true
}
