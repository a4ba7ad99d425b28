package postgres

import (
	"fmt"
	"testing"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/storetest"
)

// insert is the text of an INSERT of a Range into the plan, which asks nothing of the Range.
func insert(r provisioning.Range) string {
	label, maps, until := "NULL", "NULL", "NULL"
	if r.Label != "" {
		label = "'" + r.Label + "'"
	}
	if r.Maps.IsValid() {
		maps = "'" + r.Maps.String() + "'"
	}
	if !r.Until.IsZero() {
		until = fmt.Sprint(r.Until.UnixNano())
	}
	return fmt.Sprintf(`INSERT INTO towpath.ranges (kind, prefix, owner, purpose, label, maps, note, until)
		VALUES ('%s', '%v', '%s', '%s', %s, %s, '', %s)`, r.Kind, r.Prefix, r.Owner, r.Purpose, label, maps, until)
}

func insertOf(kind provisioning.RangeKind, prefix string) string {
	return insert(storetest.RangeOf(kind, prefix))
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

// TestRawRangesAreRefused goes around the program: whatever it believes, the database itself keeps the plan free of overlaps.
func TestRawRangesAreRefused(t *testing.T) {
	s, db := fixture(t)
	inserts := func(ranges map[string]provisioning.Range) map[string]string {
		out := map[string]string{}
		for what, r := range ranges {
			out[what] = insert(r)
		}
		return out
	}
	for what, statements := range map[string]map[string]string{
		"overlaps": inserts(storetest.Overlaps()), "bad ranges": inserts(storetest.BadRanges()), "rows": badRows(), "changes": changes(),
		"removals": {
			"delete of a pool in use":                   `DELETE FROM ranges WHERE id = 1`,
			"delete of a pool in use, its part as well": `DELETE FROM ranges WHERE id IN (1, 8, 14)`,
			"delete of both pools around":               `DELETE FROM ranges WHERE id IN (15, 16)`,
			"delete of the pools":                       `DELETE FROM ranges WHERE kind = 'pool'`,
			"truncate":                                  `TRUNCATE ranges`,
			"truncate of everything":                    `TRUNCATE network, ranges, events CASCADE`,
		},
	} {
		t.Run(what, func(t *testing.T) { refuse(t, s, db, statements) })
	}
	for _, r := range storetest.Harmless() {
		take(t, db, insert(r))
	}
	take(t, db, `UPDATE ranges SET note = 'seen' WHERE id = 3`, `UPDATE ranges SET label = 'mitte', until = 7 WHERE id = 3`,
		`UPDATE ranges SET owner = '', label = NULL, until = 8 WHERE id IN (3, 4)`, `DELETE FROM ranges WHERE id = 15`,
		`DELETE FROM ranges WHERE kind = 'pool' AND prefix = '10.0.0.0/8'`, `DELETE FROM ranges WHERE id = 17`, `DELETE FROM ranges WHERE id = 16`,
		`DELETE FROM ranges WHERE kind IN ('pool', 'allocation') AND family(prefix) = 6`)
	storetest.Sound(t, listRanges(t, s))
	take(t, db, `DELETE FROM ranges`)
}

// badRows are wrong in a way that no Range can be.
func badRows() map[string]string {
	forged := func(columns, values string) string {
		return `INSERT INTO ranges (kind, prefix, owner, purpose, note, ` + columns + `) VALUES ('allocation', '10.70.0.0/24', '', 'overlay', '', ` + values + `)`
	}
	foreign := func(prefix string) string {
		return `INSERT INTO ranges (kind, prefix, owner, purpose, note) VALUES ('foreign', ` + prefix + `, '', '', '')`
	}
	mapped := func(maps string) string {
		return `INSERT INTO ranges (kind, prefix, owner, purpose, note, maps) VALUES ('allocation', '10.64.10.0/24', 'x', 'mapped', '', ` + maps + `)`
	}
	return map[string]string{
		"an id of choice":                   forged(`id`, `99`),
		"an id that is no place for a side": `INSERT INTO ranges (id, kind, prefix, owner, purpose, note) OVERRIDING SYSTEM VALUE VALUES (-1, 'foreign', '11.0.0.0/8', '', '', '')`,
		"a side of choice":                  forged(`side`, `'[5,6)'`),
		"a depth of choice":                 forged(`depth`, `'[5,6)'`),
		"a pool of choice":                  forged(`pool_id, pool_prefix`, `1, '10.70.0.0/16'`),
		"an empty label":                    forged(`label`, `''`),
		"host bits":                         foreign(`'10.0.0.1/24'`),
		"too long":                          foreign(`'10.0.0.0/33'`),
		"IPv4 dressed as IPv6":              foreign(`'::ffff:10.0.0.0/120'`),
		"no address":                        foreign(`NULL`),
		"no kind":                           `INSERT INTO ranges (prefix, owner, purpose, note) VALUES ('11.0.0.0/24', '', '', '')`,
		"mapped to another length":          mapped(`'192.168.1.0/25'`),
		"mapped to another family":          mapped(`'fd00::/24'`),
		"mapped to host bits":               mapped(`'192.168.1.1/24'`),
		"an overlap within one statement": `INSERT INTO ranges (kind, prefix, owner, purpose, note)
			VALUES ('allocation', '10.64.40.0/24', '', 'overlay', ''), ('reserved', '10.64.40.0/25', '', '', '')`,
		"an allocation and its pool the other way round": `INSERT INTO ranges (kind, prefix, owner, purpose, note)
			VALUES ('allocation', '10.70.0.0/24', '', 'overlay', ''), ('pool', '10.70.0.0/16', '', '', '')`,
	}
}

func changes() map[string]string {
	set := func(id int, text string) string { return fmt.Sprintf(`UPDATE ranges SET %s WHERE id = %d`, text, id) }
	return map[string]string{
		"upsert that moves a prefix": `INSERT INTO ranges (id, kind, prefix, owner, purpose, note) OVERRIDING SYSTEM VALUE
			VALUES (3, 'foreign', '11.0.0.0/8', '', '', '') ON CONFLICT (id) DO UPDATE SET prefix = '10.64.0.0/24'`,
		"upsert by the label": `INSERT INTO ranges (kind, prefix, owner, purpose, note, label) VALUES ('reserved', '11.0.0.0/8', '', '', '', 'north')
			ON CONFLICT (label) DO UPDATE SET prefix = '11.0.0.0/8'`,
		"update of the prefix":               set(3, `prefix = '10.64.5.0/24'`),
		"update of the prefix to an overlap": set(3, `prefix = '10.64.6.0/24'`),
		"update of kind":                     set(3, `kind = 'reserved', purpose = '', pool_id = NULL, pool_prefix = NULL`),
		"update of the id":                   set(3, `id = DEFAULT`),
		"update of the side":                 set(3, `side = int8range(5, 6)`),
		"update of the depth":                set(3, `depth = int4range(5, 6)`),
		"update of the pool's id":            set(3, `pool_id = 2`),
		"update of the pool's prefix":        set(3, `pool_prefix = '10.64.0.0/15'`),
		"another pool":                       set(3, `pool_id = 15, pool_prefix = '10.72.0.0/16'`),
		"no pool":                            set(3, `pool_id = NULL, pool_prefix = NULL`),
		"a pool for a reservation":           set(4, `pool_id = 1, pool_prefix = '10.64.0.0/16'`),
		"update of the purpose":              set(3, `purpose = 'services'`),
		"update of what it stands for":       set(11, `maps = '192.168.1.0/24'`),
		"given to another":                   set(3, `owner = 'site_b'`),
		"given out of quarantine":            set(12, `owner = 'site_b'`),
		"LAN of another":                     set(9, `owner = 'site_b'`),
		"LAN of nobody":                      set(9, `owner = ''`),
		"a pool that ends":                   set(1, `until = 1`),
		"a LAN that ends":                    set(9, `until = 1`),
		"a foreign range that ends":          set(5, `until = 1`),
		"a reservation with owner and end":   set(18, `until = 1`),
		"label that is taken":                set(4, `label = 'north'`),
		"one label for all":                  `UPDATE ranges SET label = 'all' WHERE kind = 'pool'`,
		"no label but an empty one":          set(4, `label = ''`),
		"label of a LAN":                     set(9, `label = 'x'`),
	}
}
