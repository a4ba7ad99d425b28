package postgres

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/pgtest"
	"github.com/towpath/towpath/provisioning/store/storetest"
)

// races are changes of which the second must be refused because of the first.
func races() map[string]struct{ before, first, second string } {
	const (
		wide        = "10.64.0.0/16"
		nothing     = `SELECT 1`
		noPool      = `DELETE FROM towpath.ranges WHERE kind = 'pool'`
		site        = `INSERT INTO towpath.sites VALUES ('site_a', 'a', '', '', '', 0)`
		appendEvent = `INSERT INTO towpath.events VALUES (1, 0, '', '', '', '', ` + zeros + `, ` + zeros + `)`
		appendPast  = `INSERT INTO towpath.range_history (seq, at, actor, action, owner_name, range_id, kind, prefix, owner, purpose, note)
			VALUES (1, 0, '', '', '', 1, '', '10.0.0.0/8', '', '', '')`
	)
	pool, none := insertOf("pool", wide), func(prefix string) string {
		return `DELETE FROM towpath.ranges WHERE kind = 'pool' AND prefix = '` + prefix + `'`
	}
	nested := insertOf("pool", "10.64.0.0/20") + `; ` + insertOf("allocation", "10.64.1.0/24") + `; ` + pool
	labeled := func(prefix string) string {
		r := storetest.RangeOf("reserved", prefix)
		r.Label = "north"
		return insert(r)
	}
	node := func(id, address, former string) string {
		return `INSERT INTO towpath.nodes (id, site, kind, name, public_key, state, reason, rotate, member, origin, address, former, facts, applied,
				apply_error, conditions, queues)
			VALUES ('` + id + `', 'site_a', 'k', '', sha256('` + id + `'), '', '', '', 'null', '', '` + address + `', '` + former + `', '{}', 0, '', '[]', '[]')`
	}
	const service = `INSERT INTO towpath.services (id, site, name, protocol, ae_title, receiver, mode, target, port, address)
		VALUES ('s', 'site_a', 's', '', '', '', '', '', 99, '10.0.0.1')`
	return map[string]struct{ before, first, second string }{
		"two allocations":            {pool, insertOf("allocation", "10.64.1.0/24"), insertOf("allocation", "10.64.0.0/20")},
		"reserved, allocation":       {pool, insertOf("reserved", "10.64.1.0/24"), insertOf("allocation", "10.64.1.0/25")},
		"foreign, allocation":        {pool, insertOf("foreign", "10.64.1.0/24"), insertOf("allocation", "10.64.1.0/25")},
		"allocation, foreign":        {pool, insertOf("allocation", "10.64.1.0/24"), insertOf("foreign", "10.0.0.0/8")},
		"two equal pools":            {nothing, pool, pool},
		"pool, allocation around":    {pool, insertOf("pool", "10.64.1.0/24"), insertOf("allocation", "10.64.0.0/20")},
		"allocation, pool inside":    {pool, insertOf("allocation", "10.64.0.0/20"), insertOf("pool", "10.64.1.0/24")},
		"pool, LAN around":           {nothing, pool, insertOf("lan", "10.0.0.0/8")},
		"LAN, pool around":           {nothing, insertOf("lan", "10.64.1.0/24"), pool},
		"pool, reported inside":      {nothing, pool, insertOf("reported", "10.64.1.0/24")},
		"reported, pool inside":      {nothing, insertOf("reported", "10.64.0.0/15"), pool},
		"a LAN twice":                {nothing, insertOf("lan", wide), insertOf("lan", wide)},
		"a label twice":              {nothing, labeled("10.1.0.0/16"), labeled("10.2.0.0/16")},
		"allocation, pool gone":      {pool, insertOf("allocation", "10.64.1.0/24"), noPool},
		"pool gone, allocation":      {pool, noPool, insertOf("allocation", "10.64.1.0/24")},
		"narrow gone, wide gone":     {nested, none("10.64.0.0/20"), none(wide)},
		"wide gone, narrow gone":     {nested, none(wide), none("10.64.0.0/20")},
		"two IPv6 reservations":      {pool, insertOf("reserved", "fd00::/48"), insertOf("reserved", "fd00::1/128")},
		"two events":                 {nothing, appendEvent, appendEvent},
		"two entries of the history": {nothing, appendPast, appendPast},
		"generation, generation":     {nothing, `UPDATE towpath.network SET generation = 7`, `UPDATE towpath.network SET generation = 3`},
		"address, former":            {site, node("a", "10.0.0.1", "10.0.0.2"), node("b", "10.0.0.3", "10.0.0.1")},
		"former, address":            {site, node("a", "10.0.0.2", "10.0.0.1"), node("b", "10.0.0.1", "10.0.0.3")},
		"node, service":              {site, node("a", "10.0.0.2", "10.0.0.1"), service},
		"service, node":              {site, service, node("a", "10.0.0.1", "10.0.0.2")},
	}
}

