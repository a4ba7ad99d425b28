package state

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/provisioning/wire"
)

// Names of the files in the state directory; docs/architecture.md lists them with their writers.
const (
	identityFile  = "identity.json"
	netMapFile    = "netmap.json"
	timeFloorFile = "time-floor"
	lockFile      = "lock"
	pendingFile   = "pending-key"
	archivesFile  = "archives.json"
	devicesFile   = "devices.json"
	spoolKeyFile  = "spool-key.json"
	// SpoolDir is the durable queue's directory.
	SpoolDir = "spool"
	// LedgerDir holds what HL7 messages were taken lately, FoldersDir the folders of HL7 services that are files.
	LedgerDir  = "hl7"
	FoldersDir = "folders"
	// ReceiptsDir holds the journal of what was delivered.
	ReceiptsDir = "receipts"
	// HistoryDir holds what became of DICOM objects, by keyed hashes.
	HistoryDir = "history"
	// SocketFile is the local API's unix socket.
	SocketFile = "gateway.sock"
)

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

// Dir is an open, locked state directory.
type Dir struct {
	path string
	lock *os.File

	// sealer protects keys that are written from now on; nil for the file alone.
	sealer Sealer
	// unsealers read keys only.
	unsealers []Sealer
	// keys is held while the identity is replaced by what was read of it.
	keys sync.Mutex
}

// Option changes how a directory is opened.
type Option func(*Dir)

// Open makes the directory if needed, with mode 0700, and locks it. It clears away what a power cut left of key files that were being
// replaced. Keys in a key store that no option names are ErrKeyStore.
func Open(path string, opts ...Option) (*Dir, error) {
	d := &Dir{path: path}
	for _, o := range opts {
		o(d)
	}
	if err := d.checkNames(); err != nil {
		return nil, err
	}
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
	d.lock = f
	if err := errors.Join(d.tidy(), d.checkStores()); err != nil {
		_ = f.Close()
		return nil, err
	}
	return d, nil
}

// Close gives the lock back.
func (d *Dir) Close() error { return d.lock.Close() }

// Path joins name to the directory.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

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
	// In the directory itself: the library's default is the system's place for temporary files, where a key has no business.
	err := renameio.WriteFile(d.Path(name), b, 0o600, renameio.WithTempDir(d.path), renameio.WithStaticPermissions(0o600))
	if err != nil {
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
