package state

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// pairsDir holds the preshared keys, one file for each other node: a center has thousands, and each changes every day. All are encrypted
// with the secret of that name, so that a key store is asked once at start.
const (
	pairsDir   = "pairs"
	pairsStore = "pairs.json"
)

// maxPairFile bounds one file, in bytes.
const maxPairFile = 16 << 10

// Pairs keeps what this box has agreed on with other nodes. It is used by one goroutine.
type Pairs struct {
	dir  string
	aead cipher.AEAD
}

// pairJSON is what is encrypted in a file.
type pairJSON struct {
	Node string `json:"node"`
	Data []byte `json:"data"`
}

// Pairs opens the store. Without its key, or with a damaged one, it begins anew: other nodes agree with this one again.
func (d *Dir) Pairs() (*Pairs, error) {
	secret, err := d.Secret(pairsStore)
	switch {
	case errors.Is(err, ErrKeyStore):
		return nil, err
	case err != nil || len(secret) != wgkey.Size:
		key, err := wgkey.NewPrivateKey()
		if err != nil {
			return nil, fmt.Errorf("make a key for preshared keys: %w", err)
		}
		b := key.RevealBytes()
		secret = b[:]
		if err := d.SaveSecret(pairsStore, secret); err != nil {
			return nil, err
		}
	}
	p := &Pairs{dir: d.Path(pairsDir)}
	if p.aead, err = aeadOf(secret); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of preshared keys: %w", err)
	}
	return p, nil
}

// fileOf is the file of a node.
func fileOf(node string) string {
	sum := sha256.Sum256([]byte(node))
	return hex.EncodeToString(sum[:16])
}

// Load reads all, by node. A file that cannot be read is removed, because what is in it can be agreed on again.
func (p *Pairs) Load() (map[string][]byte, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("read the preshared keys: %w", err)
	}
	out := make(map[string][]byte, len(entries))
	for _, e := range entries {
		j, err := p.read(e.Name())
		if err != nil {
			_ = os.Remove(filepath.Join(p.dir, e.Name()))
			continue
		}
		out[j.Node] = j.Data
	}
	return out, nil
}

var errPairFile = errors.New("a file of preshared keys is damaged")

func (p *Pairs) read(name string) (pairJSON, error) {
	path := filepath.Join(p.dir, name)
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxPairFile {
		return pairJSON{}, errPairFile
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) < p.aead.NonceSize() {
		return pairJSON{}, errPairFile
	}
	plain, err := p.aead.Open(nil, b[:p.aead.NonceSize()], b[p.aead.NonceSize():], []byte(name))
	var j pairJSON
	if err != nil || json.Unmarshal(plain, &j) != nil || fileOf(j.Node) != name {
		return pairJSON{}, errPairFile
	}
	return j, nil
}

// Save replaces what is kept of a node. It is synced when Save returns.
func (p *Pairs) Save(node string, data []byte) error {
	plain, err := json.Marshal(pairJSON{node, data})
	if err != nil {
		return fmt.Errorf("encode a preshared key: %w", err)
	}
	name, nonce := fileOf(node), make([]byte, p.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	b := p.aead.Seal(nonce, nonce, plain, []byte(name))
	err = renameio.WriteFile(filepath.Join(p.dir, name), b, 0o600, renameio.WithTempDir(p.dir), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("keep a preshared key: %w", err)
	}
	return p.sync()
}

// Forget removes what is kept of a node, if anything is.
func (p *Pairs) Forget(node string) error {
	if err := os.Remove(filepath.Join(p.dir, fileOf(node))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget a preshared key: %w", err)
	}
	return p.sync()
}

func (p *Pairs) sync() error {
	dir, err := os.Open(p.dir)
	if err != nil {
		return fmt.Errorf("sync the preshared keys: %w", err)
	}
	defer func() { _ = dir.Close() }()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync the preshared keys: %w", err)
	}
	return nil
}
