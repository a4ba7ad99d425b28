package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/towpath/towpath/provisioning/store/pgtest"
	"github.com/towpath/towpath/provisioning/store/storetest"
)

// fixture is storetest.Fixture in a database. The raw connection is in its schema.
func fixture(t *testing.T) (*Store, *pgx.Conn) {
	t.Helper()
	url := pgtest.Start(t)
	s, db := openAt(t, url), raw(t, url)
	storetest.Fixture(t, s)
	take(t, db, `SET search_path = towpath`)
	return s, db
}

// refuse runs statements that must each be refused by a rule, and checks that nothing was changed.
func refuse(t *testing.T, s *Store, db *pgx.Conn, statements map[string]string) {
	t.Helper()
	before := storetest.Dump(t, s)
	for what, statement := range statements {
		_, err := db.Exec(t.Context(), statement)
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok {
			t.Errorf("%s was taken, or the connection failed: %s: %v", what, statement, err)
		} else if !isRule(e.Code) {
			t.Errorf("%s was refused for another reason: %v", what, err)
		}
	}
	if after := storetest.Dump(t, s); after != before {
		t.Errorf("refused statements changed the data from\n%s\nto\n%s", before, after)
	}
}

// take runs statements that must be taken: where others were refused, it was not for another reason.
func take(t *testing.T, db *pgx.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := db.Exec(t.Context(), statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

const zeros = `decode(repeat('00', 32), 'hex')`

// TestRawSQLIsRefused goes around the program: whatever it believes, the database itself keeps the audit trail and the history whole, the
// generation rising and every address given once. For the plan see TestRawRangesAreRefused.
func TestRawSQLIsRefused(t *testing.T) {
	s, db := fixture(t)
	event := func(seq, prev string) string {
		return `INSERT INTO events SELECT ` + seq + `, at, actor, action, subject, detail, ` + prev + `, hash FROM events WHERE seq = 3`
	}
	node := func(id, address, former string) string {
		return `INSERT INTO nodes (id, site, kind, name, public_key, state, reason, rotate, member, origin, address, former, facts, applied,
				apply_error, conditions, queues)
			VALUES ('` + id + `', 'site_a', 'k', '', sha256('` + id + `'), '', '', '', 'null', '', ` + address + `, ` + former + `, '{}', 0, '', '[]', '[]')`
	}
	service := func(id, address string) string {
		return `INSERT INTO services (id, site, name, protocol, ae_title, receiver, mode, target, port, address)
			VALUES ('` + id + `', 'site_a', '` + id + `', '', '', '', '', '', 99, ` + address + `)`
	}
	refuse(t, s, db, map[string]string{
		"update of an event":           `UPDATE events SET detail = 'nothing to see' WHERE seq = 2`,
		"delete of an event":           `DELETE FROM events WHERE seq = 3`,
		"upsert of an event":           event("3", "prev") + ` ON CONFLICT (seq) DO UPDATE SET detail = 'x'`,
		"truncate of the events":       `TRUNCATE events`,
		"event with a gap":             event("5", "hash"),
		"event without a predecessor":  event("4", zeros),
		"event before the first":       event("0", zeros),
		"two events, out of order":     `INSERT INTO events SELECT v.s, at, actor, action, subject, detail, hash, hash FROM events, (VALUES (5), (4)) AS v(s) WHERE seq = 3`,
		"update of the history":        `UPDATE range_history SET actor = 'nobody' WHERE seq = 2`,
		"delete of the history":        `DELETE FROM range_history WHERE seq = 3`,
		"truncate of the history":      `TRUNCATE range_history`,
		"history with a gap":           copyHistory("5"),
		"history before the first":     copyHistory("0"),
		"history again":                copyHistory("3"),
		"upsert of history":            copyHistory("3") + ` ON CONFLICT (seq) DO UPDATE SET actor = ''`,
		"generation that falls":        `UPDATE network SET generation = 0`,
		"delete of the network":        `DELETE FROM network`,
		"a second network":             `INSERT INTO network VALUES (2, 9, 9)`,
		"a key that is too short":      strings.Replace(node("n", `'10.64.4.99'`, `NULL`), `sha256('n')`, `'\x01'`, 1),
		"an address with a length":     node("n", `'10.64.4.99/24'`, `NULL`),
		"a former with a length":       node("n", `'10.64.4.99'`, `'10.64.4.98/31'`),
		"its own former":               node("n", `'10.64.4.99'`, `'10.64.4.99'`),
		"no address":                   node("n", `NULL`, `NULL`),
		"an address that is taken":     node("n", `'10.64.4.1'`, `NULL`),
		"another's former":             node("n", `'10.64.4.2'`, `NULL`),
		"a service's":                  node("n", `'10.64.4.5'`, `NULL`),
		"former that is taken":         node("n", `'10.64.4.99'`, `'10.64.4.1'`),
		"former as another's":          node("n", `'10.64.4.99'`, `'10.64.4.2'`),
		"former a service's":           node("n", `'10.64.4.99'`, `'10.64.4.5'`),
		"upsert with another's former": node("node_2", `'10.64.4.99'`, `NULL`) + ` ON CONFLICT (id) DO UPDATE SET address = '10.64.4.2'`,
		"moved to another":             `UPDATE nodes SET address = '10.64.4.1' WHERE id = 'node_2'`,
		"moved to a former":            `UPDATE nodes SET address = '10.64.4.2' WHERE id = 'node_2'`,
		"moved to a service":           `UPDATE nodes SET address = '10.64.4.5' WHERE id = 'node_2'`,
		"former of another moved":      `UPDATE nodes SET former = '10.64.4.1' WHERE id = 'node_2'`,
		"former moved to a service":    `UPDATE nodes SET former = '10.64.4.5' WHERE id = 'node_2'`,
		"renamed":                      `UPDATE nodes SET id = 'node_9' WHERE id = 'node_2'`,
		"service at a service":         service("s", `'10.64.4.5'`),
		"service at a node":            service("s", `'10.64.4.1'`),
		"service at a former node":     service("s", `'10.64.4.2'`),
		"service moved to a service":   `UPDATE services SET address = '10.64.4.5' WHERE id = 'svc_b'`,
		"service moved to a node":      `UPDATE services SET address = '10.64.4.1' WHERE id = 'svc_b'`,
		"service moved to a former":    `UPDATE services SET address = '10.64.4.2' WHERE id = 'svc_b'`,
		"service on a network":         `UPDATE services SET address = '10.64.4.0/24' WHERE id = 'svc_b'`,
		"an address taken off":         `DELETE FROM addresses WHERE address = '10.64.4.1'`,
		"an address passed on":         `UPDATE addresses SET node = 'node_2' WHERE address = '10.64.4.1'`,
		"an address of nobody":         `INSERT INTO addresses (address, node) VALUES ('10.64.4.77', 'node_2')`,
		"truncate of the addresses":    `TRUNCATE addresses`,
		"truncate of the nodes":        `TRUNCATE nodes CASCADE`,
	})
	take(t, db, event("4", "hash"), copyHistory("4"), node("n", `'10.64.4.99'`, `'10.64.4.98'`), service("s", `'10.64.4.97'`),
		`UPDATE nodes SET address = former, former = address WHERE id = 'node_2'`, `UPDATE services SET address = '10.64.4.96' WHERE id = 'svc_b'`,
		`UPDATE nodes SET former = '10.64.4.95' WHERE id = 'node_1'`, `DELETE FROM nodes WHERE id = 'n'`, node("m", `'10.64.4.99'`, `'10.64.4.98'`))
}

// copyHistory appends the last entry again.
func copyHistory(seq string) string {
	return `INSERT INTO range_history SELECT ` + seq + `, at, actor, action, owner_name, range_id, kind, prefix, owner, purpose, label, maps, note, created,
		until FROM range_history WHERE seq = 3`
}

// isRule says whether a statement was refused by a constraint, a guard, a type, or because a column is not to be written.
func isRule(code string) bool {
	return strings.HasPrefix(code, "23") || code == "22P02" || code == "428C9"
}
