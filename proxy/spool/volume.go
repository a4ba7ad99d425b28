package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The folders of a spool directory. The root holds the lock and the sequence.
const (
	rootDir       = "."
	itemsDir      = "items"
	quarantineDir = "quarantine"
)

// volume is all that a Spool asks of a file system. The real one is a directory; tests put one in its place that fails, or loses what
// was not synced. Names are relative, with at most one folder.
type volume interface {
	// create makes a file that must not exist.
	create(name string) (file, error)
	open(name string) (storedFile, error)
	// rename replaces to, atomically. It is durable after sync of the folder of to.
	rename(from, to string) error
	remove(name string) error
	list(dir string) ([]string, error)
	// sync makes the entries of a folder durable.
	sync(dir string) error
	// free returns the bytes an unprivileged process may still use.
	free() (int64, error)
	// close gives up the lock.
	close() error
}

// file is being written. Its bytes are durable after Sync.
type file interface {
	io.WriteCloser
	Sync() error
}

// storedFile is being read.
type storedFile interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
	// Sync makes durable what another process has written to it.
	Sync() error
}

// diskVolume is a directory that this process holds the lock of.
type diskVolume struct {
	root *os.Root
	// folders are those in which files are opened, made, renamed and removed all the time: an os.Root opens each folder on the way anew.
	folders map[string]*os.Root
	lock    *os.File
	dirs    map[string]*os.File
}

// at returns where a name is, and what it is called there.
func (v *diskVolume) at(name string) (*os.Root, string) {
	if dir, base, ok := strings.Cut(name, "/"); ok && v.folders[dir] != nil {
		return v.folders[dir], base
	}
	return v.root, name
}

func openVolume(dir string) (*diskVolume, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make the queue directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the queue directory: %w", err)
	}
	v := &diskVolume{root: root, folders: map[string]*os.Root{}, dirs: map[string]*os.File{}}
	if err := v.prepare(); err != nil {
		_ = v.close()
		return nil, err
	}
	return v, nil
}

// makeDir makes dir and what is missing above it, and syncs each folder that got a new entry.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case errors.Is(err, os.ErrExist):
		return nil
	case errors.Is(err, os.ErrNotExist) && filepath.Dir(dir) != dir:
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		return err //nolint:wrapcheck // the caller says what for
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err //nolint:wrapcheck // the caller says what for
	}
	return errors.Join(parent.Sync(), parent.Close())
}

func (v *diskVolume) prepare() error {
	lock, err := v.root.OpenFile("lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open the lock of the queue directory: %w", err)
	}
	v.lock = lock
	switch err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return ErrLocked
	case err != nil:
		return fmt.Errorf("lock the queue directory: %w", err)
	}
	for _, name := range []string{itemsDir, journalDir, quarantineDir, epochsDir} {
		if err := v.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make a folder of the queue directory: %w", err)
		}
	}
	for _, name := range []string{itemsDir, journalDir} {
		if v.folders[name], err = v.root.OpenRoot(name); err != nil {
			return fmt.Errorf("open a folder of the queue directory: %w", err)
		}
	}
	for _, name := range []string{rootDir, itemsDir, journalDir, quarantineDir, epochsDir} {
		d, err := v.root.Open(name)
		if err != nil {
			return fmt.Errorf("open a folder of the queue directory: %w", err)
		}
		v.dirs[name] = d
		if err := v.sync(name); err != nil {
			return err
		}
	}
	return nil
}

func (v *diskVolume) create(name string) (file, error) {
	root, name := v.at(name)
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create a file of the queue: %w", err)
	}
	return f, nil
}

type diskFile struct{ *os.File }

func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("measure a file of the queue: %w", err)
	}
	return info.Size(), nil
}

func (v *diskVolume) open(name string) (storedFile, error) {
	root, name := v.at(name)
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open a file of the queue: %w", err)
	}
	return diskFile{f}, nil
}

func (v *diskVolume) rename(from, to string) error {
	root, old := v.at(from)
	same, name := v.at(to)
	if same != root {
		root, old, name = v.root, from, to
	}
	if err := root.Rename(old, name); err != nil {
		return fmt.Errorf("rename a file of the queue: %w", err)
	}
	return nil
}

func (v *diskVolume) remove(name string) error {
	root, name := v.at(name)
	if err := root.Remove(name); err != nil {
		return fmt.Errorf("remove a file of the queue: %w", err)
	}
	return nil
}

func (v *diskVolume) list(dir string) ([]string, error) {
	d, err := v.root.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open a folder of the queue: %w", err)
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list a folder of the queue: %w", err)
	}
	return names, nil
}

func (v *diskVolume) sync(dir string) error {
	if err := v.dirs[dir].Sync(); err != nil {
		return fmt.Errorf("sync a folder of the queue: %w", err)
	}
	return nil
}

func (v *diskVolume) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(v.lock.Fd()), &st); err != nil {
		return 0, fmt.Errorf("ask for free space: %w", err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // types differ between systems; space fits 63 bits
}

func (v *diskVolume) close() error {
	var errs []error
	for _, d := range v.dirs {
		errs = append(errs, d.Close())
	}
	for _, folder := range v.folders {
		if folder != nil {
			errs = append(errs, folder.Close())
		}
	}
	if v.lock != nil {
		errs = append(errs, v.lock.Close())
	}
	return errors.Join(append(errs, v.root.Close())...)
}

// full makes a lack of space recognizable.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
