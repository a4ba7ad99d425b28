package postgres

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/pgtest"
)

// insert is the text of an INSERT of a prefix into the plan.
func insert(kind provisioning.RangeKind, prefix string) string {
	return fmt.Sprintf(`INSERT INTO towpath.ranges (kind, prefix, owner, note) VALUES ('%s', '%s', 'raw', '')`, kind, prefix)
}

func rangeOf(kind provisioning.RangeKind, prefix, owner string) provisioning.Range {
	return provisioning.Range{Kind: kind, Prefix: netip.MustParsePrefix(prefix), Owner: owner}
}

// create makes ranges in one transaction.
func create(t testing.TB, s *Store, ranges ...provisioning.Range) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		for _, r := range ranges {
			if _, err := tx.Ranges().Create(r); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestRawSQLIsRefused goes around the program: whatever it believes, the database itself keeps the plan free of overlaps and the audit
// trail whole.
func TestRawSQLIsRefused(t *testing.T) {
	url := pgtest.Start(t)
	s := openAt(t, url)
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.Bump(); err != nil {
			return err
		}
		for range 3 {
			if _, err := tx.Events().Append(provisioning.Event{At: time.Unix(1, 0), Action: "a"}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	create(t, s, rangeOf(provisioning.RangePool, "10.64.0.0/16", ""), rangeOf(provisioning.RangePool, "fd00::/48", ""),
		rangeOf(provisioning.RangeAllocation, "10.64.4.0/24", "site_a"), rangeOf(provisioning.RangeReserved, "10.64.6.0/24", ""),
		rangeOf(provisioning.RangeForeign, "10.64.128.0/17", ""), rangeOf(provisioning.RangeForeign, "10.64.128.0/24", ""),
		rangeOf(provisioning.RangeAllocation, "fd00:0:0:4::/64", "site_a"))
	pool, allocation := provisioning.RangePool, provisioning.RangeAllocation
	reserved, foreign := provisioning.RangeReserved, provisioning.RangeForeign
	set := func(s string) string { return `UPDATE towpath.ranges SET ` + s + ` WHERE id = 3` }
	forged := func(columns, values string) string {
		return `INSERT INTO towpath.ranges (kind, prefix, owner, note, ` + columns + `) VALUES ('allocation', '10.70.0.0/24', '', '', ` + values + `)`
	}
	event := func(seq, prev string) string {
		return `INSERT INTO towpath.events SELECT ` + seq + `, at, actor, action, subject, detail, ` + prev + `, hash FROM towpath.events WHERE seq = 3`
	}
	const zeros = `decode(repeat('00', 32), 'hex')`
	refusals := map[string]string{
		"upsert that moves a prefix": `INSERT INTO towpath.ranges (id, kind, prefix, owner, note) OVERRIDING SYSTEM VALUE
			VALUES (3, 'foreign', '11.0.0.0/8', '', '') ON CONFLICT (id) DO UPDATE SET prefix = '10.64.0.0/24'`,
		"update of the prefix":               set(`prefix = '10.64.5.0/24'`),
		"update of the prefix to an overlap": set(`prefix = '10.64.6.0/24'`),
		"update of kind":                     set(`kind = 'foreign'`),
		"update of the id":                   set(`id = DEFAULT`),
		"update of the side":                 set(`side = int8range(5, 6)`),
		"update of the pool":                 set(`pool_id = 2`),
		"quarantine with an owner":           set(`until = 1`),
		"quarantine of a pool":               `UPDATE towpath.ranges SET until = 1, owner = '' WHERE id = 1`,
		"delete of a pool in use":            `DELETE FROM towpath.ranges WHERE id = 1`,
		"truncate":                           `TRUNCATE towpath.ranges`,
		"truncate of everything":             `TRUNCATE towpath.network, towpath.ranges, towpath.events CASCADE`,
		"an id of choice":                    forged(`id`, `99`),
		"an id that is no place for a side":  `INSERT INTO towpath.ranges (id, kind, prefix, owner, note) OVERRIDING SYSTEM VALUE VALUES (-1, 'foreign', '11.0.0.0/8', '', '')`,
		"a side of choice":                   forged(`side`, `'[5,6)'`),
		"a pool of choice":                   forged(`pool_id, pool_prefix`, `1, '10.70.0.0/16'`),
		"host bits":                          insert(foreign, "10.0.0.1/24"),
		"too long":                           insert(foreign, "10.0.0.0/33"),
		"IPv4 dressed as IPv6":               insert(foreign, "::ffff:10.0.0.0/120"),
		"another kind":                       insert("gift", "11.0.0.0/24"),
		"no kind":                            `INSERT INTO towpath.ranges (prefix, owner, note) VALUES ('11.0.0.0/24', '', '')`,
		"no address":                         `INSERT INTO towpath.ranges (kind, owner, note) VALUES ('foreign', '', '')`,
		"update of an event":                 `UPDATE towpath.events SET detail = 'nothing to see' WHERE seq = 2`,
		"delete of an event":                 `DELETE FROM towpath.events WHERE seq = 3`,
		"upsert of an event":                 event("3", "prev") + ` ON CONFLICT (seq) DO UPDATE SET detail = 'x'`,
		"truncate of the events":             `TRUNCATE towpath.events`,
		"event with a gap":                   event("5", "hash"),
		"event without a predecessor":        event("4", zeros),
		"event before the first":             event("0", zeros),
		"two events at once, out of order":   `INSERT INTO towpath.events SELECT v.s, at, actor, action, subject, detail, hash, hash FROM towpath.events, (VALUES (5), (4)) AS v(s) WHERE seq = 3`,
		"generation that falls":              `UPDATE towpath.network SET generation = 0`,
		"delete of the network":              `DELETE FROM towpath.network`,
		"a second network":                   `INSERT INTO towpath.network VALUES (2, 9, 9)`,
		"a key that is too short":            `INSERT INTO towpath.nodes SELECT 'n', 's', 'k', '\x01', '10.0.0.1', '{}', 0, 0, 0, '', '[]', '[]'`,
		"an address with a length":           `INSERT INTO towpath.nodes SELECT 'n', 's', 'k', ` + zeros + `, '10.0.0.1/24', '{}', 0, 0, 0, '', '[]', '[]'`,
		"pool over a pool":                   insert(pool, "10.0.0.0/8"),
		"pool in a pool":                     insert(pool, "10.64.9.0/24"),
		"allocation over an allocation":      insert(allocation, "10.64.4.0/23"),
		"allocation in an allocation":        insert(allocation, "10.64.4.77/32"),
		"the same one":                       insert(allocation, "10.64.4.0/24"),
		"allocation over a reservation":      insert(allocation, "10.64.6.0/24"),
		"reservation over an allocation":     insert(reserved, "10.64.0.0/16"),
		"reservation in a reservation":       insert(reserved, "10.64.6.128/25"),
		"allocation inside a foreign range":  insert(allocation, "10.64.200.0/24"),
		"allocation in the nested foreign":   insert(allocation, "10.64.128.8/29"),
		"allocation around a foreign range":  insert(allocation, "10.64.0.0/16"),
		"foreign range over an allocation":   insert(foreign, "10.0.0.0/8"),
		"foreign range in an allocation":     insert(foreign, "10.64.4.128/25"),
		"allocation outside":                 insert(allocation, "10.65.0.0/24"),
		"allocation wider than its pool":     insert(allocation, "fd00::/47"),
		"IPv6 allocation in an allocation":   insert(allocation, "fd00:0:0:4::1/128"),
		"IPv6 foreign range over everything": insert(foreign, "::/0"),
		"an overlap within one statement":    `INSERT INTO towpath.ranges (kind, prefix, owner, note) VALUES ('allocation', '10.64.40.0/24', '', ''), ('reserved', '10.64.40.0/25', '', '')`,
		"an allocation and its pool the other way round": `INSERT INTO towpath.ranges (kind, prefix, owner, note)
			VALUES ('allocation', '10.70.0.0/24', '', ''), ('pool', '10.70.0.0/16', '', '')`,
	}
	before := dump(t, s)
	db := raw(t, url)
	for what, statement := range refusals {
		_, err := db.Exec(t.Context(), statement)
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok {
			t.Errorf("%s was taken, or the connection failed: %s: %v", what, statement, err)
		} else if !isRule(e.Code) {
			t.Errorf("%s was refused for another reason: %v", what, err)
		}
	}
	if after := dump(t, s); after != before {
		t.Errorf("refused statements changed the data from\n%s\nto\n%s", before, after)
	}
	// The same way in, with something harmless: the refusals above are not for another reason.
	for _, statement := range []string{
		insert(allocation, "10.64.5.0/24"), insert(foreign, "10.64.128.0/17"), insert(foreign, "10.64.6.0/25"), insert(reserved, "10.0.0.0/10"),
		set(`note = 'seen'`), event("4", "hash"), insert(pool, "10.70.0.0/16"),
	} {
		if _, err := db.Exec(t.Context(), statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

// isRule says whether a statement was refused by a constraint, a guard, a type, or because a column is not to be written.
func isRule(code string) bool {
	return strings.HasPrefix(code, "23") || code == "22P02" || code == "428C9"
}

// dump is the plan and the trail as text.
func dump(t testing.TB, s *Store) string {
	t.Helper()
	var b strings.Builder
	if err := s.View(t.Context(), func(tx store.Tx) error {
		rows, err := tx.Ranges().List()
		if err != nil {
			return err
		}
		events, err := tx.Events().List(0, 100)
		if err != nil {
			return err
		}
		g, err := tx.Generation()
		fmt.Fprintln(&b, rows, events, g)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestRawRaces has two raw transactions that each change the plan before either has committed, at the lowest and the highest isolation
// level: the second must wait for the first and then be refused.
func TestRawRaces(t *testing.T) {
	const pool = `INSERT INTO towpath.ranges (kind, prefix, owner, note) VALUES ('pool', '10.64.0.0/16', '', '')`
	for what, tt := range map[string]struct{ before, first, second string }{
		"two allocations":        {pool, insert("allocation", "10.64.1.0/24"), insert("allocation", "10.64.0.0/20")},
		"reserved, allocation":   {pool, insert("reserved", "10.64.1.0/24"), insert("allocation", "10.64.1.0/25")},
		"foreign, allocation":    {pool, insert("foreign", "10.64.1.0/24"), insert("allocation", "10.64.1.0/25")},
		"allocation, foreign":    {pool, insert("allocation", "10.64.1.0/24"), insert("foreign", "10.0.0.0/8")},
		"two pools":              {`SELECT 1`, insert("pool", "10.64.1.0/24"), insert("pool", "10.64.0.0/16")},
		"allocation, pool gone":  {pool, insert("allocation", "10.64.1.0/24"), `DELETE FROM towpath.ranges WHERE kind = 'pool'`},
		"pool gone, allocation":  {pool, `DELETE FROM towpath.ranges WHERE kind = 'pool'`, insert("allocation", "10.64.1.0/24")},
		"two IPv6 reservations":  {pool, insert("reserved", "fd00::/48"), insert("reserved", "fd00::1/128")},
		"two events":             {`SELECT 1`, appendEvent, appendEvent},
		"generation, generation": {`SELECT 1`, `UPDATE towpath.network SET generation = 7`, `UPDATE towpath.network SET generation = 3`},
	} {
		for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.Serializable} {
			t.Run(fmt.Sprintf("%s, %s", what, level), func(t *testing.T) {
				url := pgtest.Start(t)
				openAt(t, url)
				a, b := raw(t, url), raw(t, url)
				// The rules hold without the triggers that put writers in order.
				statements(t, url, `ALTER TABLE towpath.ranges DISABLE TRIGGER ranges_await_turn, DISABLE TRIGGER ranges_revise`)
				if _, err := a.Exec(t.Context(), tt.before); err != nil {
					t.Fatal(err)
				}
				one, err := a.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
				if err != nil {
					t.Fatal(err)
				}
				two, err := b.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
				if err != nil {
					t.Fatal(err)
				}
				// Both have their snapshot before either writes.
				for _, tx := range []pgx.Tx{one, two} {
					if _, err := tx.Exec(t.Context(), `SELECT count(*) FROM towpath.ranges`); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := one.Exec(t.Context(), tt.first); err != nil {
					t.Fatal(err)
				}
				refused := make(chan error, 1)
				go func() {
					_, err := two.Exec(t.Context(), tt.second)
					if err == nil {
						err = two.Commit(t.Context())
					}
					refused <- err
				}()
				waiting(t, url, b.PgConn().PID())
				if err := one.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				err = <-refused
				if e, ok := errors.AsType[*pgconn.PgError](err); !ok || !isRule(e.Code) && !isConflict(err) {
					t.Errorf("the second was not refused by a rule or as a conflict: %v", err)
				}
			})
		}
	}
}

const appendEvent = `INSERT INTO towpath.events VALUES (1, 0, '', '', '', '', decode(repeat('00', 32), 'hex'), decode(repeat('01', 32), 'hex'))`

// waiting returns when a server process waits for a lock.
func waiting(t testing.TB, url string, pid uint32) {
	t.Helper()
	db := raw(t, url)
	poll(t, "the second writer waits", func() bool {
		var blocked bool
		if err := db.QueryRow(t.Context(), `SELECT cardinality(pg_blocking_pids($1)) > 0`, int(pid)).Scan(&blocked); err != nil {
			t.Fatal(err)
		}
		return blocked
	})
}

// poll waits for something that another process does.
func poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// TestRawWritersSideBySide lets eight writers, half through two Stores and half around them, make the same allocations: each is made once
// and nobody fails for another reason.
func TestRawWritersSideBySide(t *testing.T) {
	url := pgtest.Start(t)
	stores := []*Store{openAt(t, url), openAt(t, url)}
	create(t, stores[0], rangeOf(provisioning.RangePool, "10.64.0.0/16", ""))
	const writers, each = 8, 40
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for w := range writers {
		conn := raw(t, url)
		wg.Go(func() {
			for i := range each {
				r := provisioning.Range{
					Kind: provisioning.RangeAllocation, Owner: "x",
					Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i), byte(w%2) * 128}), 25),
				}
				var err error
				if w < writers/2 {
					err = stores[w%2].Update(t.Context(), func(tx store.Tx) error { _, err := tx.Ranges().Create(r); return err })
				} else {
					_, err = conn.Exec(t.Context(), insert(r.Kind, r.Prefix.String()))
					err = translate(err)
				}
				switch {
				case err == nil:
					mu.Lock()
					made++
					mu.Unlock()
				case !errors.Is(err, store.ErrOverlap):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if made != 2*each {
		t.Errorf("%d allocations were made of %d distinct prefixes", made, 2*each)
	}
}
