package state

import (
	"errors"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Errors of rotation.
var (
	// ErrNoNextKey means that there is no key to change to: NextKey comes first.
	ErrNoNextKey = errors.New("there is no next key to change to")
	// ErrNoFormerKey means that there is no key to change back to: the last rotation is settled.
	ErrNoFormerKey = errors.New("there is no former key to change back to")
	// ErrNotTurned means that the next key is not in use yet, so that there is nothing to settle.
	ErrNotTurned = errors.New("the next key is not in use yet")
)

// Rotation of the box's key has three states, which the identity file tells apart:
//
//	settled   PrivateKey                 NextKey -> prepared
//	prepared  PrivateKey, Next           TurnKey -> turned
//	turned    PrivateKey, Former         TurnBackKey -> prepared, SettleKey -> settled
//
// Each step is one rename of that file, so that a power cut leaves the box before or after it, and each can be repeated after one that
// was cut. Steps move sealed keys as they are: only NextKey needs the key store.

// NextKey returns the public half of the key to change to. It makes and syncs one unless a rotation has begun: from then on until
// SettleKey it returns the key of that rotation, also when the box uses it already. Not enrolled: ErrNotEnrolled.
func (d *Dir) NextKey() (wgkey.PublicKey, error) {
	d.keys.Lock()
	defer d.keys.Unlock()
	j, err := d.readIdentity()
	if err != nil {
		return wgkey.PublicKey{}, err
	}
	text := j.Next
	if j.Former != "" {
		text = j.PrivateKey
	}
	if text != "" {
		k, err := d.recall(text)
		if err != nil {
			return wgkey.PublicKey{}, err
		}
		return k.Public()
	}
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		return wgkey.PublicKey{}, err
	}
	if j.Next, err = d.keep(k); err != nil {
		return wgkey.PublicKey{}, err
	}
	if err := d.writeIdentity(j); err != nil {
		return wgkey.PublicKey{}, err
	}
	return k.Public()
}

// TurnKey makes the next key the box's own and keeps the old one as the former. It does nothing if that is done, and returns
// ErrNoNextKey if no rotation has begun.
func (d *Dir) TurnKey() error {
	return d.rotate(func(j *identityJSON) error {
		if j.Next == "" && j.Former == "" {
			return ErrNoNextKey
		}
		if j.Next != "" {
			j.PrivateKey, j.Next, j.Former = j.Next, "", j.PrivateKey
		}
		return nil
	})
}

// TurnBackKey is the reverse of TurnKey: the former key is the box's own again, and the other is the next. It does nothing if that is
// done, and returns ErrNoFormerKey if the rotation is settled or none has begun.
func (d *Dir) TurnBackKey() error {
	return d.rotate(func(j *identityJSON) error {
		if j.Next == "" && j.Former == "" {
			return ErrNoFormerKey
		}
		if j.Former != "" {
			j.PrivateKey, j.Next, j.Former = j.Former, j.PrivateKey, ""
		}
		return nil
	})
}

// SettleKey forgets the former key. It does nothing if that is done, and returns ErrNotTurned if the box does not use the next key yet.
func (d *Dir) SettleKey() error {
	return d.rotate(func(j *identityJSON) error {
		if j.Next != "" {
			return ErrNotTurned
		}
		j.Former = ""
		return nil
	})
}

// rotate replaces the identity if step changes it.
func (d *Dir) rotate(step func(*identityJSON) error) error {
	d.keys.Lock()
	defer d.keys.Unlock()
	j, err := d.readIdentity()
	if err != nil {
		return err
	}
	before := [...]string{j.PrivateKey, j.Next, j.Former}
	if err := step(&j); err != nil {
		return err
	}
	if before == [...]string{j.PrivateKey, j.Next, j.Former} {
		return nil
	}
	return d.writeIdentity(j)
}