// TestRawRaces has two raw transactions that each make a change before either has committed, at every isolation level: the second must
// wait for the first and then be refused.
func TestRawRaces(t *testing.T) {
	url := pgtest.Start(t)
	openAt(t, url)
	// The rules hold without the triggers that put writers in order.
	statements(t, url, `ALTER TABLE towpath.ranges DISABLE TRIGGER ranges_await_turn, DISABLE TRIGGER ranges_revise`)
	for what, tt := range races() {
		for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
			t.Run(fmt.Sprintf("%s, %s", what, level), func(t *testing.T) {
				empty(t, url)
				statements(t, url, tt.before)
				race(t, url, level, tt.first, tt.second)
			})
		}
	}
}

// empty takes everything out of a database, rules or not.
func empty(t *testing.T, url string) {
	t.Helper()
	statements(t, url, `SET session_replication_role = replica; SET search_path = towpath; DELETE FROM ranges; DELETE FROM range_history;
		DELETE FROM events; DELETE FROM addresses; DELETE FROM nodes; DELETE FROM services; DELETE FROM sites; UPDATE network SET generation = 0`)
}

// race fails the test unless the second waits for the first and is refused when that commits.
func race(t *testing.T, url string, level pgx.TxIsoLevel, first, second string) {
	t.Helper()
	a, b := raw(t, url), raw(t, url)
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
	if _, err := one.Exec(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 1)
	go func() {
		_, err := two.Exec(t.Context(), second)
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
}

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
	statements(t, url, insertOf("pool", "10.64.0.0/16"))
	const writers, each = 8, 40
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for w := range writers {
		conn := raw(t, url)
		wg.Go(func() {
			for i := range each {
				r := storetest.RangeOf("allocation", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i), byte(w%2) * 128}), 25).String())
				var err error
				if w < writers/2 {
					err = stores[w%2].Update(t.Context(), func(tx store.Tx) error { _, err := tx.Ranges().Create(r); return err })
				} else {
					_, err = conn.Exec(t.Context(), insert(r))
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

// TestRawWritersAtRandom lets eight connections without any of our code insert, change and delete at random.
func TestRawWritersAtRandom(t *testing.T) {
	url := pgtest.Start(t)
	s := openAt(t, url)
	statements(t, url, insertOf("pool", "10.64.0.0/17"))
	const writers, each = 8, 50
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken, refused := 0, 0
	for w := range writers {
		conn := raw(t, url)
		wg.Go(func() {
			random := rand.New(rand.NewPCG(3, uint64(w)))
			for range each {
				_, err := conn.Exec(t.Context(), anyStatement(random))
				if e, ok := errors.AsType[*pgconn.PgError](err); err != nil && (!ok || !isRule(e.Code) && !isConflict(err)) {
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

// anyStatement is one random change. Ids are guessed.
func anyStatement(random *rand.Rand) string {
	id := 1 + random.IntN(100)
	switch random.IntN(12) {
	case 0, 1:
		return fmt.Sprintf(`DELETE FROM towpath.ranges WHERE id = %d`, id)
	case 2:
		return fmt.Sprintf(`DELETE FROM towpath.ranges WHERE id BETWEEN %d AND %d`, id, id+3)
	case 3:
		return fmt.Sprintf(`UPDATE towpath.ranges SET owner = '', label = 'north', until = 1 WHERE id = %d`, id)
	case 4:
		return fmt.Sprintf(`UPDATE towpath.ranges SET until = 1 WHERE id BETWEEN %d AND %d`, id, id+3)
	}
	return insert(storetest.RandomRange(random))
}
