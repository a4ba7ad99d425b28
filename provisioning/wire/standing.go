package wire

import (
	"bytes"
	"crypto/hpke"
	"encoding/json"
	"fmt"
)

// MaxStandingBody bounds a sealed StandingRequest, in bytes.
const MaxStandingBody = 4 << 10

// StandingSize is the size, in bytes, of every sealed StandingResponse: what is asked of whom cannot be told from it.
const StandingSize = 1 + saltSize + standingPlain + aeadOverhead

// standingPlain is to what the JSON of an answer is filled up with spaces.
const standingPlain = 2 << 10

// maxStandingMessage leaves room for a message in which every byte has to be escaped.
const maxStandingMessage = 300

func askingStanding() exchange {
	return exchange{"standing request v1\x00", "standing response v1\x00", MaxStandingBody, StandingSize}
}

// SealStanding seals req to a coordinator's key, as SealRequest does; seal is Hub.Seal. The opener opens the answer.
func SealStanding(seal []byte, req StandingRequest) (body []byte, o *StandingOpener, err error) {
	body, key, err := askingStanding().seal(seal, req)
	if err != nil {
		return nil, nil, err
	}
	return body, &StandingOpener{key}, nil
}

// OpenStanding opens what SealStanding made. The sealer is nil if nothing can be sealed back.
func OpenStanding(key hpke.PrivateKey, body []byte) (StandingRequest, *StandingSealer, error) {
	var r StandingRequest
	answer, err := askingStanding().open(key, body, &r)
	if answer == nil {
		return StandingRequest{}, nil, err
	}
	return r, &StandingSealer{*answer}, err
}

// StandingSealer seals the answer to one request.
type StandingSealer struct{ key responseKey }

// Seal encodes and seals r in StandingSize bytes. It cuts a message of more than 300 bytes.
func (s *StandingSealer) Seal(r StandingResponse) ([]byte, error) {
	if len(r.Message) > maxStandingMessage {
		r.Message = string(bytes.ToValidUTF8([]byte(r.Message)[:maxStandingMessage], nil))
	}
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	if len(plain) > standingPlain {
		return nil, fmt.Errorf("the answer has %d bytes and %d are the limit", len(plain), standingPlain)
	}
	return s.key.seal(append(plain, bytes.Repeat([]byte{' '}, standingPlain-len(plain))...))
}

// StandingOpener opens the answer to one request.
type StandingOpener struct{ key responseKey }

// Open opens and decodes what StandingSealer.Seal made.
func (o *StandingOpener) Open(body []byte) (StandingResponse, error) {
	var r StandingResponse
	if err := o.key.open(body, &r); err != nil {
		return StandingResponse{}, err
	}
	return r, nil
}
