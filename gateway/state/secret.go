package state

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// LANAuthority names the secret that is the key of the Site's own certificate authority.
const LANAuthority = "lan-ca.json"

// LANServer names the secret that is the key of the box's own certificate on the LAN.
const LANServer = "lan-server.json"

// secrets are all names that Secret and SaveSecret take.
func secrets() []string { return []string{LANAuthority, LANServer, pairsStore} }

// secretJSON is the file of a secret. A key store seals 32 bytes, so what is longer is encrypted with a key of its own.
type secretJSON struct {
	Format int `json:"format"`
	// Key is a text of Dir.keep.
	Key string `json:"key"`
	// Sealed is the nonce and what AES-256-GCM made of the secret with the key.
	Sealed []byte `json:"sealed"`
}

// ErrNoSecret means that there is none of that name.
var ErrNoSecret = errors.New("there is no such secret")

// SaveSecret stores a secret of any length under one of the names above, and replaces what was there.
func (d *Dir) SaveSecret(name string, secret []byte) error {
	d.keys.Lock()
	defer d.keys.Unlock()
	key, err := wgkey.NewPrivateKey()
	if err != nil {
		return fmt.Errorf("make a key for %s: %w", name, err)
	}
	text, err := d.keep(key)
	if err != nil {
		return err
	}
	aead, err := secretAEAD(key)
	if err != nil {
		return err
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return d.writeJSON(name, secretJSON{Format: 1, Key: text, Sealed: aead.Seal(nonce, nonce, secret, []byte(name))})
}

// Secret reads one; ErrNoSecret if there is none.
func (d *Dir) Secret(name string) ([]byte, error) {
	j, err := d.readSecret(name)
	if err != nil {
		return nil, err
	}
	key, err := d.recall(j.Key)
	if err != nil {
		return nil, fmt.Errorf("the file %s: %w", d.Path(name), err)
	}
	aead, err := secretAEAD(key)
	if err != nil {
		return nil, err
	}
	damaged := fmt.Errorf("the file %s is damaged: restore it from the backup", d.Path(name))
	if len(j.Sealed) < aead.NonceSize() {
		return nil, damaged
	}
	secret, err := aead.Open(nil, j.Sealed[:aead.NonceSize()], j.Sealed[aead.NonceSize():], []byte(name))
	if err != nil {
		return nil, damaged
	}
	return secret, nil
}

func (d *Dir) readSecret(name string) (secretJSON, error) {
	b, err := os.ReadFile(d.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return secretJSON{}, ErrNoSecret
	}
	if err != nil {
		return secretJSON{}, fmt.Errorf("read %s: %w", name, err)
	}
	var j secretJSON
	if err := json.Unmarshal(b, &j); err != nil || j.Format != 1 {
		// The syntax error of a file that holds a key must not quote the file.
		return secretJSON{}, fmt.Errorf("the file %s is damaged, or of a newer build: restore it from the backup", d.Path(name))
	}
	return j, nil
}

// resealSecrets moves the keys of all secrets to the current key store. The caller holds d.keys.
func (d *Dir) resealSecrets() error {
	for _, name := range secrets() {
		j, err := d.readSecret(name)
		if errors.Is(err, ErrNoSecret) {
			continue
		}
		if err != nil {
			return err
		}
		key, err := d.recall(j.Key)
		if err != nil {
			return fmt.Errorf("the file %s: %w", d.Path(name), err)
		}
		if j.Key, err = d.keep(key); err != nil {
			return err
		}
		if err := d.writeJSON(name, j); err != nil {
			return err
		}
	}
	return nil
}

func secretAEAD(key wgkey.PrivateKey) (cipher.AEAD, error) {
	k := key.RevealBytes()
	return aeadOf(k[:])
}

func aeadOf(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("prepare a key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("prepare a key: %w", err)
	}
	return aead, nil
}

// SaveDocument writes what is no secret beside the keys, whole or not at all. The name ends with .json and is the caller's own.
func (d *Dir) SaveDocument(name string, v any) error { return d.writeJSON(name, v) }
