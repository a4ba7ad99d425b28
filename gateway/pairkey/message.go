package pairkey

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Limits of a message.
const (
	// MaxMessage is in bytes.
	MaxMessage = 4 << 10
	version    = 1
	idSize     = 16      // bytes
	maxEpoch   = 1 << 60 // far more than there will be, and far from where adding one gives zero
)

// kind is what a message is.
type kind string

const (
	kindOffer  kind = "offer"
	kindKey    kind = "key"
	kindAck    kind = "ack"
	kindCommit kind = "commit"
	kindWant   kind = "want"
)

// message is what the ends of a pair leave for one another.
type message struct {
	Version int    `json:"v"`
	Kind    kind   `json:"kind"`
	Epoch   uint64 `json:"epoch"`
	// Base is the epoch that the maker uses while it proposes another one.
	Base uint64 `json:"base,omitempty"`
	// ID names the exchange, in an offer and a key.
	ID []byte `json:"id,omitempty"`
	// Data is the public key of an offer, or the sealed key.
	Data []byte `json:"data,omitempty"`
	MAC  []byte `json:"mac"`
}

var errMessage = errors.New("a message about a preshared key makes no sense")

// parse reads a message and checks its form.
func parse(body []byte) (message, error) {
	var m message
	if len(body) > MaxMessage || json.Unmarshal(body, &m) != nil || m.Version != version || len(m.MAC) != sha256.Size ||
		m.Epoch > maxEpoch || m.Base > maxEpoch {
		return message{}, errMessage
	}
	ok := false
	switch m.Kind {
	case kindOffer, kindKey:
		ok = len(m.ID) == idSize && len(m.Data) > 0
	case kindAck, kindCommit:
		ok = m.Epoch > 0 && len(m.ID) == 0 && len(m.Data) == 0
	case kindWant:
		ok = len(m.ID) == 0 && len(m.Data) == 0
	}
	if !ok {
		return message{}, errMessage
	}
	return m, nil
}

// Link is what authenticates the two ends to one another: the WireGuard keys that each has now. The first of each is what is sent with,
// all are listened to, because a key may be changing.
type Link struct {
	Own  []wgkey.PrivateKey
	Peer []wgkey.PublicKey
}

// secrets are what the pair shares by its WireGuard keys, in the order of Link. Keys that give nothing are left out.
func (l Link) secrets() [][]byte {
	var out [][]byte
	for _, own := range l.Own {
		for _, peer := range l.Peer {
			if s, err := shared(own, peer); err == nil {
				out = append(out, s)
			}
		}
	}
	return out
}

func shared(own wgkey.PrivateKey, peer wgkey.PublicKey) ([]byte, error) {
	if own.IsZero() || peer.IsZero() {
		return nil, errMessage
	}
	secret := own.RevealBytes()
	k, err := ecdh.X25519().NewPrivateKey(secret[:])
	if err != nil {
		return nil, errMessage
	}
	p, err := ecdh.X25519().NewPublicKey(peer[:])
	if err != nil {
		return nil, errMessage
	}
	dh, err := k.ECDH(p)
	if err != nil {
		return nil, errMessage
	}
	ends := [][]byte{k.PublicKey().Bytes(), peer[:]}
	slices.SortFunc(ends, slices.Compare[[]byte])
	out, err := hkdf.Key(sha256.New, dh, nil, "towpath pair key v1\x00"+string(ends[0])+string(ends[1]), sha256.Size)
	if err != nil {
		return nil, errMessage
	}
	return out, nil
}

// mac is over all of a message, from one node to another. Key is the one that an ack or a commit confirms, else the zero value.
func (m message) mac(secret []byte, key wgkey.PresharedKey, from, to string) []byte {
	psk := key.RevealBytes()
	h := hmac.New(sha256.New, slices.Concat(secret, psk[:]))
	field := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	field([]byte(m.Kind))
	field([]byte(from))
	field([]byte(to))
	field(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, m.Epoch), m.Base))
	field(m.ID)
	field(m.Data)
	return h.Sum(nil)
}

// encode authenticates a message and returns its bytes, or nothing where the WireGuard keys give no secret.
func (m message) encode(l Link, key wgkey.PresharedKey, from, to string) []byte {
	secrets := l.secrets()
	if len(secrets) == 0 {
		return nil
	}
	m.Version, m.MAC = version, m.mac(secrets[0], key, from, to)
	b, err := json.Marshal(m)
	if err != nil || len(b) > MaxMessage {
		return nil
	}
	return b
}

// authentic reports whether the other end made m, and of an ack or a commit that it has key.
func (m message) authentic(l Link, key wgkey.PresharedKey, from, to string) bool {
	return slices.ContainsFunc(l.secrets(), func(s []byte) bool { return hmac.Equal(m.MAC, m.mac(s, key, from, to)) })
}

// KEM is the hybrid of ML-KEM-768 and X25519 that keys are sealed with (draft-ietf-hpke-pq).
func kem() hpke.KEM { return hpke.MLKEM768X25519() }

// info ties a sealed key to its pair, exchange and epoch.
func info(maker, taker string, m message) []byte {
	var b strings.Builder
	b.WriteString("towpath preshared key v1\x00" + maker + "\x00" + taker + "\x00")
	b.Write(m.ID)
	b.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, m.Epoch), m.Base))
	return []byte(b.String())
}

func sealKey(to []byte, key wgkey.PresharedKey, info []byte) ([]byte, error) {
	pub, err := kem().NewPublicKey(to)
	if err != nil {
		return nil, errMessage
	}
	secret := key.RevealBytes()
	sealed, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), info, secret[:])
	if err != nil {
		return nil, errMessage
	}
	return sealed, nil
}

func openKey(k hpke.PrivateKey, sealed, info []byte) (wgkey.PresharedKey, error) {
	secret, err := hpke.Open(k, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
	if err != nil || len(secret) != wgkey.Size {
		return wgkey.PresharedKey{}, errMessage
	}
	return wgkey.PresharedKeyOf([wgkey.Size]byte(secret)), nil
}
