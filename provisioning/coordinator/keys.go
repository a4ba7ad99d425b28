package coordinator

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
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
	"github.com/towpath/towpath/tunnel/wgkey"
)

// The files of a key directory: one secret each, base64 in one line, readable by their owner only.
const (
	enrollKeyFile  = "enroll.key"  // HPKE private key, see wire.KEM
	networkKeyFile = "network.key" // Ed25519 seed (RFC 8032 §5.1.5)
	hubKeyFile     = "hub.key"     // WireGuard private key

	// These are there instead of networkKeyFile where the network's key is kept elsewhere.
	networkPubFile = "network.pub"    // Ed25519 public key
	mapKeyFile     = "map.key"        // Ed25519 seed
	delegationFile = "map.delegation" // the network key's signature, see wire.Delegation
)

// Keys are the coordinator's three secrets: what requests are sealed to, what signs NetMaps, and the hub's WireGuard key.
type Keys struct {
	enroll hpke.PrivateKey
	// network is the network's key, or its public half if that is kept elsewhere.
	network ed25519.PublicKey
	// maps signs NetMaps: the network's own key, or one with a delegation.
	maps       ed25519.PrivateKey
	delegation *wire.Delegation
	hub        wgkey.PrivateKey
	hubPub     wgkey.PublicKey
}

// NewKeys draws Keys from the system's randomness and stores them nowhere.
func NewKeys() (*Keys, error) {
	enroll, err := wire.KEM().GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make the enrolment key: %w", err)
	}
	_, network, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the network key: %w", err)
	}
	hub, err := wgkey.NewPrivateKey()
	if err != nil {
		return nil, err
	}
	return newKeys(Keys{enroll: enroll, network: publicOf(network), maps: network, hub: hub})
}

// NewOfflineKeys draws Keys for a network whose own key is kept elsewhere, and that key. They are stored nowhere.
func NewOfflineKeys() (*Keys, OfflineKey, error) {
	k, err := NewKeys()
	if err != nil {
		return nil, OfflineKey{}, err
	}
	offline := OfflineKey{k.maps}
	_, maps, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, OfflineKey{}, fmt.Errorf("make the key for maps: %w", err)
	}
	d := wire.Delegate(offline.key, publicOf(maps))
	k.maps, k.delegation = maps, &d
	return k, offline, nil
}

func publicOf(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func newKeys(k Keys) (*Keys, error) {
	var err error
	if k.hubPub, err = k.hub.Public(); err != nil {
		return nil, fmt.Errorf("use the hub's key: %w", err)
	}
	return &k, nil
}

// CreateKeys draws Keys and stores them in dir, which is made if it is missing. It never replaces a key: who loses one loses the network.
func CreateKeys(dir string) (*Keys, error) {
	if err := roomForKeys(dir); err != nil {
		return nil, err
	}
	k, err := NewKeys()
	if err != nil {
		return nil, err
	}
	return k, k.store(dir)
}

// CreateOfflineKeys is CreateKeys for a network whose own key is kept elsewhere: it is stored in file, which must not be there yet and not
// lie in dir, and only its public half in dir.
func CreateOfflineKeys(dir, file string) (*Keys, error) {
	if err := roomForKeys(dir); err != nil {
		return nil, err
	}
	if err := offTheCoordinator(dir, file); err != nil {
		return nil, err
	}
	k, offline, err := NewOfflineKeys()
	if err != nil {
		return nil, err
	}
	// First: without this one the others are worth nothing.
	if err := offline.store(file); err != nil {
		return nil, err
	}
	return k, k.store(dir)
}

// roomForKeys makes dir and sees that no network has its keys there.
func roomForKeys(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the key directory: %w", err)
	}
	for _, name := range []string{enrollKeyFile, networkKeyFile, hubKeyFile, networkPubFile, mapKeyFile, delegationFile} {
		switch _, err := os.Lstat(filepath.Join(dir, name)); {
		case err == nil:
			return provisioning.Errorf(provisioning.Conflict, "%s holds a key already, %s", dir, name).
				WithHint("this directory belongs to a network; choose another one for a new network")
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("look for keys: %w", err)
		}
	}
	return nil
}

func (k *Keys) store(dir string) error {
	enroll, err := k.enroll.Bytes()
	if err != nil {
		return fmt.Errorf("encode the enrolment key: %w", err)
	}
	type file struct{ name, text string }
	files := []file{{enrollKeyFile, base64.StdEncoding.EncodeToString(enroll)}, {hubKeyFile, k.hub.RevealText()}}
	seed := base64.StdEncoding.EncodeToString(k.maps.Seed())
	if k.delegation == nil {
		files = append(files, file{networkKeyFile, seed})
	} else {
		files = append(files, file{networkPubFile, base64.StdEncoding.EncodeToString(k.network)}, file{mapKeyFile, seed},
			file{delegationFile, base64.StdEncoding.EncodeToString(k.delegation.Signature)})
	}
	for _, f := range files {
		if err := renameio.WriteFile(filepath.Join(dir, f.name), []byte(f.text+"\n"), 0o600); err != nil {
			return fmt.Errorf("store %s: %w", f.name, err)
		}
	}
	return nil
}

