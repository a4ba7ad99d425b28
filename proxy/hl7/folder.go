package hl7

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// What a zero FolderConfig means.
const (
	DefaultFolderFiles = 10_000
	DefaultFolderBytes = 1 << 30
	DefaultFolderExt   = ".hl7"
)

// recountEvery is how old the count of what is in a folder may be.
const recountEvery = 5 * time.Second

// ErrFolderFull means that the software that should collect the files does not.
var ErrFolderFull = errors.New("the folder is full")

// FolderConfig describes a Folder.
type FolderConfig struct {
	// Dir is made if need be. It must be used by one Folder at a time; other programs may read, move and delete files in it.
	Dir string
	// Ext ends the name of each file, with its dot. Empty means DefaultFolderExt.
	Ext string
	// MaxFiles and MaxBytes bound what lies in Dir, whoever wrote it. Zero means the default.
	MaxFiles int
	MaxBytes int64
	// Ledger finishes what a crash has interrupted. It may be nil.
	Ledger *Ledger
	// Log may be nil.
	Log *slog.Logger
}

// Folder puts messages into files for software that reads them from there, each whole, synced, under a name of its own in order of arrival,
// and each once:
//
//	write and sync .KEY-NAME.tmp -> remember KEY in the Ledger, synced -> rename to NAME, sync the folder
//
// A file that a crash has left as .tmp is finished when the Ledger knows its key, and removed otherwise. It is safe for concurrent use.
type Folder struct {
	cfg FolderConfig
	log *slog.Logger

	mu      sync.Mutex
	number  int
	files   int
	bytes   int64
	counted time.Time
	// pending are files that are written and not yet certain to be there under their names.
	pending map[identity]pendingFile
}

type pendingFile struct {
	temporary, name string
	named           bool
}

// NewFolder prepares the directory.
func NewFolder(cfg FolderConfig) (*Folder, error) {
	if cfg.MaxFiles <= 0 {
		cfg.MaxFiles = DefaultFolderFiles
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = DefaultFolderBytes
	}
	if cfg.Ext == "" {
		cfg.Ext = DefaultFolderExt
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Folder{cfg: cfg, log: cfg.Log.With("subsystem", "hl7"), pending: map[identity]pendingFile{}}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the folder for messages: %w", err)
	}
	if err := f.recover(); err != nil {
		return nil, fmt.Errorf("look into the folder for messages: %w", err)
	}
	return f, nil
}

const temporaryExt = ".tmp"

// recover ends what was under way.
func (f *Folder) recover() error {
	entries, err := os.ReadDir(f.cfg.Dir)
	if err != nil {
		return err //nolint:wrapcheck // NewFolder does
	}
	for _, e := range entries {
		stem, ours := strings.CutSuffix(e.Name(), temporaryExt)
		key, name, _ := strings.Cut(strings.TrimPrefix(stem, "."), "-")
		k, ok := parseKey(key)
		if !ours || !strings.HasPrefix(stem, ".") || !ok {
			continue
		}
		path := filepath.Join(f.cfg.Dir, e.Name())
		content, err := os.ReadFile(path)
		if err != nil {
			return err //nolint:wrapcheck // NewFolder does
		}
		if f.cfg.Ledger.knows(identity{key: k, digest: sha256.Sum256(content)}) {
			err = f.publish(path, name)
		} else {
			err = os.Remove(path)
		}
		if err != nil {
			return err
		}
	}
	return syncDir(f.cfg.Dir)
}

// knows reports whether a message was taken.
func (l *Ledger) knows(id identity) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, found := l.findLocked(id)
	return found
}

// put writes a message that is not there yet. The caller has asked the ledger.
func (f *Folder) put(id identity, ledger *Ledger, msg []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, begun := f.pending[id]; begun {
		return f.finishLocked(id, ledger)
	}
	if err := f.room(len(msg)); err != nil {
		return err
	}
	f.number++
	name := fmt.Sprintf("%s-%06d%s", time.Now().UTC().Format("20060102T150405.000000000"), f.number, f.cfg.Ext)
	temporary := filepath.Join(f.cfg.Dir, "."+id.key.String()+"-"+name+temporaryExt)
	if err := writeFile(temporary, msg); err != nil {
		_ = os.Remove(temporary)
		return fmt.Errorf("write a message to the folder: %w", err)
	}
	f.files++
	f.bytes += int64(len(msg))
	f.pending[id] = pendingFile{temporary: temporary, name: name}
	return f.finishLocked(id, ledger)
}

