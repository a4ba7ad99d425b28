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

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Names of the files in the state directory; docs/architecture.md lists them with their writers.
const (
	identityFile  = "identity.json"
	netMapFile    = "netmap.json"
	timeFloorFile = "time-floor"
	lockFile      = "lock"
	pendingFile   = "pending-key"
	// SpoolDir is the durable queue's directory.
	SpoolDir = "spool"
	// LedgerDir holds what HL7 messages were taken lately, FoldersDir the folders of HL7 services that are files.
	LedgerDir  = "hl7"
	FoldersDir = "folders"
	// SocketFile is the local API's unix socket.
	SocketFile = "gateway.sock"
)

const identityFormat = 1

// Errors that callers match.
var (
	// ErrNotEnrolled means that the box has no identity yet.
	ErrNotEnrolled = errors.New("this box is not enrolled")
	// ErrEnrolled means that the box has an identity already.
	ErrEnrolled = errors.New("this box is enrolled already")
	// ErrLocked means that another process works in the directory.
	ErrLocked = errors.New("the state directory is in use by another process")
	// ErrNoNetMap means that no NetMap was saved yet.
	ErrNoNetMap = errors.New("no NetMap was saved yet")
)

// Identity is who this box is. It is written once, by enrolment.
type Identity struct {
	PrivateKey wgkey.PrivateKey
	// NetworkKey verifies every NetMap.
	NetworkKey ed25519.PublicKey
	Node       string
	Site       string
	Enrolled   time.Time
}

type identityJSON struct {
	Format     int       `json:"format"`
	PrivateKey string    `json:"private_key"`
	NetworkKey []byte    `json:"network_key"`
	Node       string    `json:"node"`
	Site       string    `json:"site"`
	Enrolled   time.Time `json:"enrolled"`
}

// Dir is an open, locked state directory.
type Dir struct {
	path string
	lock *os.File
}

// Open makes the directory if needed, with mode 0700, and locks it.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, path)
		}
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	return &Dir{path: path, lock: f}, nil
}

// Close gives the lock back.
func (d *Dir) Close() error { return d.lock.Close() }

// Path joins name to the directory.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Identity reads the box's identity, or returns ErrNotEnrolled.
func (d *Dir) Identity() (Identity, error) {
	b, err := os.ReadFile(d.Path(identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, ErrNotEnrolled
	}
	if err != nil {
		return Identity{}, fmt.Errorf("read the identity: %w", err)
	}
	var j identityJSON
	if err := json.Unmarshal(b, &j); err != nil {
		// The syntax error of a file that holds a key must not quote the file.
		return Identity{}, fmt.Errorf("the identity file %s is damaged: restore it from the backup or enroll this box anew", d.Path(identityFile))
	}
	if j.Format > identityFormat {
		return Identity{}, fmt.Errorf("the identity file has format %d and this build knows up to %d: update the software", j.Format, identityFormat)
	}
	k, err := wgkey.ParsePrivateKey(j.PrivateKey)
	if err != nil {
		return Identity{}, fmt.Errorf("the identity file %s: %w", d.Path(identityFile), err)
	}
	if len(j.NetworkKey) != ed25519.PublicKeySize {
		return Identity{}, fmt.Errorf("the identity file %s has no network key: enroll this box anew", d.Path(identityFile))
	}
	return Identity{PrivateKey: k, NetworkKey: j.NetworkKey, Node: j.Node, Site: j.Site, Enrolled: j.Enrolled}, nil
}

// SaveEnrolled writes the first NetMap and then the identity, so that an identity is never without a map. It refuses to overwrite one.
func (d *Dir) SaveEnrolled(id Identity, m wire.Signed) error {
	if _, err := os.Stat(d.Path(identityFile)); err == nil {
		return ErrEnrolled
	}
	if err := d.writeJSON(netMapFile, m); err != nil {
		return err
	}
	err := d.writeJSON(identityFile, identityJSON{
		Format: identityFormat, PrivateKey: id.PrivateKey.RevealText(), NetworkKey: id.NetworkKey,
		Node: id.Node, Site: id.Site, Enrolled: id.Enrolled.UTC(),
	})
	if err != nil {
		return err
	}
	if err := os.Remove(d.Path(pendingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the pending key: %w", err)
	}
	return nil
}

// PendingKey returns the key that enrolment works with. It is saved before it is used: when the coordinator's answer is lost on the
// way, the next try comes with the same key, and a one-time token still works.
func (d *Dir) PendingKey() (wgkey.PrivateKey, error) {
	b, err := os.ReadFile(d.Path(pendingFile))
	if err == nil {
		return wgkey.ParsePrivateKey(string(b))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return wgkey.PrivateKey{}, fmt.Errorf("read the pending key: %w", err)
	}
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		return wgkey.PrivateKey{}, err
	}
	return k, d.write(pendingFile, []byte(k.RevealText()))
}

// NetMap reads the last saved map and verifies it against the network's key.
func (d *Dir) NetMap(key ed25519.PublicKey) (wire.NetMap, error) {
	b, err := os.ReadFile(d.Path(netMapFile))
	if errors.Is(err, fs.ErrNotExist) {
		return wire.NetMap{}, ErrNoNetMap
	}
	if err != nil {
		return wire.NetMap{}, fmt.Errorf("read the saved NetMap: %w", err)
	}
	var s wire.Signed
	if err := json.Unmarshal(b, &s); err != nil {
		return wire.NetMap{}, fmt.Errorf("the saved NetMap is damaged: %w", err)
	}
	m, err := s.Open(key)
	if err != nil {
		return wire.NetMap{}, fmt.Errorf("the saved NetMap: %w", err)
	}
	return m, nil
}

// SaveNetMap makes s the map that the box boots with. The caller has verified it.
func (d *Dir) SaveNetMap(s wire.Signed) error { return d.writeJSON(netMapFile, s) }

// TimeFloor is a moment that has certainly passed: the latest time this box has seen. Zero if none was saved.
func (d *Dir) TimeFloor() (time.Time, error) {
	b, err := os.ReadFile(d.Path(timeFloorFile))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the time floor: %w", err)
	}
	t, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return time.Time{}, fmt.Errorf("the time floor is damaged: %w", err)
	}
	return t, nil
}

// RaiseTimeFloor saves now as the floor if it is later than what is saved.
func (d *Dir) RaiseTimeFloor(now time.Time) error {
	if floor, err := d.TimeFloor(); err == nil && !now.After(floor) {
		return nil
	}
	return d.write(timeFloorFile, []byte(now.UTC().Format(time.RFC3339)))
}

func (d *Dir) writeJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return d.write(name, append(b, '\n'))
}

// write replaces a file so that a reader, or the box after a power cut, finds the old or the new content and nothing between.
func (d *Dir) write(name string, b []byte) error {
	if err := renameio.WriteFile(d.Path(name), b, 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return fmt.Errorf("sync the state directory: %w", err)
	}
	defer func() { _ = dir.Close() }()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync the state directory: %w", err)
	}
	return nil
}
