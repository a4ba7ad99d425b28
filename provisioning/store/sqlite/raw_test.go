package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
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

// insert is the text of an INSERT of a prefix into ranges, by whichever verb.
func insert(t testing.TB, verb string, kind provisioning.RangeKind, prefix string) string {
	t.Helper()
	s, err := spanOf(netip.MustParsePrefix(prefix))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`%s INTO ranges (kind, family, bits, lo, hi, prefix_text, owner, note) VALUES ('%s', %d, %d, x'%x', x'%x', '%s', 'raw', '')`,
		verb, kind, s.family, s.bits, s.lo, s.hi, prefix)
}

// TestRawSQLIsRefused goes around the program: whatever it believes, the file itself keeps the plan free of overlaps and the audit
// trail whole.
func TestRawSQLIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "towpath.db")
	s := openAt(t, path)
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.Bump(); err != nil {
			return err
		}
		for range 3 {
			if _, err := tx.Events().Append(provisioning.Event{At: time.Unix(1, 0), Action: "a"}); err != nil {
				return err
			}
		}
		for _, r := range []provisioning.Range{
			{Kind: provisioning.RangePool, Prefix: netip.MustParsePrefix("10.64.0.0/16")},
			{Kind: provisioning.RangePool, Prefix: netip.MustParsePrefix("fd00::/48")},
			{Kind: provisioning.RangeAllocation, Prefix: netip.MustParsePrefix("10.64.4.0/24"), Owner: "site_a"},
			{Kind: provisioning.RangeReserved, Prefix: netip.MustParsePrefix("10.64.6.0/24")},
			{Kind: provisioning.RangeForeign, Prefix: netip.MustParsePrefix("10.64.128.0/17")},
			{Kind: provisioning.RangeForeign, Prefix: netip.MustParsePrefix("10.64.128.0/24")},
			{Kind: provisioning.RangeAllocation, Prefix: netip.MustParsePrefix("fd00:0:0:4::/64"), Owner: "site_a"},
		} {
			if _, err := tx.Ranges().Create(r); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	const zero, ones = "00000000000000000000ffff", "ffffffffffffffffffffffffffffffff"
	row := func(family, bits int, lo, hi string) string {
		return fmt.Sprintf(`INSERT INTO ranges (kind, family, bits, lo, hi, prefix_text, owner, note) VALUES ('foreign', %d, %d, %s, %s, '', '', '')`,
			family, bits, lo, hi)
	}
	statements := map[string]string{
		"REPLACE of a pool by its id": `INSERT OR REPLACE INTO ranges SELECT * FROM ranges WHERE id = 1`,
		"REPLACE of a pool by something else": strings.Replace(strings.Replace(insert(t, "INSERT OR REPLACE", provisioning.RangeForeign, "11.0.0.0/8"),
			"(kind", "(id, kind", 1), "VALUES (", "VALUES (1, ", 1),
		"upsert that moves a prefix":         `INSERT INTO ranges SELECT * FROM ranges WHERE id = 3 ON CONFLICT (id) DO UPDATE SET hi = x'` + ones + `'`,
		"update of hi":                       `UPDATE ranges SET hi = x'` + zero + `0a4004fe' WHERE id = 3`,
		"update of bits":                     `UPDATE ranges SET bits = 128 WHERE id = 3`,
		"update of kind":                     `UPDATE ranges SET kind = 'foreign' WHERE id = 3`,
		"update of the id":                   `UPDATE ranges SET id = 99 WHERE id = 3`,
		"update of the rowid":                `UPDATE OR REPLACE ranges SET rowid = 1 WHERE id = 3`,
		"delete of a pool in use":            `DELETE FROM ranges WHERE id = 1`,
		"delete of everything":               `DELETE FROM ranges`,
		"quarantine with an owner":           `UPDATE ranges SET until = 1 WHERE id = 3`,
		"quarantine of a pool":               `UPDATE ranges SET until = 1, owner = '' WHERE id = 1`,
		"hi before lo":                       row(4, 120, "x'"+zero+"0a000100'", "x'"+zero+"0a0000ff'"),
		"hi too high":                        row(4, 120, "x'"+zero+"0a000000'", "x'"+zero+"0a0001ff'"),
		"hi too low":                         row(4, 120, "x'"+zero+"0a000000'", "x'"+zero+"0a0000fe'"),
		"lo not aligned":                     row(4, 121, "x'"+zero+"0a000040'", "x'"+zero+"0a0000bf'"),
		"lo not aligned inside a digit":      row(4, 126, "x'"+zero+"0a000001'", "x'"+zero+"0a000004'"),
		"not a run":                          row(4, 120, "x'"+zero+"0a000000'", "x'"+zero+"0aff00ff'"),
		"IPv4 too short":                     row(4, 95, "x'"+zero+"00000000'", "x'"+zero+"ffffffff'"),
		"too long":                           row(6, 129, "x'"+ones+"'", "x'"+ones+"'"),
		"IPv6 dressed as IPv4":               row(4, 128, "x'"+ones+"'", "x'"+ones+"'"),
		"IPv4 dressed as IPv6":               row(6, 128, "x'"+zero+"0a000000'", "x'"+zero+"0a000000'"),
		"addresses as text":                  row(4, 128, "'10.0.0.1'", "'10.0.0.1'"),
		"short addresses":                    row(4, 128, "x'0a000001'", "x'0a000001'"),
		"no address":                         row(4, 128, "NULL", "NULL"),
		"another family":                     row(5, 128, "x'"+ones+"'", "x'"+ones+"'"),
		"update of an event":                 `UPDATE events SET detail = 'nothing to see' WHERE seq = 2`,
		"delete of an event":                 `DELETE FROM events WHERE seq = 3`,
		"REPLACE of an event":                `INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 2`,
		"REPLACE of the last event":          `INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 3`,
		"event with a gap":                   `INSERT INTO events SELECT 5, at, actor, action, subject, detail, hash, hash FROM events WHERE seq = 3`,
		"event without a predecessor":        `INSERT INTO events SELECT 4, at, actor, action, subject, detail, zeroblob(32), hash FROM events WHERE seq = 3`,
		"event before the first":             `INSERT INTO events SELECT 0, at, actor, action, subject, detail, zeroblob(32), hash FROM events WHERE seq = 3`,
		"generation that falls":              `UPDATE network SET generation = 0`,
		"delete of the network":              `DELETE FROM network`,
		"a second network":                   `INSERT INTO network VALUES (2, 9, 9)`,
		"a key that is too short":            `INSERT INTO nodes SELECT 'n', 's', 'k', x'01', zeroblob(16), '', '{}', 0, 0, 0, '', '[]', '[]'`,
		"pool over a pool":                   insert(t, "INSERT", provisioning.RangePool, "10.0.0.0/8"),
		"pool in a pool":                     insert(t, "INSERT", provisioning.RangePool, "10.64.9.0/24"),
		"allocation over an allocation":      insert(t, "INSERT", provisioning.RangeAllocation, "10.64.4.0/23"),
		"allocation in an allocation":        insert(t, "INSERT", provisioning.RangeAllocation, "10.64.4.77/32"),
		"same, or ignored":                   insert(t, "INSERT OR IGNORE", provisioning.RangeAllocation, "10.64.4.77/32"),
		"same, or replaced":                  insert(t, "INSERT OR REPLACE", provisioning.RangeAllocation, "10.64.4.0/24"),
		"same, or failed":                    insert(t, "INSERT OR FAIL", provisioning.RangeAllocation, "10.64.4.0/24"),
		"allocation over a reservation":      insert(t, "INSERT", provisioning.RangeAllocation, "10.64.6.0/24"),
		"reservation over an allocation":     insert(t, "INSERT", provisioning.RangeReserved, "10.64.0.0/16"),
		"allocation inside a foreign range":  insert(t, "INSERT", provisioning.RangeAllocation, "10.64.200.0/24"),
		"allocation in the nested foreign":   insert(t, "INSERT", provisioning.RangeAllocation, "10.64.128.8/29"),
		"allocation around a foreign range":  insert(t, "INSERT", provisioning.RangeAllocation, "10.64.0.0/16"),
		"foreign range over an allocation":   insert(t, "INSERT", provisioning.RangeForeign, "10.0.0.0/8"),
		"foreign range in an allocation":     insert(t, "INSERT", provisioning.RangeForeign, "10.64.4.128/25"),
		"allocation outside":                 insert(t, "INSERT", provisioning.RangeAllocation, "10.65.0.0/24"),
		"IPv6 allocation in an allocation":   insert(t, "INSERT", provisioning.RangeAllocation, "fd00:0:0:4::1/128"),
		"IPv6 foreign range over everything": insert(t, "INSERT", provisioning.RangeForeign, "::/0"),
	}
	before := dump(t, s)
	db := raw(t, path)
	for what, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		if err == nil {
			t.Errorf("%s was taken: %s", what, statement)
		} else if !strings.Contains(err.Error(), "constraint failed") && !strings.Contains(err.Error(), "cannot store") {
			t.Errorf("%s was refused for another reason: %v", what, err)
		}
	}
	if after := dump(t, s); after != before {
		t.Errorf("refused statements changed the data from\n%s\nto\n%s", before, after)
	}
	// The same way in, with something harmless: the refusals above are not for another reason.
	for _, statement := range []string{
		insert(t, "INSERT", provisioning.RangeAllocation, "10.64.5.0/24"),
		insert(t, "INSERT", provisioning.RangeForeign, "10.64.128.0/17"),
		row(4, 126, "x'"+zero+"0b000004'", "x'"+zero+"0b000007'"),
		`UPDATE ranges SET note = 'seen' WHERE id = 3`,
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
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

// TestRawWritersSideBySide lets two Stores and a raw connection write to one file: whoever comes second waits, nobody fails.
func TestRawWritersSideBySide(t *testing.T) {
	path := filepath.Join(t.TempDir(), "towpath.db")
	stores := []*Store{openAt(t, path), openAt(t, path)}
	if err := stores[0].Update(t.Context(), func(tx store.Tx) error {
		_, err := tx.Ranges().Create(provisioning.Range{Kind: provisioning.RangePool, Prefix: netip.MustParsePrefix("10.64.0.0/16")})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan int)
	const each = 40
	for w := range 6 {
		go func() {
			n := 0
			for i := range each {
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i), byte(w%3) * 64}), 26)
				err := stores[w%2].Update(t.Context(), func(tx store.Tx) error {
					_, err := tx.Ranges().Create(provisioning.Range{Kind: provisioning.RangeAllocation, Prefix: p, Owner: "x"})
					return err
				})
				switch {
				case err == nil:
					n++
				case !errors.Is(err, store.ErrOverlap):
					t.Error(err)
				}
			}
			done <- n
		}()
	}
	total := 0
	for range 6 {
		total += <-done
	}
	if total != 3*each {
		t.Errorf("%d allocations were made of %d distinct prefixes", total, 3*each)
	}
}
