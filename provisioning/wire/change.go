package wire

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrMisfit means that a Frame does not fit the map that a Node has: something was lost on the way, or one side cannot follow the other.
// The Node asks for the whole map.
var ErrMisfit = errors.New("what the coordinator sent does not fit the map of this box")

// Change is a NetMap as it travels to a Node that has an earlier one. The signature is that of the whole new map, so that a Change makes
// no Node accept what it would not accept whole.
type Change struct {
	// Base is the map that the Node must have.
	Base ContentHash `json:"base"`
	// Diff is a Diff.
	Diff      json.RawMessage `json:"diff"`
	Signature []byte          `json:"signature"`
	// Delegation is that of the new map.
	Delegation *Delegation `json:"delegation,omitempty"`
}

// Since returns s, which is m, as a Change from old with the content base.
func (s Signed) Since(base ContentHash, old, m NetMap) (Change, error) {
	d, err := json.Marshal(MakeDiff(old, m))
	if err != nil {
		return Change{}, fmt.Errorf("encode the diff: %w", err)
	}
	return Change{Base: base, Diff: d, Signature: s.Signature, Delegation: s.Delegation}, nil
}

// Open makes the new map of the one that the Node has and verifies it as Signed.Open does. It returns also the form to be stored. Every
// error is ErrMisfit.
func (c Change) Open(key ed25519.PublicKey, have NetMap, hash ContentHash) (NetMap, Signed, error) {
	fail := func(err error) (NetMap, Signed, error) {
		return NetMap{}, Signed{}, fmt.Errorf("%w: %w", ErrMisfit, err)
	}
	if c.Base != hash {
		return fail(fmt.Errorf("the change is from map %.8s…, and this box has %.8s… of generation %d", c.Base, hash, have.Generation))
	}
	var d Diff
	if err := json.Unmarshal(c.Diff, &d); err != nil {
		return fail(fmt.Errorf("decode the diff: %w", err))
	}
	m, err := Apply(have, d)
	if err != nil {
		return fail(err)
	}
	e, err := Encode(m)
	if err != nil {
		return fail(err)
	}
	s := Signed{Payload: e.Payload, Signature: c.Signature, Delegation: c.Delegation}
	if m, err = s.Open(key); err != nil {
		return fail(err)
	}
	return m, s, nil
}
