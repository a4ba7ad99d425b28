package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

const (
	// migrationLock is the advisory lock of whoever looks at the version of the schema ("towpath" in ASCII).
	migrationLock = 0x746f7770617468
	// oldest is PostgreSQL 13, the first with pg_current_xact_id.
	oldest = 130000
)

// migrate brings the schema up to date, each step in a transaction of its own, and compares the result with what it should be.
func migrate(ctx context.Context, config *pgx.ConnConfig, log *slog.Logger) error {
	conn, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if err := checkServer(ctx, conn); err != nil {
		return err
	}
	steps, err := engine.Migrations(schemaFiles)
	if err != nil {
		return err
	}
	for {
		done, err := step(ctx, conn, steps, log)
		if err != nil {
			return err
		}
		if done {
			return checkSchema(ctx, conn, steps)
		}
	}
}

func checkServer(ctx context.Context, conn *pgx.Conn) error {
	var number int
	var version, encoding string
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_setting('server_encoding')`).
		Scan(&number, &version, &encoding)
	switch {
	case err != nil:
		return fmt.Errorf("ask for the version of the server: %w", err)
	case number < oldest:
		return fmt.Errorf("the server is PostgreSQL %s: version 13 or later is needed", version)
	case encoding != "UTF8":
		return fmt.Errorf("the database is encoded in %s: create it with ENCODING 'UTF8'", encoding)
	}
	return nil
}

// step runs the next migration that the database lacks. Deciding which and running it happen under one lock, so that replicas that start
// at once do it once.
func step(ctx context.Context, conn *pgx.Conn, steps []engine.Migration, log *slog.Logger) (done bool, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		return false, fmt.Errorf("wait for another program that migrates: %w", err)
	}
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
	if err := run(ctx, tx, m.Text); err != nil {
		return false, fmt.Errorf("migrate the schema with %s: %w", m.Name, err)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO migrations (version, name, applied) VALUES ($1, $2, $3)`,
		m.Version, m.Name, time.Now().UnixNano()); err != nil {
		return false, fmt.Errorf("note the migration %s: %w", m.Name, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return false, fmt.Errorf("commit the migration %s: %w", m.Name, err)
	}
	log.Info("database schema migrated", "migration", m.Name)
	return false, nil
}

// run executes a text of several statements.
func run(ctx context.Context, tx pgx.Tx, statements string) error {
	_, err := tx.Conn().PgConn().Exec(ctx, statements).ReadAll()
	return err
}

// version returns the last migration applied. Where there is none it makes the schema and the table that holds it.
func version(ctx context.Context, tx pgx.Tx) (int, error) {
	var table bool
	var objects, v int
	if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL, (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace($2))`,
		schema+".migrations", schema).Scan(&table, &objects); err != nil {
		return 0, fmt.Errorf("look at the schema: %w", err)
	}
	switch {
	case !table && objects > 0:
		return 0, fmt.Errorf("the schema %q is of another program: use a database of its own", schema)
	case !table:
		return 0, found(ctx, tx, schema)
	}
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM migrations`).Scan(&v); err != nil {
		return 0, fmt.Errorf("read the version of the schema: %w", err)
	}
	return v, nil
}

// found makes a schema with the table of its migrations.
func found(ctx context.Context, tx pgx.Tx, schema string) error {
	err := run(ctx, tx, `CREATE SCHEMA IF NOT EXISTS `+schema+`;
		CREATE TABLE `+schema+`.migrations (version integer PRIMARY KEY, name text NOT NULL, applied bigint NOT NULL)`)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42501" { // insufficient_privilege
		return fmt.Errorf("the role may not create the schema %q: let it own the database, or GRANT CREATE ON DATABASE to it: %w", schema, err)
	}
	if err != nil {
		return fmt.Errorf("create the schema: %w", err)
	}
	return nil
}
