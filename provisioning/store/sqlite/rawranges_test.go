package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/storetest"
)

// insert is the text of an INSERT of a Range, by whichever verb, which asks nothing of the Range.
func insert(verb string, r provisioning.Range) string {
	s := spanOf(r.Prefix)
	label, maps, until := "NULL", "NULL", "NULL"
	if r.Label != "" {
		label = "'" + r.Label + "'"
	}
	if r.Maps.IsValid() {
		maps = fmt.Sprintf("x'%x'", spanOf(r.Maps).lo)
	}
	if !r.Until.IsZero() {
		until = fmt.Sprint(r.Until.UnixNano())
	}
	return fmt.Sprintf(`%s INTO ranges (kind, family, bits, lo, hi, prefix_text, owner, purpose, label, maps, maps_text, note, until)
		VALUES ('%s', %d, %d, x'%x', x'%x', '%v', '%s', '%s', %s, %s, '', '', %s)`,
		verb, r.Kind, s.family, s.bits, s.lo, s.hi, r.Prefix, r.Owner, r.Purpose, label, maps, until)
}

func plain(kind provisioning.RangeKind, prefix string) string {
	return insert("INSERT", storetest.RangeOf(kind, prefix))
}

// TestRawRangesAreRefused goes around the program: whatever it believes, the file itself keeps the plan free of overlaps.
func TestRawRangesAreRefused(t *testing.T) {
	s, db := fixture(t)
	for _, verb := range []string{"INSERT", "REPLACE", "INSERT OR IGNORE", "INSERT OR FAIL"} {
		statements := map[string]string{}
		for what, r := range storetest.Overlaps() {
			statements[what] = insert(verb, r)
		}
		t.Run(verb, func(t *testing.T) { refuse(t, s, db, statements) })
	}
	t.Run("rows", func(t *testing.T) { refuse(t, s, db, badRows()) })
	t.Run("changes", func(t *testing.T) { refuse(t, s, db, changes()) })
	t.Run("removals", func(t *testing.T) {
		refuse(t, s, db, map[string]string{
			"delete of a pool in use":                   `DELETE FROM ranges WHERE id = 1`,
			"delete of a pool in use, its part as well": `DELETE FROM ranges WHERE id IN (1, 8, 14)`,
			"delete of both pools around":               `DELETE FROM ranges WHERE id IN (15, 16)`,
			"delete of the pools":                       `DELETE FROM ranges WHERE kind = 'pool'`,
			"delete of everything":                      `DELETE FROM ranges`,
		})
	})
	for _, r := range storetest.Harmless() {
		take(t, db, insert("REPLACE", r))
	}
	take(t, db, row(4, 126, "x'"+zero+"0b000004'", "x'"+zero+"0b000007'"),
		`UPDATE ranges SET note = 'seen' WHERE id = 3`, `UPDATE ranges SET label = 'mitte', until = 7 WHERE id = 3`,
		`UPDATE ranges SET owner = '', label = NULL, until = 8 WHERE id IN (3, 4)`, `DELETE FROM ranges WHERE id = 15`,
		`DELETE FROM ranges WHERE kind = 'pool' AND prefix_text = '10.0.0.0/8'`, `DELETE FROM ranges WHERE id = 17`, `DELETE FROM ranges WHERE id = 16`)
	storetest.Sound(t, listRanges(t, s))
}

const zero, ones = "00000000000000000000ffff", "ffffffffffffffffffffffffffffffff"

func row(family, bits int, lo, hi string) string {
	return fmt.Sprintf(`INSERT INTO ranges (kind, family, bits, lo, hi, prefix_text, owner, purpose, maps_text, note)
		VALUES ('foreign', %d, %d, %s, %s, '', '', '', '', '')`, family, bits, lo, hi)
}

// badRows are wrong in themselves.
func badRows() map[string]string {
	maps := func(blob string) string {
		return strings.Replace(insert("INSERT", storetest.MappedRange()), "x'"+zero+"c0a8b200'", blob, 1)
	}
	out := map[string]string{
		"hi before lo":                  row(4, 120, "x'"+zero+"0a000100'", "x'"+zero+"0a0000ff'"),
		"hi too high":                   row(4, 120, "x'"+zero+"0a000000'", "x'"+zero+"0a0001ff'"),
		"hi too low":                    row(4, 120, "x'"+zero+"0a000000'", "x'"+zero+"0a0000fe'"),
		"lo not aligned":                row(4, 121, "x'"+zero+"0a000040'", "x'"+zero+"0a0000bf'"),
		"lo not aligned inside a digit": row(4, 126, "x'"+zero+"0a000001'", "x'"+zero+"0a000004'"),
		"not a run":                     row(4, 120, "x'"+zero+"0a000000'", "x'"+zero+"0aff00ff'"),
		"IPv4 too short":                row(4, 95, "x'"+zero+"00000000'", "x'"+zero+"ffffffff'"),
		"too long":                      row(6, 129, "x'"+ones+"'", "x'"+ones+"'"),
		"IPv6 dressed as IPv4":          row(4, 128, "x'"+ones+"'", "x'"+ones+"'"),
		"IPv4 dressed as IPv6":          row(6, 128, "x'"+zero+"0a000000'", "x'"+zero+"0a000000'"),
		"addresses as text":             row(4, 128, "'10.0.0.1'", "'10.0.0.1'"),
		"short addresses":               row(4, 128, "x'0a000001'", "x'0a000001'"),
		"no address":                    row(4, 128, "NULL", "NULL"),
		"another family":                row(5, 128, "x'"+ones+"'", "x'"+ones+"'"),
		"an empty label":                strings.Replace(plain("reserved", "10.64.10.0/24"), "NULL", "''", 1),
		"mapped to IPv6":                maps("x'" + ones[:30] + "00'"),
		"mapped to half a digit":        maps("x'" + zero + "c0a8b220'"),
		"mapped to host bits":           maps("x'" + zero + "c0a8b201'"),
		"mapped to a short address":     maps("x'c0a8b200'"),
	}
	for what, r := range storetest.BadRanges() {
		out[what] = insert("INSERT", r)
	}
	return out
}

