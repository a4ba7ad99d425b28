package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
	"github.com/towpath/towpath/provisioning/store/pgtest"
	"github.com/towpath/towpath/provisioning/store/storetest"
)

func TestOpenAgainKeepsEverything(t *testing.T) {
	url := pgtest.Start(t)
	s, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.Bump(); err != nil {
			return err
		}
		return tx.Sites().Create(provisioning.Site{ID: "site_a", Name: "a"})
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, url)
	if g, err := s.Watch(t.Context(), 0); err != nil || g != 1 {
		t.Errorf("Watch after the restart = %d, %v, want 1 at once", g, err)
	}
	if err := s.View(t.Context(), func(tx store.Tx) error { _, err := tx.Sites().ByName("a"); return err }); err != nil {
		t.Error(err)
	}
}

// TestReplicasStartAtOnce opens an empty database from several sides: the schema is made once, and all of them work.
func TestReplicasStartAtOnce(t *testing.T) {
	url := pgtest.Start(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := Open(t.Context(), url, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := s.Update(t.Context(), func(tx store.Tx) error { _, err := tx.Bump(); return err }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var steps, generation int
	if err := raw(t, url).QueryRow(t.Context(), `SELECT (SELECT count(*) FROM towpath.migrations), generation FROM towpath.network`).
		Scan(&steps, &generation); err != nil {
		t.Fatal(err)
	}
	want, err := engine.Migrations(schemaFiles)
	if err != nil {
		t.Fatal(err)
	}
	if steps != len(want) || generation != 6 {
		t.Errorf("%d steps were noted and the generation is %d, want %d and 6", steps, generation, len(want))
	}
}

// secret is the password in the addresses of the tests, which no error may tell.
const secret = "hunter2"

func TestOpenRefuses(t *testing.T) {
	made := func(change string) func(*testing.T, string) string {
		return func(t *testing.T, url string) string {
			if err := openAt(t, url).Close(); err != nil {
				t.Fatal(err)
			}
			statements(t, url, change)
			return url
		}
	}
	empty := func(change string) func(*testing.T, string) string {
		return func(t *testing.T, url string) string {
			statements(t, url, change)
			return url
		}
	}
	at := func(url string) func(*testing.T, string) string {
		return func(*testing.T, string) string { return url }
	}
	for what, tt := range map[string]struct {
		prepare func(t *testing.T, url string) string
		says    string
	}{
		"a newer schema":             {made(`INSERT INTO towpath.migrations VALUES (99, 'later', 0)`), "newer program"},
		"another program's schema":   {empty(`CREATE SCHEMA towpath; CREATE TABLE towpath.t (a int)`), "another program"},
		"a guard taken off":          {made(`DROP TRIGGER ranges_fixed ON towpath.ranges`), "ranges_fixed"},
		"a guard switched off":       {made(`ALTER TABLE towpath.events DISABLE TRIGGER events_stay`), "events_stay"},
		"every guard switched off":   {made(`ALTER TABLE towpath.ranges DISABLE TRIGGER ALL`), "foreign keys of ranges"},
		"no exclusion":               {made(`ALTER TABLE towpath.ranges DROP CONSTRAINT ranges_disjoint`), "ranges_disjoint"},
		"an exclusion of some":       {made(`ALTER TABLE towpath.ranges DROP CONSTRAINT ranges_disjoint, ADD CONSTRAINT ranges_disjoint EXCLUDE USING gist (prefix inet_ops WITH &&, side WITH &&, depth WITH &&) WHERE (kind <> 'pool')`), "ranges_disjoint"},
		"labels that are not unique": {made(`ALTER TABLE towpath.ranges DROP CONSTRAINT ranges_label_key`), "ranges_label_key"},
		"addresses for everybody":    {made(`DROP TRIGGER addresses_kept ON towpath.addresses`), "addresses_kept"},
		"a rule not validated":       {made(`ALTER TABLE towpath.ranges DROP CONSTRAINT ranges_in_pool, ADD CONSTRAINT ranges_in_pool CHECK (true) NOT VALID`), "ranges_in_pool"},
		"a changed table":            {made(`ALTER TABLE towpath.sites ADD COLUMN color text`), "sites.color"},
		"a function that does less":  {made(`CREATE OR REPLACE FUNCTION towpath.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`), "refuse"},
		"a sly rule":                 {made(`CREATE RULE sly AS ON INSERT TO towpath.tokens DO INSTEAD NOTHING`), "sly"},
		"another encoding": {func(t *testing.T, url string) string {
			statements(t, url, `DROP DATABASE IF EXISTS latin`)
			statements(t, url, `CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`)
			t.Cleanup(func() { statementsLater(t, url, `DROP DATABASE latin`) })
			return database(url, "latin")
		}, "UTF8"},
		"a role without rights": {func(t *testing.T, url string) string {
			statements(t, url, `CREATE ROLE nobody LOGIN`)
			t.Cleanup(func() { statementsLater(t, url, `DROP ROLE nobody`) })
			return strings.Replace(url, "user=postgres", "user=nobody", 1)
		}, "GRANT CREATE ON DATABASE"},
		"a server that only reads": {func(_ *testing.T, url string) string { return url + "&default_transaction_read_only=on" }, "read only"},
		"no server":                {at("postgres://towpath:" + secret + "@127.0.0.1:1/plan?sslmode=disable"), `"plan" at 127.0.0.1:1`},
		"no address":               {at("postgres://towpath:" + secret + "@127.0.0.1:port/plan"), "address of the database"},
	} {
		t.Run(what, func(t *testing.T) {
			url := tt.prepare(t, pgtest.Start(t))
			s, err := Open(t.Context(), url, Options{})
			if err == nil {
				_ = s.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), secret) {
				t.Errorf("%q does not say %q, or tells a secret", err, tt.says)
			}
		})
	}
}

// database is the address of another database on the server of url.
func database(url, name string) string {
	head, query, _ := strings.Cut(url, "?")
	return head[:strings.LastIndex(head, "/")+1] + name + "?" + query
}

// statementsLater is statements for a cleanup, when the context of the test has ended.
func statementsLater(t *testing.T, url, text string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, url)
	if err == nil {
		_, err = conn.PgConn().Exec(ctx, text).ReadAll()
		err = errors.Join(err, conn.Close(ctx))
	}
	if err != nil {
		t.Error(err)
	}
}

// TestMoreIndexesAreFine opens a database to which somebody added what changes no rule.
func TestMoreIndexesAreFine(t *testing.T) {
	url := pgtest.Start(t)
	if err := openAt(t, url).Close(); err != nil {
		t.Fatal(err)
	}
	statements(t, url, `CREATE INDEX by_time ON towpath.events (at); ANALYZE; CREATE TABLE public.other (a int)`)
	openAt(t, url)
}

// TestMigrationIsAllOrNothing runs a step that fails half way.
func TestMigrationIsAllOrNothing(t *testing.T) {
	url := pgtest.Start(t)
	openAt(t, url)
	steps, err := engine.Migrations(schemaFiles)
	if err != nil {
		t.Fatal(err)
	}
	steps = append(steps, engine.Migration{Version: len(steps) + 1, Name: "bad.sql", Text: `CREATE TABLE half (a int); INSERT INTO nowhere VALUES (1)`})
	conn := raw(t, url)
	if _, err := conn.Exec(t.Context(), `SET search_path = towpath`); err != nil {
		t.Fatal(err)
	}
	if _, err := step(t.Context(), conn, steps, nil); err == nil || !strings.Contains(err.Error(), "bad.sql") {
		t.Errorf("got %v, want an error that names the step", err)
	}
	var there bool
	if err := conn.QueryRow(t.Context(), `SELECT to_regclass('towpath.half') IS NOT NULL`).Scan(&there); err != nil || there {
		t.Errorf("half of a migration stayed: %v, %v", there, err)
	}
}

// TestTamperingShows breaks the trail with the guards taken off, as the owner of the database can.
func TestTamperingShows(t *testing.T) {
	url := pgtest.Start(t)
	s := openAt(t, url)
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		for i := range verifyPage + 200 {
			e := provisioning.Event{At: time.Unix(int64(i), 1), Actor: "anna", Action: "site.create", Subject: "berlin"}
			if _, err := tx.Events().Append(e); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		statement string
		broken    uint64
	}{
		"detail":            {`UPDATE events SET detail = 'x' WHERE seq = 3`, 3},
		"shifted text":      {`UPDATE events SET actor = 'ann', action = 'asite.create' WHERE seq = 2`, 2},
		"time":              {`UPDATE events SET at = at + 1 WHERE seq = 5`, 5},
		"removed":           {`DELETE FROM events WHERE seq = 2`, 3},
		"removed the first": {`DELETE FROM events WHERE seq = 1`, 2},
		"forged hash":       {`UPDATE events SET hash = prev WHERE seq = 4`, 4},
		"far into the list": {`UPDATE events SET detail = 'x' WHERE seq = 1100`, 1100},
		"nothing":           {`SELECT 1`, 0},
	} {
		t.Run(what, func(t *testing.T) {
			tampered := ""
			err := s.Update(t.Context(), func(x store.Tx) error {
				inner := x.(*tx)
				if err := run(inner.ctx, inner.sql, `ALTER TABLE events DISABLE TRIGGER ALL; `+tt.statement); err != nil {
					return err
				}
				got, err := x.Events().Verify()
				if err != nil {
					return err
				}
				if got != tt.broken {
					t.Errorf("Verify found %d, want %d", got, tt.broken)
				}
				tampered = what
				return storetest.ErrRollBack
			})
			if tampered != what {
				t.Error(err)
			}
		})
	}
}
