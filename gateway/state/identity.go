package state

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Formats of the identity file. An older build that meets the second says that it must be updated instead of that the key is damaged.
const (
	plainFormat  = 1
	sealedFormat = 2
)

// Identity is who this box is. Enrolment writes it; rotation changes its keys and nothing else.
type Identity struct {
	// PrivateKey is the key that the box uses.
	PrivateKey wgkey.PrivateKey
	// Next is the key that NextKey made and that the box will change to; zero if there is none.
	Next wgkey.PrivateKey
	// Former is the key that TurnKey changed from, until SettleKey forgets it; zero if there is none.
	Former wgkey.PrivateKey
	// NetworkKey verifies every NetMap.
	NetworkKey ed25519.PublicKey
	Node       string
	Site       string
	Enrolled   time.Time
}

// identityJSON is the identity's file. Its keys are texts of Dir.keep.
type identityJSON struct {
	Format     int       `json:"format"`
	PrivateKey string    `json:"private_key"`
	Next       string    `json:"next_key,omitempty"`
	Former     string    `json:"former_key,omitempty"`
	NetworkKey []byte    `json:"network_key"`
	Node       string    `json:"node"`
	Site       string    `json:"site"`
	Enrolled   time.Time `json:"enrolled"`
}

// keys are the file's keys, empty ones too.
func (j *identityJSON) keys() []*string { return []*string{&j.PrivateKey, &j.Next, &j.Former} }

// Identity reads the box's identity, or returns ErrNotEnrolled. Sealed keys are unsealed each time.
func (d *Dir) Identity() (Identity, error) {
	j, err := d.readIdentity()
	if err != nil {
		return Identity{}, err
	}
	id := Identity{NetworkKey: j.NetworkKey, Node: j.Node, Site: j.Site, Enrolled: j.Enrolled}
	for i, k := range []*wgkey.PrivateKey{&id.PrivateKey, &id.Next, &id.Former} {
		text := *j.keys()[i]
		if text == "" {
			continue
		}
		if *k, err = d.recall(text); err != nil {
			return Identity{}, fmt.Errorf("the identity file %s: %w", d.Path(identityFile), err)
		}
	}
	return id, nil
}

// readIdentity reads the file and leaves its keys as they are.
func (d *Dir) readIdentity() (identityJSON, error) {
	b, err := os.ReadFile(d.Path(identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return identityJSON{}, ErrNotEnrolled
	}
	if err != nil {
		return identityJSON{}, fmt.Errorf("read the identity: %w", err)
	}
	var j identityJSON
	damaged := fmt.Errorf("the identity file %s is damaged: restore it from the backup or enroll this box anew", d.Path(identityFile))
	if err := json.Unmarshal(b, &j); err != nil {
		// The syntax error of a file that holds a key must not quote the file.
		return identityJSON{}, damaged
	}
	if j.Format > sealedFormat {
		return identityJSON{}, fmt.Errorf("the identity file has format %d and this build knows up to %d: update the software", j.Format, sealedFormat)
	}
	if len(j.NetworkKey) != ed25519.PublicKeySize {
		return identityJSON{}, fmt.Errorf("the identity file %s has no network key: enroll this box anew", d.Path(identityFile))
	}
	if j.PrivateKey == "" || j.Next != "" && j.Former != "" {
		return identityJSON{}, damaged
	}
	return j, nil
}

// writeIdentity replaces the file, which is one rename.
func (d *Dir) writeIdentity(j identityJSON) error {
	j.Format = plainFormat
	for _, text := range j.keys() {
		if storeOf(*text) != FileStore {
			j.Format = sealedFormat
		}
	}
	return d.writeJSON(identityFile, j)
}

// SaveEnrolled writes the first NetMap and then the identity, so that an identity is never without a map. It refuses to overwrite one.
// A new identity has one key: Next and Former are not saved.
func (d *Dir) SaveEnrolled(id Identity, m wire.Signed) error {
	d.keys.Lock()
	defer d.keys.Unlock()
	if _, err := os.Stat(d.Path(identityFile)); err == nil {
		return ErrEnrolled
	}
	key, err := d.keep(id.PrivateKey)
	if err != nil {
		return err
	}
	if err := d.writeJSON(netMapFile, m); err != nil {
		return err
	}
	err = d.writeIdentity(identityJSON{PrivateKey: key, NetworkKey: id.NetworkKey, Node: id.Node, Site: id.Site, Enrolled: id.Enrolled.UTC()})
	if err != nil {
		return err
	}
	return d.removePending()
}

func (d *Dir) removePending() error {
	if err := os.Remove(d.Path(pendingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the pending key: %w", err)
	}
	return nil
}

// PendingKey returns the key that enrolment works with. It is saved before it is used: when the coordinator's answer is lost on the
// way, the next try comes with the same key, and a one-time token still works.
func (d *Dir) PendingKey() (wgkey.PrivateKey, error) {
	d.keys.Lock()
	defer d.keys.Unlock()
	text, err := d.readPending()
	if err != nil {
		return wgkey.PrivateKey{}, err
	}
	if text != "" {
		k, err := d.recall(text)
		if err != nil {
			return wgkey.PrivateKey{}, fmt.Errorf("the pending key: %w", err)
		}
		return k, nil
	}
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		return wgkey.PrivateKey{}, err
	}
	return k, d.writePending(k)
}

// readPending returns the pending key's text, empty if there is none.
func (d *Dir) readPending() (string, error) {
	b, err := os.ReadFile(d.Path(pendingFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the pending key: %w", err)
	}
	return string(b), nil
}

func (d *Dir) writePending(k wgkey.PrivateKey) error {
	text, err := d.keep(k)
	if err != nil {
		return err
	}
	return d.write(pendingFile, []byte(text))
}

// tidy ends what a power cut interrupted. A key file that was being replaced leaves its successor under another name, and SaveEnrolled
// may have had the pending key still to remove: both are copies of keys that nobody would look for.
func (d *Dir) tidy() error {
	for _, name := range append(secrets(), identityFile, pendingFile, spoolKeyFile) {
		left, err := filepath.Glob(d.Path("." + name + "*"))
		if err != nil {
			return fmt.Errorf("look for what a power cut left: %w", err)
		}
		for _, path := range left {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("remove what a power cut left: %w", err)
			}
		}
	}
	if _, err := d.readIdentity(); err != nil {
		return nil //nolint:nilerr // not enrolled, or damaged, which Identity reports: the pending key may be needed
	}
	return d.removePending()
}
