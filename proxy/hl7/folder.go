package hl7

import (
	"context"
	"encoding/hex"
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

// Format is what files in a Folder hold when it is not the message itself. Implementations are pure.
type Format interface {
	// Files returns the file for a message, and those that go before it under their own names, which begin with stem: it is the message's alone.
	// An error means that the message can never be a file.
	Files(msg []byte, stem string) (content []byte, beside []Beside, err error)
	// Name returns the n-th name of a file, n from 1 to Names. Behind the last one comes the first again.
	Name(n int) string
	Names() int
}

// Beside is a file that another one refers to.
type Beside struct {
	Name    string
	Content []byte
}

// ErrUnsuited means that a Folder's Format cannot hold a message.
var ErrUnsuited = errors.New("the message does not fit the format of the folder")

// Folder puts messages into files for software that reads them from there, each whole, synced, under a name of its own in order of arrival,
// and each once:
//
//	write and sync .KEY.DIGEST-NAME.tmp -> remember KEY in the Ledger, synced -> rename to NAME, sync the folder
//
// KEY and DIGEST are the message's. A file that a crash has left as .tmp is finished when the Ledger knows its key, and removed otherwise. It is safe for concurrent use.
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
		text, name, _ := strings.Cut(strings.TrimPrefix(stem, "."), "-")
		id, ok := parseIdentity(text)
		if !ours || !strings.HasPrefix(stem, ".") || !ok {
			continue
		}
		path := filepath.Join(f.cfg.Dir, e.Name())
		if f.cfg.Ledger.knows(id) {
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

// fileIdentity writes an identity as the name of a file has it.
func fileIdentity(id identity) string {
	return id.key.String() + "." + hex.EncodeToString(id.digest[:])
}

func parseIdentity(s string) (id identity, ok bool) {
	key, digest, _ := strings.Cut(s, ".")
	id.key, ok = parseKey(key)
	if !ok || len(digest) != 2*len(id.digest) {
		return id, false
	}
	_, err := hex.Decode(id.digest[:], []byte(digest))
	return id, err == nil
}

// put writes a message that is not there yet. The caller has asked the ledger.
func (f *Folder) put(id identity, ledger *Ledger, msg []byte, format Format) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, begun := f.pending[id]; begun {
		return f.finishLocked(id, ledger)
	}
	content, beside := msg, []Beside(nil)
	if format != nil {
		var err error
		if content, beside, err = format.Files(msg, hex.EncodeToString(id.digest[:8])); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsuited, err)
		}
	}
	size := len(content)
	for _, b := range beside {
		size += len(b.Content)
	}
	if err := f.room(1+len(beside), size); err != nil {
		return err
	}
	name, err := f.nextName(format)
	if err != nil {
		return err
	}
	temporary := filepath.Join(f.cfg.Dir, "."+fileIdentity(id)+"-"+name+temporaryExt)
	err = f.putBeside(beside)
	if err == nil {
		err = writeFile(temporary, content)
	}
	if err != nil {
		_ = os.Remove(temporary)
		return fmt.Errorf("write a message to the folder: %w", err)
	}
	f.files += 1 + len(beside)
	f.bytes += int64(size)
	f.pending[id] = pendingFile{temporary: temporary, name: name}
	return f.finishLocked(id, ledger)
}

// nextName returns a name that nobody has.
func (f *Folder) nextName(format Format) (string, error) {
	if format == nil {
		f.number++
		return fmt.Sprintf("%s-%06d%s", time.Now().UTC().Format("20060102T150405.000000000"), f.number, f.cfg.Ext), nil
	}
	for range format.Names() {
		f.number = f.number%format.Names() + 1
		name := format.Name(f.number)
		if _, err := os.Lstat(filepath.Join(f.cfg.Dir, name)); errors.Is(err, fs.ErrNotExist) && !f.promised(name) {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w: all of its %d names are taken", ErrFolderFull, format.Names())
}

// promised reports whether a file that is not there yet has the name.
func (f *Folder) promised(name string) bool {
	for _, p := range f.pending {
		if p.name == name && !p.named {
			return true
		}
	}
	return false
}

// putBeside writes what the next file refers to. A second attempt replaces what the first has left: the names are the message's own.
func (f *Folder) putBeside(beside []Beside) error {
	for _, b := range beside {
		path := filepath.Join(f.cfg.Dir, b.Name)
		temporary := filepath.Join(f.cfg.Dir, "."+b.Name+temporaryExt)
		_ = os.Remove(temporary)
		if err := writeFile(temporary, b.Content); err != nil {
			_ = os.Remove(temporary)
			return err
		}
		if err := os.Rename(temporary, path); err != nil {
			return err //nolint:wrapcheck // put does
		}
	}
	if len(beside) == 0 {
		return nil
	}
	return syncDir(f.cfg.Dir)
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
func (f *Folder) room(files, size int) error {
	full := func() bool { return f.files+files > f.cfg.MaxFiles || f.bytes+int64(size) > f.cfg.MaxBytes }
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

// NewFolderSink returns a Sink that delivers into a Folder. A nil Format writes messages as they are.
func NewFolderSink(f *Folder, ledger *Ledger, format Format) spool.Sink {
	return &folderSink{folder: f, ledger: ledger, format: format}
}

type folderSink struct {
	folder *Folder
	ledger *Ledger
	format Format
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
		err = s.folder.put(id, s.ledger, msg, s.format)
	}
	if errors.Is(err, ErrUnsuited) {
		err = spool.Permanent(err)
	}
	if err != nil {
		return spool.Receipt{}, err
	}
	return spool.Receipt{At: time.Now(), Code: "filed"}, nil
}

// Idle has nothing to close.
func (*folderSink) Idle() {}
