package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/towpath/towpath/provisioning/store"
)

// tx implements store.Tx.
type tx struct {
	// ctx is the transaction's own, which lives exactly as long.
	ctx context.Context //nolint:containedctx // as of database/sql's own Tx
	sql *sql.Tx
	// prepared keeps statements by their text: a transaction that imports a plan runs the same few thousands of times.
	prepared map[string]*sql.Stmt

	generation uint64
	bumped     bool
}

// begin starts a transaction. Its first query fixes what a reader sees: SQLite takes the snapshot then, not at BEGIN.
func begin(ctx context.Context, db *sql.DB, readOnly bool) (*tx, error) {
	inner, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: readOnly})
	if err != nil {
		return nil, err
	}
	t := &tx{ctx: ctx, sql: inner, prepared: map[string]*sql.Stmt{}}
	if err := t.row(`SELECT generation FROM network`).Scan(&t.generation); err != nil {
		t.end()
		return nil, err
	}
	return t, nil
}

// end rolls back what was not committed.
func (t *tx) end() { _ = t.sql.Rollback() }

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

// failed is the row of a query that could not be prepared.
type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }

func (t *tx) prepare(query string) (*sql.Stmt, error) {
	if s := t.prepared[query]; s != nil {
		return s, nil
	}
	s, err := t.sql.PrepareContext(t.ctx, query)
	if err != nil {
		return nil, err
	}
	t.prepared[query] = s
	return s, nil
}

func (t *tx) row(query string, args ...any) scanner {
	s, err := t.prepare(query)
	if err != nil {
		return failed{err}
	}
	return s.QueryRowContext(t.ctx, args...)
}

// exec runs a statement and returns the number of rows it changed, with the errors of the package store.
func (t *tx) exec(query string, args ...any) (int, error) {
	r, err := t.result(query, args...)
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}

// change is exec of what must meet a row.
func (t *tx) change(query string, args ...any) error {
	n, err := t.exec(query, args...)
	if err == nil && n == 0 {
		return store.ErrNotFound
	}
	return err
}

func (t *tx) result(query string, args ...any) (sql.Result, error) {
	s, err := t.prepare(query)
	if err != nil {
		return nil, err
	}
	r, err := s.ExecContext(t.ctx, args...)
	return r, translate(err)
}

// one reads the row of a query, store.ErrNotFound if there is none.
func one[T any](t *tx, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	v, err := scan(t.row(query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return v, store.ErrNotFound
	}
	return v, err
}

// all reads every row of a query.
func all[T any](t *tx, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	s, err := t.prepare(query)
	if err != nil {
		return nil, err
	}
	rows, err := s.QueryContext(t.ctx, args...)
	if err != nil {
		return nil, err
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
	return out, rows.Err()
}

// translate says with the errors of the package store why the database refused a statement. A foreign key is ErrInUse here; who inserts
// a row that refers to another says ErrNotFound with orphan.
func translate(err error) error {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	switch e.Code() {
	case lib.SQLITE_CONSTRAINT_UNIQUE, lib.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w: %w", store.ErrExists, err)
	case lib.SQLITE_CONSTRAINT_FOREIGNKEY:
		return fmt.Errorf("%w: %w", store.ErrInUse, err)
	case lib.SQLITE_CONSTRAINT_TRIGGER:
		switch {
		case strings.Contains(e.Error(), "towpath.overlap"):
			return store.ErrOverlap
		case strings.Contains(e.Error(), "towpath.outside"):
			return store.ErrOutside
		case strings.Contains(e.Error(), "towpath.in_use"):
			return store.ErrInUse
		case strings.Contains(e.Error(), "towpath.exists"):
			return fmt.Errorf("%w: %w", store.ErrExists, err)
		}
	}
	return err
}
