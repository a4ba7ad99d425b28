package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"modernc.org/sqlite"

	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// checkSchema compares the schema of the file with what the migrations make of an empty database, because the rules of the plan are worth
// nothing where somebody has dropped a trigger.
func checkSchema(ctx context.Context, db *sql.DB) error {
	c, err := sqlite.NewConnector(":memory:?_txlock=immediate")
	if err != nil {
		return err
	}
	fresh := sql.OpenDB(c)
	defer func() { _ = fresh.Close() }()
	// A second connection would be a second, empty database.
	fresh.SetMaxOpenConns(1)
	if err := migrate(ctx, fresh, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	want, err1 := schemaOf(ctx, fresh)
	have, err2 := schemaOf(ctx, db)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("read the schema: %w", err)
	}
	return engine.CheckSchema(want, have)
}

// schemaOf returns the text of every object by its type and name. SQLite's own, such as the statistics of ANALYZE, do not count.
func schemaOf(ctx context.Context, db *sql.DB) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, `SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~'`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			return nil, err
		}
		out[name] = text
	}
	return out, rows.Err()
}
