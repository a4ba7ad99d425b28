package transfer

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind says what a Receipt attests.
type Kind byte

// The kinds of receipts.
const (
	// Taken: the item is synced to disk at the receiving gateway (t1).
	Taken Kind = 1
	// Accepted: the application behind the receiving gateway has taken it (t2).
	Accepted Kind = 2
	// Parked: the application refused it for good; it waits for an operator at the receiving gateway.
	Parked Kind = 3
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Taken:
		return "taken"
	case Accepted:
		return "accepted"
	case Parked:
		return "parked"
	}
	return fmt.Sprintf("kind %d", byte(k))
}

const (
	receiptMark    = "towpath receipt\n"
	receiptVersion = 1
	// maxReceipt bounds the canonical form of a Receipt, in bytes.
	maxReceipt = 4 << 10
)

var (
	// ErrSignature means that a receipt was not signed by that key, or was changed since.
	ErrSignature = errors.New("the signature of the receipt does not fit")
	errReceipt   = errors.New("this is no receipt")
)

// KeyID is the beginning of the SHA-256 of a public key.
type KeyID [8]byte

// KeyIDOf names a key.
func KeyIDOf(public ed25519.PublicKey) (id KeyID) {
	sum := sha256.Sum256(public)
	copy(id[:], sum[:])
	return id
}

// Receipt is a receiving gateway's signed word on one item. It can be verified without either gateway.
type Receipt struct {
	Kind Kind
	Origin
	Size    int64
	Service string
	// By is the node that signs, Key its key.
	By  string
	Key KeyID
	// At is the time by the clock of By.
	At time.Time
	// Result is what the application said; empty when Taken.
	Code, Peer, Reason string

	canonical []byte // with the signature
}

// Bytes returns the canonical form with its signature, at most 4 KiB. It is nil for a Receipt that was neither signed nor parsed.
func (r Receipt) Bytes() []byte { return r.canonical }

// The canonical form: mark, version, kind, then the fields, then 64 bytes of Ed25519 over all before.
func (r Receipt) appendBody(b []byte) []byte {
	b = append(b, receiptMark...)
	b = append(b, receiptVersion, byte(r.Kind))
	b = appendText(appendText(b, r.Node), r.ID)
	b = append(b, r.SHA256[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Size))
	b = appendText(appendText(b, r.Service), r.By)
	b = append(b, r.Key[:]...)
	b = appendTime(b, r.At)
	return appendText(appendText(appendText(b, r.Code), r.Peer), r.Reason)
}

// sign returns r with its canonical form.
func (r Receipt) sign(signer crypto.Signer) (Receipt, error) {
	public, ok := signer.Public().(ed25519.PublicKey)
	if !ok {
		return r, fmt.Errorf("sign a receipt: the key is a %T, not an Ed25519 one", signer.Public())
	}
	r.Key = KeyIDOf(public)
	r.Code, r.Peer, r.Reason = limitText(r.Code), limitText(r.Peer), limitText(r.Reason)
	body := r.appendBody(nil)
	signature, err := signer.Sign(nil, body, crypto.Hash(0))
	if err != nil {
		return r, fmt.Errorf("sign a receipt: %w", err)
	}
	r.canonical = append(body, signature...)
	return r, nil
}

// ParseReceipt reads the canonical form. It does not verify the signature.
func ParseReceipt(b []byte) (Receipt, error) {
	if len(b) > maxReceipt || len(b) < len(receiptMark)+ed25519.SignatureSize {
		return Receipt{}, fmt.Errorf("%w: %d bytes", errReceipt, len(b))
	}
	d := decoder{b: b[:len(b)-ed25519.SignatureSize]}
	if string(d.take(len(receiptMark))) != receiptMark {
		return Receipt{}, fmt.Errorf("%w: its first bytes are others", errReceipt)
	}
	if v := d.u8(); v != receiptVersion {
		return Receipt{}, fmt.Errorf("%w of version %d, the only one that this program knows: update it", errReceipt, receiptVersion)
	}
	r := Receipt{Kind: Kind(d.u8())}
	r.Node, r.ID = d.text(MaxName), d.text(MaxName)
	r.SHA256, r.Size = d.digest(), d.size()
	r.Service, r.By = d.text(MaxName), d.text(MaxName)
	copy(r.Key[:], d.take(len(r.Key)))
	r.At = d.time()
	r.Code, r.Peer, r.Reason = d.text(MaxText), d.text(MaxText), d.text(MaxText)
	if d.end() != nil || r.Kind < Taken || r.Kind > Parked {
		return Receipt{}, fmt.Errorf("%w: its fields do not fit", errReceipt)
	}
	r.canonical = append([]byte(nil), b...)
	return r, nil
}

// Verify checks the signature. The error is ErrSignature.
func (r Receipt) Verify(public ed25519.PublicKey) error {
	n := len(r.canonical) - ed25519.SignatureSize
	if n < 0 || len(public) != ed25519.PublicKeySize || KeyIDOf(public) != r.Key || !ed25519.Verify(public, r.canonical[:n], r.canonical[n:]) {
		return fmt.Errorf("%w: it names %s and the key %x", ErrSignature, r.By, r.Key)
	}
	return nil
}

// limitText cuts what a peer or an application says, and what is no text out of it.
func limitText(s string) string { return strings.ToValidUTF8(s[:min(len(s), MaxText)], "") }