func changes() map[string]string {
	set := func(id int, text string) string { return fmt.Sprintf(`UPDATE ranges SET %s WHERE id = %d`, text, id) }
	return map[string]string{
		"REPLACE of a pool by its id": `INSERT OR REPLACE INTO ranges SELECT * FROM ranges WHERE id = 1`,
		"REPLACE of a pool by something else": strings.Replace(strings.Replace(insert("REPLACE", storetest.RangeOf("foreign", "11.0.0.0/8")),
			"(kind", "(id, kind", 1), "VALUES (", "VALUES (1, ", 1),
		"UPDATE OR REPLACE by its label":   `UPDATE OR REPLACE ranges SET label = 'north' WHERE id = 4`,
		"label that is taken":              set(4, "label = 'north'"),
		"one label for all":                `UPDATE ranges SET label = 'all' WHERE kind = 'pool'`,
		"no label but an empty one":        set(4, "label = ''"),
		"label of a LAN":                   set(9, "label = 'x'"),
		"upsert that moves a prefix":       `INSERT INTO ranges SELECT * FROM ranges WHERE id = 3 ON CONFLICT (id) DO UPDATE SET hi = x'` + ones + `'`,
		"update of hi":                     set(3, `hi = x'`+zero+`0a4004fe'`),
		"update of bits":                   set(3, "bits = 128"),
		"update of kind":                   set(3, "kind = 'reserved', purpose = ''"),
		"update of the id":                 set(3, "id = 99"),
		"update of the rowid":              `UPDATE OR REPLACE ranges SET rowid = 1 WHERE id = 3`,
		"update of the purpose":            set(3, "purpose = 'services'"),
		"update of what it stands for":     set(11, `maps = x'`+zero+`c0a8b300'`),
		"given to another":                 set(3, "owner = 'site_b'"),
		"given out of quarantine":          set(12, "owner = 'site_b'"),
		"LAN of another":                   `UPDATE OR REPLACE ranges SET owner = 'site_b' WHERE id = 9`,
		"LAN of nobody":                    set(9, "owner = ''"),
		"a pool that ends":                 set(1, "until = 1"),
		"a LAN that ends":                  set(9, "until = 1"),
		"a foreign range that ends":        set(5, "until = 1"),
		"a reservation with owner and end": set(18, "until = 1"),
	}
}

func listRanges(t testing.TB, s *Store) (out []provisioning.Range) {
	t.Helper()
	if err := s.View(t.Context(), func(tx store.Tx) (err error) {
		out, err = tx.Ranges().List()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRawWritersSideBySide lets two Stores write to one file: whoever comes second waits, nobody fails.
func TestRawWritersSideBySide(t *testing.T) {
	path := filepath.Join(t.TempDir(), "towpath.db")
	stores := []*Store{openAt(t, path), openAt(t, path)}
	take(t, raw(t, path), plain("pool", "10.64.0.0/16"))
	done := make(chan int)
	const each = 20
	for w := range 6 {
		go func() {
			n := 0
			for i := range each {
				r := storetest.RangeOf("allocation", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i), byte(w%3) * 64}), 26).String())
				err := stores[w%2].Update(t.Context(), func(tx store.Tx) error { _, err := tx.Ranges().Create(r); return err })
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

// TestRawWritersAtRandom lets eight connections without any of our code insert, replace, change and delete at random.
func TestRawWritersAtRandom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "towpath.db")
	s := openAt(t, path)
	take(t, raw(t, path), plain("pool", "10.64.0.0/17"))
	const writers, each = 8, 50
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken, refused := 0, 0
	for w := range writers {
		db := raw(t, path+"?_pragma=busy_timeout(20000)")
		wg.Go(func() {
			random := rand.New(rand.NewPCG(3, uint64(w)))
			for range each {
				err := disturb(t, db, random)
				if err != nil && !strings.Contains(err.Error(), "constraint failed") {
					t.Error(err)
				}
				mu.Lock()
				if err == nil {
					taken++
				} else {
					refused++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	rows := listRanges(t, s)
	storetest.Sound(t, rows)
	t.Logf("%d statements were taken, %d refused, %d ranges left", taken, refused, len(rows))
	if taken < writers*each/10 || refused < writers*each/10 || len(rows) < 10 {
		t.Error("too little was taken or refused")
	}
}

// disturb runs one random statement. Ids are guessed.
func disturb(t *testing.T, db *sql.DB, random *rand.Rand) error {
	id := 1 + random.IntN(100)
	verb := []string{"INSERT", "INSERT", "REPLACE", "INSERT OR IGNORE"}[random.IntN(4)]
	statement := insert(verb, storetest.RandomRange(random))
	switch random.IntN(12) {
	case 0, 1:
		statement = fmt.Sprintf(`DELETE FROM ranges WHERE id = %d`, id)
	case 2:
		statement = fmt.Sprintf(`DELETE FROM ranges WHERE id BETWEEN %d AND %d`, id, id+3)
	case 3:
		statement = fmt.Sprintf(`UPDATE OR REPLACE ranges SET owner = '', label = 'north', until = 1 WHERE id = %d`, id)
	case 4:
		statement = fmt.Sprintf(`UPDATE ranges SET until = 1 WHERE id BETWEEN %d AND %d`, id, id+3)
	}
	_, err := db.ExecContext(t.Context(), statement)
	return err
}
