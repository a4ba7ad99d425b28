package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

const (
	// schema holds everything of ours. The channel of notifications has its name too.
	schema = "towpath"
	// writers is the number of writing connections. One works, the next waits in the database's own queue of replicas.
	writers = 2
	// readers is the number of reading connections. They are apart from the writers, so that a View inside an Update finds one.
	readers = 4
	// connectTimeout is how long to try a server, unless the URL says otherwise.
	connectTimeout = 10 * time.Second
	// idleTimeout ends a transaction whose replica vanished, which would keep all writers waiting.
	idleTimeout = time.Minute
)

// Options of Open.
type Options struct {
	// Log tells of migrations and of a lost server; nil is silent.
	Log *slog.Logger
}

// Store implements store.Store.
type Store struct {
	write, read *pgxpool.Pool
	watch       *engine.Watch
	log         *slog.Logger

	// stop ends the listener, which is waited for.
	stop   context.CancelFunc
	listen sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// Open connects to the database at url (postgres://user:password@host:port/database, several hosts separated by commas) and brings its
// schema up to date. What the URL leaves out comes from PostgreSQL's usual environment and files. It refuses a database that a newer
// program has written, one whose schema was changed by hand, and a server that only reads. ctx ends the opening only. The caller closes
// the Store.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	return open(ctx, url, o, rhythm{sweep: 30 * time.Second, least: 500 * time.Millisecond, most: 30 * time.Second})
}

func open(ctx context.Context, url string, o Options, r rhythm) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the address of the database: %w", err)
	}
	prepare(config.ConnConfig)
	s := &Store{log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.start(ctx, config, r); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("open the database %s: %w", place(config.ConnConfig), err)
	}
	return s, nil
}

// prepare sets what every connection needs.
func prepare(c *pgx.ConnConfig) {
	c.RuntimeParams["search_path"] = schema
	c.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(idleTimeout.Milliseconds(), 10)
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "towpath"
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	if c.ValidateConnect == nil {
		// Of several hosts, the one that takes writes.
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
}

// place names the database without its user and password.
func place(c *pgx.ConnConfig) string {
	return fmt.Sprintf("%q at %s", c.Database, net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))))
}

func (s *Store) start(ctx context.Context, config *pgxpool.Config, r rhythm) error {
	if err := migrate(ctx, config.ConnConfig, s.log); err != nil {
		return err
	}
	var err error
	if s.write, err = pool(config, writers); err != nil {
		return err
	}
	if s.read, err = pool(config, readers); err != nil {
		return err
	}
	t, err := begin(ctx, s.read, reading())
	if err != nil {
		return err
	}
	t.end()
	s.watch = engine.NewWatch(t.generation)
	listening, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.listen.Go(func() { s.follow(listening, config.ConnConfig.Copy(), r) })
	return nil
}

// pool makes a pool of up to n connections, which connect when they are needed.
func pool(config *pgxpool.Config, n int32) (*pgxpool.Pool, error) {
	c := config.Copy()
	c.MaxConns, c.MinConns, c.MinIdleConns = n, 0, 0
	return pgxpool.NewWithConfig(context.Background(), c)
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Tx) error) error {
	t, err := begin(ctx, s.read, reading())
	if err != nil {
		return s.closedOr(fmt.Errorf("begin to read: %w", err))
	}
	defer t.end()
	return fn(t)
}

// Update implements store.Store. It runs fn again after a conflict with somebody who is not a Store, and when the connection is lost
// before the commit was sent. After an error of the commit itself nobody knows whether it happened.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	for try := 1; ; try++ {
		again, err := s.update(ctx, fn)
		if err == nil || !again || try == tries {
			return err
		}
		if !pause(ctx, try) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// update runs fn once and says whether a failure is worth another try.
func (s *Store) update(ctx context.Context, fn func(store.Tx) error) (again bool, err error) {
	t, err := begin(ctx, s.write, writing())
	if err != nil {
		return isConflict(err), s.closedOr(fmt.Errorf("begin to write: %w", err))
	}
	defer t.end()
	if err := fn(t); err != nil {
		return t.again, err
	}
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	if err := t.sql.Commit(ctx); err != nil {
		// A rollback instead of a commit is the answer to an error that fn kept for itself.
		again := isConflict(err) || t.again && errors.Is(err, pgx.ErrTxCommitRollback)
		return again, fmt.Errorf("commit: %w", err)
	}
	if t.bumped {
		s.watch.Raise(t.generation)
	}
	return false, nil
}

// Watch implements store.Store. It hears of the commits of every replica.
func (s *Store) Watch(ctx context.Context, have uint64) (uint64, error) {
	return s.watch.Above(ctx, have)
}

// Close waits for transactions to end and makes every Watch return.
func (s *Store) Close() error {
	if s.watch != nil {
		s.watch.Close()
	}
	if s.stop != nil {
		s.stop()
		s.listen.Wait()
	}
	for _, p := range []*pgxpool.Pool{s.read, s.write} {
		if p != nil {
			p.Close()
		}
	}
	return nil
}

// closedOr returns store.ErrClosed when that is why the transaction did not begin.
func (s *Store) closedOr(err error) error {
	if s.watch.Closed() {
		return store.ErrClosed
	}
	return err
}
