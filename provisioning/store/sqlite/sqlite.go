package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"

	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

const (
	// readers is the number of reading connections. Each keeps a page cache, and reading is short.
	readers = 4
	// busyTimeout is how long to wait for another process that has the file, such as a backup.
	busyTimeout = 10 * time.Second
)

// Options of Open.
type Options struct {
	// Log tells of migrations; nil is silent.
	Log *slog.Logger
}

// Store implements store.Store.
type Store struct {
	write, read *sql.DB
	watch       *engine.Watch
}

var _ store.Store = (*Store)(nil)

// Open opens the database at path, which it creates, and brings its schema up to date. It refuses a file that is not a coordinator's
// database and one that a newer program has written. The caller closes it.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	s, err := open(ctx, path, o)
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", path, err)
	}
	return s, nil
}

func open(ctx context.Context, path string, o Options) (_ *Store, err error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if err := secure(path); err != nil {
		return nil, err
	}
	s := &Store{}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if s.write, err = connect(path, 1, "_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=recursive_triggers(1)"); err != nil {
		return nil, err
	}
	if err := migrate(ctx, s.write, log); err != nil {
		return nil, err
	}
	if err := checkSchema(ctx, s.write); err != nil {
		return nil, err
	}
	if s.read, err = connect(path, readers, "_txlock=deferred&_pragma=query_only(1)"); err != nil {
		return nil, err
	}
	generation, err := s.generation(ctx)
	if err != nil {
		return nil, err
	}
	s.watch = engine.NewWatch(generation)
	return s, nil
}

// secure creates the file for its owner only, or makes it so; SQLite gives the same rights to the files beside it. A file that exists
// is not opened here: closing it would drop the locks of another connection of this process.
func secure(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return create(path)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case info.Mode().Perm()&0o077 != 0:
		return os.Chmod(path, 0o600)
	}
	return nil
}

func create(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// connect makes a pool of up to n lasting connections.
func connect(path string, n int, options string) (*sql.DB, error) {
	name := url.URL{Path: path}
	c, err := sqlite.NewConnector(fmt.Sprintf("file:%s?%s&_pragma=busy_timeout(%d)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"+
		"&_pragma=trusted_schema(0)&_pragma=cache_size(-16384)", name.EscapedPath(), options, busyTimeout.Milliseconds()))
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Tx) error) error {
	t, err := begin(ctx, s.read, true)
	if err != nil {
		return s.closedOr(fmt.Errorf("begin to read: %w", err))
	}
	defer t.end()
	return fn(t)
}

// Update implements store.Store. It runs fn once.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	t, err := begin(ctx, s.write, false)
	if err != nil {
		return s.closedOr(fmt.Errorf("begin to write: %w", err))
	}
	defer t.end()
	if err := fn(t); err != nil {
		return err
	}
	if err := t.sql.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if t.bumped {
		s.watch.Raise(t.generation)
	}
	return nil
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, have uint64) (uint64, error) {
	return s.watch.Above(ctx, have)
}

// Close waits for transactions to end and makes every Watch return.
func (s *Store) Close() error {
	if s.watch != nil {
		s.watch.Close()
	}
	var errs []error
	// The writer is last: closing the last connection folds the WAL into the file.
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// closedOr returns store.ErrClosed when that is why the transaction did not begin.
func (s *Store) closedOr(err error) error {
	if s.watch.Closed() {
		return store.ErrClosed
	}
	return err
}

func (s *Store) generation(ctx context.Context) (uint64, error) {
	t, err := begin(ctx, s.read, true)
	if err != nil {
		return 0, err
	}
	defer t.end()
	return t.generation, nil
}
