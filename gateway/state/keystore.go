package state

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// ErrKeyStore means that keys of the directory were sealed by a key store that it was not opened with.
var ErrKeyStore = errors.New("this box's keys are in a key store that was not named")

// FileStore is the name of having no key store: keys are in the files themselves, which only their owner may read.
const FileStore = "file"

// Sealer is a key store that keeps no keys itself: it encrypts them so that only it can decrypt them, and the directory keeps the
// result. Its methods may be called from several goroutines.
type Sealer interface {
	// Name is written beside what was sealed and says which key store to ask for it: lower-case letters, digits and hyphens, not "file".
	Name() string
	// Seal encrypts a secret of at most 32 bytes.
	Seal(secret []byte) ([]byte, error)
	// Unseal gives back what Seal took.
	Unseal(sealed []byte) ([]byte, error)
}

// WithSealer has s seal every key that is written from now on. Keys that are there already stay as they are until Reseal, and are read
// all the same. A nil s is no key store.
func WithSealer(s Sealer) Option { return func(d *Dir) { d.sealer = s } }

// WithUnsealer has keys that s sealed read, and none written: it is for moving keys out of s.
func WithUnsealer(s Sealer) Option { return func(d *Dir) { d.unsealers = append(d.unsealers, s) } }

// Reseal moves all keys to the current key store: those of the queue, those of the identity or, before enrolment, the pending one, and those of
// secrets. It replaces each file whole and removes none; after an error, call it again. The disk may still hold the blocks of the old file, so keys that were in a file are best rotated afterwards.
func (d *Dir) Reseal() error {
	d.keys.Lock()
	defer d.keys.Unlock()
	if err := d.resealSpoolKeys(); err != nil {
		return err
	}
	j, err := d.readIdentity()
	if errors.Is(err, ErrNotEnrolled) {
		return d.resealPending()
	}
	if err != nil {
		return err
	}
	for _, text := range j.keys() {
		if *text == "" {
			continue
		}
		k, err := d.recall(*text)
		if err != nil {
			return err
		}
		if *text, err = d.keep(k); err != nil {
			return err
		}
	}
	if err := d.writeIdentity(j); err != nil {
		return err
	}
	return d.resealSecrets()
}

func (d *Dir) resealPending() error {
	text, err := d.readPending()
	if err != nil {
		return err
	}
	if text == "" {
		return ErrNotEnrolled
	}
	k, err := d.recall(text)
	if err != nil {
		return fmt.Errorf("the pending key: %w", err)
	}
	return d.writePending(k)
}

// keep turns a key into the text that a file holds, see keepSecret.
func (d *Dir) keep(k wgkey.PrivateKey) (string, error) {
	secret := k.RevealBytes()
	return d.keepSecret(secret[:])
}

// keepSecret turns a secret into the text that a file holds: in base64 or, with a key store, "STORE:SEALED", the latter in base64.
func (d *Dir) keepSecret(secret []byte) (string, error) {
	if d.sealer == nil {
		return base64.StdEncoding.EncodeToString(secret), nil
	}
	name := d.sealer.Name()
	sealed, err := d.sealer.Seal(secret)
	if err != nil {
		return "", fmt.Errorf("seal a key with key store %s: %w", name, err)
	}
	text := name + ":" + base64.StdEncoding.EncodeToString(sealed)
	// Once the file is replaced, this is the only copy.
	switch back, err := d.recallSecret(text); {
	case err != nil:
		return "", fmt.Errorf("try a key that was just sealed: %w", err)
	case subtle.ConstantTimeCompare(back, secret) != 1:
		return "", fmt.Errorf("key store %s gives back another key than it took: it is defective; nothing was changed", name)
	}
	return text, nil
}

// recall is the reverse of keep. Its errors never quote the text.
func (d *Dir) recall(text string) (wgkey.PrivateKey, error) {
	name := storeOf(text)
	if name == FileStore {
		return wgkey.ParsePrivateKey(text)
	}
	secret, err := d.recallSecret(text)
	if err != nil {
		return wgkey.PrivateKey{}, err
	}
	k, err := wgkey.ParsePrivateKey(base64.StdEncoding.EncodeToString(secret))
	if err != nil {
		return wgkey.PrivateKey{}, fmt.Errorf("what key store %s gave back: %w", name, err)
	}
	return k, nil
}

// recallSecret is the reverse of keepSecret. Its errors never quote the text.
func (d *Dir) recallSecret(text string) ([]byte, error) {
	name := storeOf(text)
	if name == FileStore {
		secret, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, errors.New("a key is damaged: restore the file from the backup")
		}
		return secret, nil
	}
	s, err := d.store(name)
	if err != nil {
		return nil, err
	}
	sealed, err := base64.StdEncoding.DecodeString(text[len(name)+1:])
	if err != nil {
		return nil, fmt.Errorf("a key sealed by key store %s is damaged: restore the file from the backup or enroll this box anew", name)
	}
	secret, err := s.Unseal(sealed)
	if err != nil {
		return nil, fmt.Errorf("unseal a key with key store %s: %w", name, err)
	}
	return secret, nil
}

// storeOf names the key store of a text of keep.
func storeOf(text string) string {
	if name, _, sealed := strings.Cut(text, ":"); sealed {
		return name
	}
	return FileStore
}

// store finds the open key store of that name.
func (d *Dir) store(name string) (Sealer, error) {
	for _, s := range d.stores() {
		if s.Name() == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: %s has keys sealed by %q, so open it with that", ErrKeyStore, d.path, name)
}

func (d *Dir) stores() []Sealer {
	if d.sealer == nil {
		return d.unsealers
	}
	return append([]Sealer{d.sealer}, d.unsealers...)
}

// checkNames refuses names that a file could not tell apart from something else.
func (d *Dir) checkNames() error {
	for _, s := range d.stores() {
		name := s.Name()
		odd := strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
		if odd || name == "" || name == FileStore {
			return fmt.Errorf("a key store cannot be named %q", name)
		}
	}
	return nil
}

// checkStores returns ErrKeyStore if a key store is missing. What is damaged is reported when it is read.
func (d *Dir) checkStores() error {
	var texts []string
	j, err := d.readIdentity()
	switch {
	case err == nil:
		for _, text := range j.keys() {
			texts = append(texts, *text)
		}
	case errors.Is(err, ErrNotEnrolled):
		text, err := d.readPending()
		if err != nil {
			return err
		}
		texts = []string{text}
	}
	for _, name := range secrets() {
		if j, err := d.readSecret(name); err == nil {
			texts = append(texts, j.Key)
		}
	}
	for _, text := range texts {
		if name := storeOf(text); name != FileStore {
			if _, err := d.store(name); err != nil {
				return err
			}
		}
	}
	return nil
}
