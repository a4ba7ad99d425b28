package sqlite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/internal/engine"
)

func TestOpenAgainKeepsEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space ?#%41.db")
	s, err := Open(t.Context(), path, Options{})
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
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(path + suffix); err == nil {
			t.Errorf("Close left %s beside the file", suffix)
		}
	}
	s = openAt(t, path)
	if g, err := s.Watch(t.Context(), 0); err != nil || g != 1 {
		t.Errorf("Watch after the restart = %d, %v, want 1 at once", g, err)
	}
	if err := s.View(t.Context(), func(tx store.Tx) error { _, err := tx.Sites().ByName("a"); return err }); err != nil {
		t.Error(err)
	}
}

func TestFilesAreForTheirOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "towpath.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path)
	if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.SetSetting("a", "b") }); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", info.Name(), info.Mode())
		}
	}
}

func TestPragmas(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "towpath.db"))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000"} {
		var got string
		if err := s.write.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, %v, want %q", pragma, got, err, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for what, tt := range map[string]struct {
		prepare func(t *testing.T, path string)
		says    string
	}{
		"a newer schema": {func(t *testing.T, path string) {
			if err := openAt(t, path).Close(); err != nil {
				t.Fatal(err)
			}
			statement(t, path, `INSERT INTO migrations VALUES (99, 'later', 0)`)
		}, "newer program"},
		"another program's database": {func(t *testing.T, path string) { statement(t, path, `CREATE TABLE t (a)`) }, "another program"},
		"a changed guard": {func(t *testing.T, path string) {
			if err := openAt(t, path).Close(); err != nil {
				t.Fatal(err)
			}
			statement(t, path, `DROP TRIGGER ranges_plan`)
		}, "ranges_plan"},
		"a blind guard": {func(t *testing.T, path string) {
			if err := openAt(t, path).Close(); err != nil {
				t.Fatal(err)
			}
			statement(t, path, `DROP VIEW pool_lengths; CREATE VIEW pool_lengths (family, bits) AS SELECT 4, 96`)
		}, "pool_lengths"},
		"a rule less": {func(t *testing.T, path string) {
			if err := openAt(t, path).Close(); err != nil {
				t.Fatal(err)
			}
			statement(t, path, `DROP INDEX ranges_once`)
		}, "ranges_once"},
		"a changed table": {func(t *testing.T, path string) {
			if err := openAt(t, path).Close(); err != nil {
				t.Fatal(err)
			}
			statement(t, path, `ALTER TABLE sites ADD COLUMN color TEXT`)
		}, "sites"},
		"an object of someone else": {func(t *testing.T, path string) {
			if err := openAt(t, path).Close(); err != nil {
				t.Fatal(err)
			}
			statement(t, path, `CREATE TRIGGER sly AFTER INSERT ON tokens BEGIN DELETE FROM tokens; END`)
		}, "sly"},
		"no database": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 500)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a database"},
		"a directory": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "regular file"},
		"no directory to be in": {func(t *testing.T, path string) {
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
		}, "no such file"},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d", "towpath.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			tt.prepare(t, path)
			s, err := Open(t.Context(), path, Options{})
			if err == nil {
				_ = s.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("%q does not say %q and the path", err, tt.says)
			}
		})
	}
}

func statement(t *testing.T, path, text string) {
	t.Helper()
	db := raw(t, path)
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMigrationIsAllOrNothing runs a step that fails half way.
func TestMigrationIsAllOrNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "towpath.db")
	s := openAt(t, path)
	steps, err := engine.Migrations(schemaFiles)
	if err != nil {
		t.Fatal(err)
	}
	steps = append(steps, engine.Migration{Version: len(steps) + 1, Name: "bad.sql", Text: `CREATE TABLE half (a INTEGER) STRICT; INSERT INTO nowhere VALUES (1)`})
	if _, err := step(t.Context(), s.write, steps, nil); err == nil || !strings.Contains(err.Error(), "bad.sql") {
		t.Errorf("got %v, want an error that names the step", err)
	}
	var n int
	if err := s.write.QueryRowContext(t.Context(), `SELECT count(*) FROM sqlite_schema WHERE name = 'half'`).Scan(&n); err != nil || n != 0 {
		t.Errorf("half of a migration stayed: %d, %v", n, err)
	}
}
