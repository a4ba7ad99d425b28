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
)

// Keys are the coordinator's three secrets: what requests are sealed to, what signs NetMaps, and the hub's WireGuard key.
type Keys struct {
	enroll  hpke.PrivateKey
	network ed25519.PrivateKey
	hub     wgkey.PrivateKey
	hubPub  wgkey.PublicKey
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
	return newKeys(enroll, network, hub)
}

func newKeys(enroll hpke.PrivateKey, network ed25519.PrivateKey, hub wgkey.PrivateKey) (*Keys, error) {
	pub, err := hub.Public()
	if err != nil {
		return nil, fmt.Errorf("use the hub's key: %w", err)
	}
	return &Keys{enroll: enroll, network: network, hub: hub, hubPub: pub}, nil
}

// CreateKeys draws Keys and stores them in dir, which is made if it is missing. It never replaces a key: who loses one loses the network.
func CreateKeys(dir string) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the key directory: %w", err)
	}
	for _, name := range []string{enrollKeyFile, networkKeyFile, hubKeyFile} {
		switch _, err := os.Lstat(filepath.Join(dir, name)); {
		case err == nil:
			return nil, provisioning.Errorf(provisioning.Conflict, "%s holds a key already, %s", dir, name).
				WithHint("this directory belongs to a network; choose another one for a new network")
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("look for keys: %w", err)
		}
	}
	k, err := NewKeys()
	if err != nil {
		return nil, err
	}
	enroll, err := k.enroll.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode the enrolment key: %w", err)
	}
	for _, f := range []struct{ name, text string }{
		{enrollKeyFile, base64.StdEncoding.EncodeToString(enroll)},
		{hubKeyFile, k.hub.RevealText()},
		{networkKeyFile, base64.StdEncoding.EncodeToString(k.network.Seed())},
	} {
		if err := renameio.WriteFile(filepath.Join(dir, f.name), []byte(f.text+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("store %s: %w", f.name, err)
		}
	}
	return k, nil
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
	b, err = readKey(dir, networkKeyFile)
	if err != nil {
		return nil, err
	}
	if len(b) != ed25519.SeedSize {
		return nil, damagedKey(dir, networkKeyFile)
	}
	network := ed25519.NewKeyFromSeed(b)
	b, err = readKey(dir, hubKeyFile)
	if err != nil {
		return nil, err
	}
	hub, err := wgkey.ParsePrivateKey(base64.StdEncoding.EncodeToString(b))
	if err != nil {
		return nil, damagedKey(dir, hubKeyFile)
	}
	return newKeys(enroll, network, hub)
}

// maxKeyFile is far above the longest key in base64.
const maxKeyFile = 16 << 10

func readKey(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, provisioning.Errorf(provisioning.NotFound, "there is no %s in %s", name, dir).
			WithHint("name the directory in which the network was initialized, or restore it from the backup: a new key makes a new network")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return nil, damagedKey(dir, name)
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
		return nil, damagedKey(dir, name)
	}
	return b, nil
}

func damagedKey(dir, name string) error {
	return provisioning.Errorf(provisioning.Invalid, "%s in %s is damaged", name, dir).WithHint("restore it from the backup")
}

// Identity is what the world may know.
func (k *Keys) Identity() wire.Identity {
	return wire.Identity{HPKE: k.enroll.PublicKey().Bytes(), Network: k.network.Public().(ed25519.PublicKey)}
}

// NetworkID is the short name of the network, see wire.NetworkID.
func (k *Keys) NetworkID() string { return wire.NetworkID(k.network.Public().(ed25519.PublicKey)) }

// HubPublicKey is the WireGuard key of the hub.
func (k *Keys) HubPublicKey() wgkey.PublicKey { return k.hubPub }

// String hides the secrets.
func (k *Keys) String() string { return "(keys of network " + k.NetworkID() + ")" }

// GoString hides the secrets from %#v.
func (k *Keys) GoString() string { return k.String() }

// LogValue hides the secrets from slog.
func (k *Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }
