package coordinator

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
)

// OfflineKey is the network's key where it is kept off the coordinator. It signs Members and nothing else after Init. The zero value is
// none.
type OfflineKey struct{ key ed25519.PrivateKey }

// LoadOfflineKey reads the file that CreateOfflineKeys stored. It refuses one that others may read.
func LoadOfflineKey(file string) (OfflineKey, error) {
	b, err := readSecret(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return OfflineKey{}, provisioning.Errorf(provisioning.NotFound, "there is no file %s", file).
			WithHint("name the file that \"towpath coordinator init --offline-key\" wrote")
	case errors.Is(err, errDamaged), err == nil && len(b) != ed25519.SeedSize:
		return OfflineKey{}, provisioning.Errorf(provisioning.Invalid, "%s holds no network key, or is damaged", file).
			WithHint("name the file that \"towpath coordinator init --offline-key\" wrote, or its backup")
	case err != nil:
		return OfflineKey{}, err
	}
	return OfflineKey{ed25519.NewKeyFromSeed(b)}, nil
}

func (k OfflineKey) store(file string) error {
	text := base64.StdEncoding.EncodeToString(k.key.Seed()) + "\n"
	if err := renameio.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("store the network's key: %w", err)
	}
	return nil
}

// Public is the half that boxes pin.
func (k OfflineKey) Public() ed25519.PublicKey { return publicOf(k.key) }

// NetworkID is the short name of the network, see wire.NetworkID.
func (k OfflineKey) NetworkID() string { return wire.NetworkID(k.Public()) }

// Sign signs what was asked for. It refuses what is of another network, or unsound.
func (k OfflineKey) Sign(m wire.Member) (wire.SignedMember, error) { return m.Sign(k.key) }

// String hides the secret.
func (k OfflineKey) String() string { return "(offline key)" }

// GoString hides the secret from %#v.
func (k OfflineKey) GoString() string { return k.String() }

// LogValue hides the secret from slog.
func (k OfflineKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// offTheCoordinator refuses a place for the network's key that whoever takes the coordinator's directory, or a backup of it, takes along.
func offTheCoordinator(dir, file string) error {
	if _, err := os.Lstat(file); err == nil {
		return provisioning.Errorf(provisioning.Conflict, "%s is there already", file).WithHint("choose another file: a key is never replaced")
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		return provisioning.Errorf(provisioning.NotFound, "the directory of %s cannot be used: %v", file, err).WithHint("make it, or mount the medium")
	}
	home, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if parent, err = filepath.Abs(parent); err != nil {
		return fmt.Errorf("look at %s: %w", file, err)
	}
	if home, err = filepath.Abs(home); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	rel, err := filepath.Rel(home, parent)
	if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return provisioning.Errorf(provisioning.Invalid, "%s lies in the coordinator's own directory %s", file, dir).
			WithHint("the key is to be kept off the coordinator: name a file on a medium that can be taken away")
	}
	return nil
}
