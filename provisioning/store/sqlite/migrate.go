package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"
	"time"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// applicationID marks the file as a coordinator's database ("towp").
const applicationID = 0x746f7770

// migration is one step of the schema: the number its file name begins with, and its statements. A released one never changes.
type migration struct {
	version int
	name    string
	text    string
}

// migrations returns the steps in order, numbered 1, 2, 3….
func migrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "schema/*.sql")
	if err != nil {
		return nil, err
	}
	var out []migration
	for i, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		if v, err := strconv.Atoi(number); err != nil || v != i+1 {
			return nil, fmt.Errorf("the migration %s is out of order: want number %d", name, i+1)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		out = append(out, migration{version: i + 1, name: path.Base(name), text: string(text)})
	}
	return out, nil
}

// migrate brings the schema up to date, each step in a transaction of its own.
func migrate(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	steps, err := migrations(schemaFiles)
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
func step(ctx context.Context, db *sql.DB, steps []migration, log *slog.Logger) (done bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }()
	have, err := version(ctx, tx)
	if err != nil {
		return false, err
	}
	if have > len(steps) {
		return false, fmt.Errorf("it has schema %d and this program knows up to %d: a newer program has written it, "+
			"install that one again or restore a backup from before it", have, len(steps))
	}
	if have == len(steps) {
		return true, nil
	}
	m := steps[have]
	if _, err := tx.ExecContext(ctx, m.text); err != nil {
		return false, fmt.Errorf("migrate the schema with %s: %w", m.name, err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO migrations (version, name, applied) VALUES (?, ?, ?)`,
		m.version, m.name, time.Now().UnixNano()); err != nil {
		return false, fmt.Errorf("note the migration %s: %w", m.name, err)
	}
	if err := tx.Commit(); err != nil {
		return false, fmt.Errorf("commit the migration %s: %w", m.name, err)
	}
	log.Info("database schema migrated", "migration", m.name)
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
