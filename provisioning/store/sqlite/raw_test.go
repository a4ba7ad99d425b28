package sqlite

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/storetest"
)

// raw opens the file as any other program would, with nothing of ours but the schema in it.
func raw(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// fixture is storetest.Fixture in a file.
func fixture(t *testing.T) (*Store, *sql.DB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "towpath.db")
	s := openAt(t, path)
	storetest.Fixture(t, s)
	return s, raw(t, path)
}

// refuse runs statements that must each be refused by a rule, and checks that nothing was changed.
func refuse(t *testing.T, s *Store, db *sql.DB, statements map[string]string) {
	t.Helper()
	before := storetest.Dump(t, s)
	for what, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		if err == nil {
			t.Errorf("%s was taken: %s", what, statement)
		} else if !strings.Contains(err.Error(), "constraint failed") && !strings.Contains(err.Error(), "cannot store") {
			t.Errorf("%s was refused for another reason: %v", what, err)
		}
	}
	if after := storetest.Dump(t, s); after != before {
		t.Errorf("refused statements changed the data from\n%s\nto\n%s", before, after)
	}
}

// take runs statements that must be taken: where others were refused, it was not for another reason.
func take(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

// TestRawSQLIsRefused goes around the program: whatever it believes, the file itself keeps the audit trail and the history whole, the
// generation rising and every address given once. For the plan see TestRawRangesAreRefused.
func TestRawSQLIsRefused(t *testing.T) {
	s, db := fixture(t)
	address := func(last int) string { return fmt.Sprintf("x'00000000000000000000ffff0a4004%02x'", last) }
	node := func(verb, id, address, former string) string {
		return verb + ` INTO nodes (id, site, kind, name, public_key, state, reason, rotate, member, origin, address, address_text, former,
			former_text, facts, applied, apply_error, conditions, queues)
			VALUES ('` + id + `', 'site_a', 'k', '', randomblob(32), '', '', '', 'null', '', ` + address + `, '', ` + former + `, '', '{}', 0, '', '[]', '[]')`
	}
	service := func(verb, id, address string) string {
		return verb + ` INTO services (id, site, name, protocol, ae_title, receiver, mode, target, port, address, address_text)
			VALUES ('` + id + `', 'site_a', '` + id + `', '', '', '', '', '', 99, ` + address + `, '')`
	}
	refuse(t, s, db, map[string]string{
		"update of an event":            `UPDATE events SET detail = 'nothing to see' WHERE seq = 2`,
		"delete of an event":            `DELETE FROM events WHERE seq = 3`,
		"REPLACE of an event":           `INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 2`,
		"REPLACE of the last event":     `INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 3`,
		"event with a gap":              `INSERT INTO events SELECT 5, at, actor, action, subject, detail, hash, hash FROM events WHERE seq = 3`,
		"event without a predecessor":   `INSERT INTO events SELECT 4, at, actor, action, subject, detail, zeroblob(32), hash FROM events WHERE seq = 3`,
		"event before the first":        `INSERT INTO events SELECT 0, at, actor, action, subject, detail, zeroblob(32), hash FROM events WHERE seq = 3`,
		"update of the history":         `UPDATE range_history SET actor = 'nobody' WHERE seq = 2`,
		"delete of the history":         `DELETE FROM range_history WHERE seq = 3`,
		"delete of all history":         `DELETE FROM range_history`,
		"REPLACE of history":            `INSERT OR REPLACE INTO range_history SELECT * FROM range_history WHERE seq = 3`,
		"upsert of history":             `INSERT INTO range_history SELECT * FROM range_history WHERE seq = 3 ON CONFLICT (seq) DO UPDATE SET actor = ''`,
		"history with a gap":            strings.Replace(copyHistory, "seq + 1", "seq + 2", 1),
		"history before the first":      strings.Replace(copyHistory, "seq + 1", "0", 1),
		"history of no range":           strings.Replace(copyHistory, "lo, hi", "hi, lo", 1),
		"generation that falls":         `UPDATE network SET generation = 0`,
		"delete of the network":         `DELETE FROM network`,
		"a second network":              `INSERT INTO network VALUES (2, 9, 9)`,
		"a key that is too short":       strings.Replace(node("INSERT", "n", address(99), "NULL"), "randomblob(32)", "x'01'", 1),
		"an address that is too short":  node("INSERT", "n", "x'0a400463'", "NULL"),
		"a former that is too short":    node("INSERT", "n", address(99), "x'0a400463'"),
		"its own former":                node("INSERT", "n", address(99), address(99)),
		"no address":                    node("INSERT", "n", "NULL", "NULL"),
		"an address that is taken":      node("INSERT", "n", address(1), "NULL"),
		"another's former":              node("INSERT", "n", address(2), "NULL"),
		"a service's":                   node("INSERT", "n", address(5), "NULL"),
		"former that is taken":          node("INSERT", "n", address(99), address(1)),
		"former as another's":           node("INSERT", "n", address(99), address(2)),
		"former a service's":            node("INSERT", "n", address(99), address(5)),
		"REPLACE with another's former": node("REPLACE", "node_2", address(2), "NULL"),
		"REPLACE with a service's":      node("REPLACE", "node_2", address(5), "NULL"),
		"REPLACE, former of another":    node("REPLACE", "node_2", address(99), address(1)),
		"moved to another":              `UPDATE nodes SET address = ` + address(1) + ` WHERE id = 'node_2'`,
		"moved to a former":             `UPDATE OR REPLACE nodes SET address = ` + address(2) + ` WHERE id = 'node_2'`,
		"moved to a service":            `UPDATE OR REPLACE nodes SET address = ` + address(5) + ` WHERE id = 'node_2'`,
		"former of another moved":       `UPDATE OR REPLACE nodes SET former = ` + address(1) + ` WHERE id = 'node_2'`,
		"former moved to a service":     `UPDATE OR REPLACE nodes SET former = ` + address(5) + ` WHERE id = 'node_2'`,
		"service at a service":          service("INSERT", "s", address(5)),
		"service at a node":             service("INSERT", "s", address(1)),
		"service at a former node":      service("INSERT", "s", address(2)),
		"REPLACE of a service":          service("REPLACE", "svc_a", address(1)),
		"service moved to a service":    `UPDATE services SET address = ` + address(5) + ` WHERE id = 'svc_b'`,
		"service moved to a node":       `UPDATE OR REPLACE services SET address = ` + address(1) + ` WHERE id = 'svc_b'`,
		"service moved to a former":     `UPDATE OR REPLACE services SET address = ` + address(2) + ` WHERE id = 'svc_b'`,
		"service nowhere":               `UPDATE services SET address = x'00' WHERE id = 'svc_b'`,
	})
	take(t, db, copyHistory, node("INSERT", "n", address(99), address(98)), service("INSERT", "s", address(97)),
		`UPDATE nodes SET address = `+address(4)+`, former = `+address(3)+` WHERE id = 'node_2'`,
		`UPDATE services SET address = `+address(96)+` WHERE id = 'svc_b'`, `UPDATE nodes SET former = `+address(95)+` WHERE id = 'node_1'`)
}

// copyHistory appends the last entry again.
const copyHistory = `INSERT INTO range_history SELECT seq + 1, at, actor, action, owner_name, range_id, kind, family, bits, lo, hi, prefix_text, owner,
	purpose, label, maps, maps_text, note, created, until FROM range_history ORDER BY seq DESC LIMIT 1`

// TestTamperingShows breaks the trail with the guards taken off, as someone with the file in hand can.
func TestTamperingShows(t *testing.T) {
	intact := trailOf(t, verifyPage+200)
	for what, tt := range map[string]struct {
		statement string
		broken    uint64
	}{
		"detail":            {`UPDATE events SET detail = 'x' WHERE seq = 3`, 3},
		"actor":             {`UPDATE events SET actor = 'x' WHERE seq = 1`, 1},
		"shifted text":      {`UPDATE events SET actor = 'ann', action = 'asite.create' WHERE seq = 2`, 2},
		"time":              {`UPDATE events SET at = at + 1 WHERE seq = 5`, 5},
		"removed":           {`DELETE FROM events WHERE seq = 2`, 3},
		"removed the first": {`DELETE FROM events WHERE seq = 1`, 2},
		"swapped":           {`UPDATE events SET seq = CASE seq WHEN 2 THEN -3 WHEN 3 THEN -2 END WHERE seq IN (2, 3); UPDATE events SET seq = -seq WHERE seq < 0`, 2},
		"forged hash":       {`UPDATE events SET hash = zeroblob(32) WHERE seq = 4`, 4},
		"far into the list": {`UPDATE events SET detail = 'x' WHERE seq = 1100`, 1100},
		"nothing":           {`SELECT 1`, 0},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "towpath.db")
			if err := os.WriteFile(path, intact, 0o600); err != nil {
				t.Fatal(err)
			}
			s := openAt(t, path)
			if _, err := raw(t, path).ExecContext(t.Context(),
				`DROP TRIGGER events_stay; DROP TRIGGER events_remain; DROP TRIGGER events_chain; `+tt.statement); err != nil {
				t.Fatal(err)
			}
			if err := s.View(t.Context(), func(tx store.Tx) error {
				got, err := tx.Events().Verify()
				if got != tt.broken {
					t.Errorf("Verify found %d, want %d", got, tt.broken)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// trailOf returns the file of a database with n events.
func trailOf(t *testing.T, n int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "towpath.db")
	s := openAt(t, path)
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		for i := range n {
			e := provisioning.Event{At: time.Unix(int64(i), 1), Actor: "anna", Action: "site.create", Subject: "berlin"}
			if _, err := tx.Events().Append(e); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
