package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// applicationID marks the file as a coordinator's database ("towp").
const applicationID = 0x746f7770

// migrate brings the schema up to date, each step in a transaction of its own.
func migrate(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	steps, err := engine.Migrations(schemaFiles)
	if err != nil {
		return err
	}
	for {
		done, err := step(ctx, db, steps, log)
		if err != nil || done {
			return err
		}
	}
}

// step runs the next migration that the file lacks. Deciding which and running it share a transaction, so that two programs that start
// at once do it once.
func step(ctx context.Context, db *sql.DB, steps []engine.Migration, log *slog.Logger) (done bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }()
	have, err := version(ctx, tx)
	if err != nil {
		return false, err
	}
	if err := engine.Newer(have, len(steps)); err != nil {
		return false, err
	}
	if have == len(steps) {
		return true, nil
	}
	m := steps[have]
	if _, err := tx.ExecContext(ctx, m.Text); err != nil {
		return false, fmt.Errorf("migrate the schema with %s: %w", m.Name, err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO migrations (version, name, applied) VALUES (?, ?, ?)`,
		m.Version, m.Name, time.Now().UnixNano()); err != nil {
		return false, fmt.Errorf("note the migration %s: %w", m.Name, err)
	}
	if err := tx.Commit(); err != nil {
		return false, fmt.Errorf("commit the migration %s: %w", m.Name, err)
	}
	log.Info("database schema migrated", "migration", m.Name)
	return false, nil
}

// version returns the last migration applied. In an empty file it makes the table that holds it.
func version(ctx context.Context, tx *sql.Tx) (int, error) {
	var id, objects, v int
	err := tx.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)`).
		Scan(&id, &objects)
	switch {
	case err != nil:
		return 0, fmt.Errorf("read it as an SQLite file: %w", err)
	case id == 0 && objects == 0:
		_, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA application_id = %d;
			CREATE TABLE migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied INTEGER NOT NULL) STRICT`, applicationID))
		return 0, err
	case id != applicationID:
		return 0, errors.New("it is the database of another program")
	}
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM migrations`).Scan(&v); err != nil {
		return 0, fmt.Errorf("read the version of the schema: %w", err)
	}
	return v, nil
}
