package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

// trial is a schema that exists only inside a transaction that is rolled back.
const trial = "towpath_trial"

// catalog describes what a schema ($1) defines: a name and the definition. The triggers that PostgreSQL makes for foreign keys have
// numbers for names, so of these only their states are told, for each table. Indexes beyond those of constraints are not rules: a
// database may have more of them.
const catalog = `
WITH t AS (SELECT oid, relname FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p'))
SELECT 'column ' || t.relname || '.' || a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull,
    a.attidentity, a.attgenerated, (SELECT collname FROM pg_collation AS c WHERE c.oid = a.attcollation), pg_get_expr(d.adbin, d.adrelid))
  FROM t JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = t.oid AND d.adnum = a.attnum
UNION ALL
SELECT 'constraint ' || t.relname || '.' || c.conname, concat_ws(' ', pg_get_constraintdef(c.oid), c.convalidated)
  FROM t JOIN pg_constraint AS c ON c.conrelid = t.oid
UNION ALL
SELECT 'trigger ' || t.relname || '.' || g.tgname, concat_ws(' ', pg_get_triggerdef(g.oid), g.tgenabled)
  FROM t JOIN pg_trigger AS g ON g.tgrelid = t.oid AND NOT g.tgisinternal
UNION ALL
SELECT 'foreign keys of ' || t.relname, string_agg(g.tgenabled::text, '' ORDER BY g.tgenabled)
  FROM t JOIN pg_trigger AS g ON g.tgrelid = t.oid AND g.tgisinternal GROUP BY t.relname
UNION ALL
SELECT 'rule ' || t.relname || '.' || r.rulename, pg_get_ruledef(r.oid) FROM t JOIN pg_rewrite AS r ON r.ev_class = t.oid
UNION ALL
SELECT 'function ' || p.proname, pg_get_functiondef(p.oid) FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace($1)`

// checkSchema makes the schema anew beside ours, compares the two, and rolls back.
func checkSchema(ctx context.Context, conn *pgx.Conn, steps []engine.Migration) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		return fmt.Errorf("wait for another program that migrates: %w", err)
	}
	have, err := describe(ctx, tx, schema)
	if err != nil {
		return err
	}
	if err := found(ctx, tx, trial); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `SET LOCAL search_path = `+trial); err != nil {
		return fmt.Errorf("compare the schema: %w", err)
	}
	for _, m := range steps {
		if err := run(ctx, tx, m.Text); err != nil {
			return fmt.Errorf("compare the schema with %s: %w", m.Name, err)
		}
	}
	want, err := describe(ctx, tx, trial)
	if err != nil {
		return err
	}
	return engine.CheckSchema(want, have)
}

func describe(ctx context.Context, tx pgx.Tx, schema string) (map[string]string, error) {
	rows, err := tx.Query(ctx, catalog, schema)
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var name, definition string
		if err := rows.Scan(&name, &definition); err != nil {
			return nil, fmt.Errorf("read the schema: %w", err)
		}
		// Whatever is named with its schema: by the name only, in quotes or not.
		definition = strings.ReplaceAll(definition, schema+".", "")
		out[name] = strings.ReplaceAll(definition, "'"+schema+"'", "''")
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	return out, nil
}