// finish ends what an error of the disk has interrupted, so that a message may be called taken.
func (f *Folder) finish(id identity, ledger *Ledger) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.finishLocked(id, ledger)
}

func (f *Folder) finishLocked(id identity, ledger *Ledger) error {
	p, begun := f.pending[id]
	if !begun {
		return nil
	}
	err := ledger.ensure(id, nil)
	if err == nil && !p.named {
		err = f.publish(p.temporary, p.name)
		p.named = err == nil
		f.pending[id] = p
	}
	if err == nil {
		err = syncDir(f.cfg.Dir)
	}
	if err != nil {
		return fmt.Errorf("write a message to the folder: %w", err)
	}
	delete(f.pending, id)
	return nil
}

// publish gives a file its name, unless there is one of that name.
func (f *Folder) publish(temporary, name string) error {
	path := filepath.Join(f.cfg.Dir, name)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is a file of that name already")
	}
	return os.Rename(temporary, path) //nolint:wrapcheck // callers do
}

// writeFile writes and syncs a file that must not exist, readable for the group.
func writeFile(path string, content []byte) error {
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err //nolint:wrapcheck // callers do
	}
	_, err = w.Write(content)
	return errors.Join(err, w.Sync(), w.Close())
}

// room refuses when the folder is full.
func (f *Folder) room(size int) error {
	full := func() bool { return f.files >= f.cfg.MaxFiles || f.bytes+int64(size) > f.cfg.MaxBytes }
	if full() || time.Since(f.counted) > recountEvery {
		if err := f.recount(); err != nil {
			return err
		}
	}
	if full() {
		return fmt.Errorf("%w: it holds %d files and %d bytes", ErrFolderFull, f.files, f.bytes)
	}
	return nil
}

func (f *Folder) recount() error {
	d, err := os.Open(f.cfg.Dir)
	if err != nil {
		return fmt.Errorf("look into the folder: %w", err)
	}
	defer func() { _ = d.Close() }()
	f.files, f.bytes, f.counted = 0, 0, time.Now()
	for {
		entries, err := d.ReadDir(1024)
		for _, e := range entries {
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
				f.files++
				f.bytes += info.Size()
			}
		}
		switch {
		case errors.Is(err, io.EOF) || f.files >= f.cfg.MaxFiles:
			return nil
		case err != nil:
			return fmt.Errorf("look into the folder: %w", err)
		}
	}
}

// NewFolderSink returns a Sink that delivers into a Folder.
func NewFolderSink(f *Folder, ledger *Ledger) spool.Sink {
	return &folderSink{folder: f, ledger: ledger}
}

type folderSink struct {
	folder *Folder
	ledger *Ledger
}

// Deliver writes one message, unless it did before a crash.
func (s *folderSink) Deliver(ctx context.Context, it spool.Item, payload io.Reader) (spool.Receipt, error) {
	msg, err := io.ReadAll(payload)
	if err != nil {
		return spool.Receipt{}, fmt.Errorf("read the stored message: %w", err)
	}
	h, err := ParseHeader(msg)
	if err != nil {
		return spool.Receipt{}, spool.Permanent(err)
	}
	id := identify("folder."+s.folder.cfg.Dir, h, msg)
	v, _, release, err := s.ledger.begin(ctx, id)
	if err != nil {
		return spool.Receipt{}, err
	}
	defer release()
	if v == repeated {
		err = s.folder.finish(id, s.ledger)
	} else {
		err = s.folder.put(id, s.ledger, msg)
	}
	if err != nil {
		return spool.Receipt{}, err
	}
	return spool.Receipt{At: time.Now(), Code: "filed"}, nil
}

// Idle has nothing to close.
func (*folderSink) Idle() {}
