package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sweepTimeout is how long the generation may take to read before the connection counts as dead.
const sweepTimeout = 10 * time.Second

// rhythm is how often the listener looks for itself, and how long it pauses after a failure: least at first, doubling to most.
type rhythm struct{ sweep, least, most time.Duration }

// follow keeps the watchers informed until ctx ends. Whenever there is no connection, what was missed is read with the next one.
func (s *Store) follow(ctx context.Context, config *pgx.ConnConfig, r rhythm) {
	wait := r.least
	down := false
	up := func() {
		if down {
			s.log.Info("the database notifies again")
		}
		wait, down = r.least, false
	}
	for {
		err := s.hear(ctx, config, r.sweep, up)
		if ctx.Err() != nil {
			return
		}
		if !down {
			s.log.Warn("the database does not notify, trying again", "error", err)
		}
		down = true
		if !sleep(ctx, wait) {
			return
		}
		wait = min(2*wait, r.most)
	}
}

// hear listens on a connection of its own until that fails. up is called when it works.
func (s *Store) hear(ctx context.Context, config *pgx.ConnConfig, every time.Duration, up func()) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, `LISTEN `+schema); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	// Only now, so that no commit falls between.
	if err := s.sweep(ctx, conn); err != nil {
		return err
	}
	up()
	for {
		news, err := heard(ctx, conn, every)
		if err != nil {
			return err
		}
		// Anybody may notify: the text is only a reason to look, or not to.
		if g, err := strconv.ParseUint(news, 10, 64); err == nil && g <= s.watch.Generation() {
			continue
		}
		if err := s.sweep(ctx, conn); err != nil {
			return err
		}
	}
}

// heard returns the text of the next notification, "" when there was none for a while.
func heard(ctx context.Context, conn *pgx.Conn, every time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, every)
	defer cancel()
	n, err := conn.WaitForNotification(ctx)
	switch {
	case err == nil:
		return n.Payload, nil
	case pgconn.Timeout(err) && !conn.IsClosed():
		return "", nil
	}
	return "", fmt.Errorf("wait for a notification: %w", err)
}

// sweep reads the generation.
func (s *Store) sweep(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	var g uint64
	if err := conn.QueryRow(ctx, `SELECT generation FROM network`).Scan(&g); err != nil {
		return fmt.Errorf("read the generation: %w", err)
	}
	s.watch.Raise(g)
	return nil
}
