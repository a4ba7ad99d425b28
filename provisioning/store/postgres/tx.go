package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/towpath/towpath/provisioning/store"
)

// rollbackTimeout is how long to wait for the end of a transaction whose context may have ended already.
const rollbackTimeout = 5 * time.Second

// tx implements store.Tx.
type tx struct {
	// ctx is the transaction's own, which lives exactly as long.
	ctx context.Context //nolint:containedctx // as of database/sql and its own Tx
	sql pgx.Tx

	generation uint64
	bumped     bool
	// revised says that ranges changed since Revision was last read.
	revised bool
	// again says that a statement failed for a reason that another try may not meet.
	again bool
}

// mode is how a transaction begins: its first query fixes the snapshot of a reader, and makes a writer wait for its turn.
type mode struct {
	options pgx.TxOptions
	first   string
}

// reading sees one picture for as long as it lasts.
func reading() mode {
	return mode{pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, `SELECT generation FROM network`}
}

// writing waits for its turn and sees what was committed before it. At a higher level its snapshot would be older than its turn.
func writing() mode {
	return mode{pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, `SELECT generation FROM network FOR UPDATE`}
}

// begin starts a transaction. A server that has restarted leaves dead connections in the pool, of which it tries them all.
func begin(ctx context.Context, p *pgxpool.Pool, m mode) (*tx, error) {
	for tries := p.Config().MaxConns; ; tries-- {
		t, err := beginOnce(ctx, p, m)
		if err == nil || tries == 0 || ctx.Err() != nil || !isLost(err) {
			return t, err
		}
	}
}

func beginOnce(ctx context.Context, p *pgxpool.Pool, m mode) (*tx, error) {
	inner, err := p.BeginTx(ctx, m.options)
	if err != nil {
		return nil, err
	}
	t := &tx{ctx: ctx, sql: inner}
	if err := t.row(m.first).Scan(&t.generation); err != nil {
		t.end()
		return nil, err
	}
	return t, nil
}

// end rolls back what was not committed.
func (t *tx) end() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), rollbackTimeout)
	defer cancel()
	_ = t.sql.Rollback(ctx)
}

var _ store.Tx = (*tx)(nil)

func (t *tx) Sites() store.Sites         { return sites{t} }
func (t *tx) Nodes() store.Nodes         { return nodes{t} }
func (t *tx) Tokens() store.Tokens       { return tokens{t} }
func (t *tx) SpoolKeys() store.SpoolKeys { return spoolKeys{t} }
func (t *tx) PairMail() store.PairMail   { return pairMail{t} }
func (t *tx) Services() store.Services   { return services{t} }
func (t *tx) Grants() store.Grants       { return grants{t} }
func (t *tx) Ranges() store.Ranges       { return ranges{t} }
func (t *tx) History() store.History     { return history{t} }
func (t *tx) Events() store.Events       { return events{t} }

// scanner is a row.
type scanner interface{ Scan(...any) error }

// noted is a row whose failure the transaction remembers.
type noted struct {
	t   *tx
	row pgx.Row
}

func (n noted) Scan(into ...any) error { return n.t.note(n.row.Scan(into...)) }

func (t *tx) row(query string, args ...any) scanner {
	return noted{t, t.sql.QueryRow(t.ctx, query, plain(args)...)}
}

// exec runs a statement and returns the number of rows it changed, with the errors of the package store.
func (t *tx) exec(query string, args ...any) (int, error) {
	tag, err := t.sql.Exec(t.ctx, query, plain(args)...)
	return int(tag.RowsAffected()), translate(t.note(err))
}

// change is exec of what must meet a row.
func (t *tx) change(query string, args ...any) error {
	n, err := t.exec(query, args...)
	if err == nil && n == 0 {
		return store.ErrNotFound
	}
	return err
}

// one reads the row of a query, store.ErrNotFound if there is none.
func one[T any](t *tx, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	v, err := scan(t.row(query, args...))
	if errors.Is(err, pgx.ErrNoRows) {
		return v, store.ErrNotFound
	}
	return v, err
}

// all reads every row of a query.
func all[T any](t *tx, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := t.sql.Query(t.ctx, query, plain(args)...)
	if err != nil {
		return nil, t.note(err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, t.note(rows.Err())
}

// note remembers whether another try of the transaction makes sense, and returns err.
func (t *tx) note(err error) error {
	if isConflict(err) || isLost(err) {
		t.again = true
	}
	return err
}

// translate says with the errors of the package store why the database refused a statement. A foreign key is ErrInUse here; who inserts
// a row that refers to another says ErrNotFound with engine.Orphan.
func translate(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	switch e.Code {
	case "23505": // unique_violation
		return fmt.Errorf("%w: %w", store.ErrExists, err)
	case "23503": // foreign_key_violation
		return fmt.Errorf("%w: %w", store.ErrInUse, err)
	case "23P01": // exclusion_violation
		if e.ConstraintName == "ranges_once" {
			return fmt.Errorf("%w: %w", store.ErrExists, err)
		}
		return store.ErrOverlap
	case "23514": // check_violation
		if e.ConstraintName == "ranges_in_pool" {
			return store.ErrOutside
		}
	}
	return err
}