// LoadKeys reads what CreateKeys stored. It refuses files that others may read.
func LoadKeys(dir string) (*Keys, error) {
	b, err := readKey(dir, enrollKeyFile)
	if err != nil {
		return nil, err
	}
	enroll, err := wire.KEM().NewPrivateKey(b)
	if err != nil {
		return nil, damagedKey(dir, enrollKeyFile)
	}
	k := Keys{enroll: enroll}
	if err := k.loadSigning(dir); err != nil {
		return nil, err
	}
	b, err = readKey(dir, hubKeyFile)
	if err != nil {
		return nil, err
	}
	if k.hub, err = wgkey.ParsePrivateKey(base64.StdEncoding.EncodeToString(b)); err != nil {
		return nil, damagedKey(dir, hubKeyFile)
	}
	return newKeys(k)
}

// loadSigning reads what signs maps. Where there is a public half, the network's key is kept elsewhere.
func (k *Keys) loadSigning(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, networkPubFile)); errors.Is(err, fs.ErrNotExist) {
		b, err := readKey(dir, networkKeyFile)
		if err != nil {
			return err
		}
		if len(b) != ed25519.SeedSize {
			return damagedKey(dir, networkKeyFile)
		}
		k.maps = ed25519.NewKeyFromSeed(b)
		k.network = publicOf(k.maps)
		return nil
	}
	var part [3][]byte
	for i, name := range []string{networkPubFile, mapKeyFile, delegationFile} {
		var err error
		if part[i], err = readKey(dir, name); err != nil {
			return err
		}
	}
	if len(part[1]) != ed25519.SeedSize {
		return damagedKey(dir, mapKeyFile)
	}
	k.network, k.maps = part[0], ed25519.NewKeyFromSeed(part[1])
	k.delegation = &wire.Delegation{Key: publicOf(k.maps), Signature: part[2]}
	if k.delegation.Verify(k.network) != nil {
		return damagedKey(dir, delegationFile)
	}
	return nil
}

// sign makes of a map what boxes believe.
func (k *Keys) sign(e wire.Encoded) wire.Signed {
	s := e.Sign(k.maps)
	s.Delegation = k.delegation
	return s
}

// Offline reports whether the network's key is kept elsewhere, so that every Node needs a signature made there.
func (k *Keys) Offline() bool { return k.delegation != nil }

// maxKeyFile is far above the longest key in base64.
const maxKeyFile = 16 << 10

func readKey(dir, name string) ([]byte, error) {
	b, err := readSecret(filepath.Join(dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, provisioning.Errorf(provisioning.NotFound, "there is no %s in %s", name, dir).
			WithHint("name the directory in which the network was initialized, or restore it from the backup: a new key makes a new network")
	case errors.Is(err, errDamaged):
		return nil, damagedKey(dir, name)
	}
	return b, err
}

var errDamaged = errors.New("the key is damaged")

// readSecret reads one line of base64 from a file that only its owner may read.
func readSecret(path string) ([]byte, error) {
	name := filepath.Base(path)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return nil, errDamaged
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, provisioning.Errorf(provisioning.Denied, "%s may be read by others than its owner (mode %04o)", path, mode).
			WithHint("chmod 600 %s; if others have had access to this machine, make a new network", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, errDamaged
	}
	return b, nil
}

func damagedKey(dir, name string) error {
	return provisioning.Errorf(provisioning.Invalid, "%s in %s is damaged", name, dir).WithHint("restore it from the backup")
}

// Identity is what the world may know.
func (k *Keys) Identity() wire.Identity {
	return wire.Identity{HPKE: k.enroll.PublicKey().Bytes(), Network: k.network}
}

// NetworkID is the short name of the network, see wire.NetworkID.
func (k *Keys) NetworkID() string { return wire.NetworkID(k.network) }

// HubPublicKey is the WireGuard key of the hub.
func (k *Keys) HubPublicKey() wgkey.PublicKey { return k.hubPub }

// String hides the secrets.
func (k *Keys) String() string { return "(keys of network " + k.NetworkID() + ")" }

// GoString hides the secrets from %#v.
func (k *Keys) GoString() string { return k.String() }

// LogValue hides the secrets from slog.
func (k *Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }
