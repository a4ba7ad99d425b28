package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// ErrSealed means that a sealed message is not for this key, not an answer to this request, or was changed on the way.
var ErrSealed = errors.New("the sealed message cannot be opened")

// A sealed request is sealVersion, the HPKE encapsulated key (RFC 9180 §4) and the ciphertext of the JSON. Its answer is sealVersion,
// a random salt and a ciphertext, under a key that both ends export from the request's HPKE context, as in RFC 9458 §4.4; the digest of
// the whole request is authenticated with it, so that an answer fits one request only.
const (
	sealVersion  = 1
	encSize      = 1120 // X25519 and ML-KEM-768
	saltSize     = 32
	sealKeySize  = 32
	aeadOverhead = 16
)

// exchange is one kind of sealed request and answer: a message of one kind cannot be opened as one of another.
type exchange struct {
	info, answer string
	// maxRequest and maxAnswer are in bytes, sealed.
	maxRequest, maxAnswer int
}

func enrolling() exchange {
	return exchange{"enroll request v1\x00", "enroll response v1\x00", MaxEnrollBody, MaxEnrollResponse}
}

// MaxEnrollResponse bounds a sealed answer, which may hold the NetMap of a center.
const MaxEnrollResponse = MaxFrame + 64<<10

// SealRequest seals r to the coordinator. The caller has verified the Identity against its token. The opener opens the answer.
func SealRequest(id Identity, r EnrollRequest) (body []byte, opener *ResponseOpener, err error) {
	body, key, err := enrolling().seal(id.HPKE, r)
	if err != nil {
		return nil, nil, err
	}
	return body, &ResponseOpener{key}, nil
}

// OpenRequest opens what SealRequest made. The sealer seals the answer, also when the request is refused.
func OpenRequest(key hpke.PrivateKey, body []byte) (EnrollRequest, *ResponseSealer, error) {
	var r EnrollRequest
	answer, err := enrolling().open(key, body, &r)
	if answer == nil {
		return EnrollRequest{}, nil, err
	}
	return r, &ResponseSealer{*answer}, err
}

// ResponseSealer seals the answer to one request.
type ResponseSealer struct{ key responseKey }

// Seal encodes and seals r.
func (s *ResponseSealer) Seal(r EnrollResponse) ([]byte, error) {
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return s.key.seal(plain)
}

// ResponseOpener opens the answer to one request.
type ResponseOpener struct{ key responseKey }

// Open opens and decodes what ResponseSealer.Seal made.
func (o *ResponseOpener) Open(body []byte) (EnrollResponse, error) {
	var r EnrollResponse
	if err := o.key.open(body, &r); err != nil {
		return EnrollResponse{}, err
	}
	return r, nil
}

// seal encodes and seals a request to a coordinator's key, see KEM.
func (x exchange) seal(to []byte, request any) (body []byte, answer responseKey, err error) {
	pub, err := KEM().NewPublicKey(to)
	if err != nil {
		return nil, answer, fmt.Errorf("use the coordinator's key: %w", err)
	}
	plain, err := json.Marshal(request)
	if err != nil {
		return nil, answer, fmt.Errorf("encode the request: %w", err)
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(x.info))
	if err != nil {
		return nil, answer, fmt.Errorf("seal the request: %w", err)
	}
	head := []byte{sealVersion}
	sealed, err := sender.Seal(head, plain)
	if err != nil {
		return nil, answer, fmt.Errorf("seal the request: %w", err)
	}
	body = slices.Concat(head, enc, sealed)
	if len(body) > x.maxRequest {
		return nil, answer, fmt.Errorf("the request has %d bytes and %d are the limit: the box reports too much of itself", len(body), x.maxRequest)
	}
	secret, err := sender.Export(x.answer, sealKeySize)
	if err != nil {
		return nil, answer, fmt.Errorf("derive the key of the answer: %w", err)
	}
	return body, newResponseKey(secret, body, x.maxAnswer), nil
}

// open opens what seal made and decodes it into request. The key of the answer is nil if nothing can be sealed back.
func (x exchange) open(key hpke.PrivateKey, body []byte, request any) (answer *responseKey, err error) {
	if len(body) > x.maxRequest {
		return nil, fmt.Errorf("%w: %d bytes and %d are the limit", ErrSealed, len(body), x.maxRequest)
	}
	if len(body) < 1+encSize+aeadOverhead {
		return nil, fmt.Errorf("%w: only %d bytes", ErrSealed, len(body))
	}
	if body[0] != sealVersion {
		return nil, fmt.Errorf("%w: version %d and this coordinator knows %d", ErrSealed, body[0], sealVersion)
	}
	recipient, err := hpke.NewRecipient(body[1:1+encSize], key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(x.info))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	plain, err := recipient.Open(body[:1], body[1+encSize:])
	if err != nil {
		return nil, fmt.Errorf("%w: it is for another key or damaged", ErrSealed)
	}
	secret, err := recipient.Export(x.answer, sealKeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of the answer: %w", err)
	}
	k := newResponseKey(secret, body, x.maxAnswer)
	if err := json.Unmarshal(plain, request); err != nil {
		return &k, fmt.Errorf("decode the request: %w", err)
	}
	return &k, nil
}

// responseKey is what both ends know of the answer before it is made.
type responseKey struct {
	secret  []byte
	enc     []byte
	request [sha256.Size]byte
	// max is the size of a sealed answer, in bytes.
	max int
}

func newResponseKey(secret, body []byte, limit int) responseKey {
	return responseKey{secret: secret, enc: slices.Clone(body[1 : 1+encSize]), request: sha256.Sum256(body), max: limit}
}

func (k responseKey) seal(plain []byte) ([]byte, error) {
	body := make([]byte, 1+saltSize, 1+saltSize+len(plain)+aeadOverhead)
	body[0] = sealVersion
	rand.Read(body[1:]) // never fails: crypto/rand
	aead, nonce, err := k.aead(body[1:])
	if err != nil {
		return nil, err
	}
	body = aead.Seal(body, nonce, plain, k.request[:])
	if len(body) > k.max {
		return nil, fmt.Errorf("the answer has %d bytes and %d are the limit", len(body), k.max)
	}
	return body, nil
}

func (k responseKey) open(body []byte, into any) error {
	if len(body) > k.max || len(body) < 1+saltSize+aeadOverhead {
		return fmt.Errorf("%w: %d bytes", ErrSealed, len(body))
	}
	if body[0] != sealVersion {
		return fmt.Errorf("%w: version %d and this build knows %d", ErrSealed, body[0], sealVersion)
	}
	aead, nonce, err := k.aead(body[1 : 1+saltSize])
	if err != nil {
		return err
	}
	plain, err := aead.Open(nil, nonce, body[1+saltSize:], k.request[:])
	if err != nil {
		return fmt.Errorf("%w: it answers another request or is damaged", ErrSealed)
	}
	if err := json.Unmarshal(plain, into); err != nil {
		return fmt.Errorf("decode the answer: %w", err)
	}
	return nil
}

// aead derives key and nonce from the exported secret, salted with the encapsulated key and fresh randomness (RFC 9458 §4.4).
func (k responseKey) aead(salt []byte) (cipher.AEAD, []byte, error) {
	prk, err := hkdf.Extract(sha256.New, k.secret, slices.Concat(k.enc, salt))
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of the answer: %w", err)
	}
	key, err := hkdf.Expand(sha256.New, prk, "key", sealKeySize)
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of the answer: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of the answer: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of the answer: %w", err)
	}
	nonce, err := hkdf.Expand(sha256.New, prk, "nonce", aead.NonceSize())
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of the answer: %w", err)
	}
	return aead, nonce, nil
}

// String describes an EnrollRequest without its secret.
func (r EnrollRequest) String() string { return "enrolment request with token " + r.TokenID }

// GoString hides the secret from %#v.
func (r EnrollRequest) GoString() string { return r.String() }

// LogValue hides the secret from slog.
func (r EnrollRequest) LogValue() slog.Value { return slog.StringValue(r.String()) }
