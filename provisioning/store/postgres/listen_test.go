package postgres

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/pgtest"
)

func bump(t testing.TB, s *Store) uint64 {
	t.Helper()
	var g uint64
	if err := s.Update(t.Context(), func(tx store.Tx) (err error) {
		g, err = tx.Bump()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return g
}

// reaches fails the test if s does not hear of a generation within a minute.
func reaches(t testing.TB, s *Store, generation uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, err := s.Watch(ctx, generation-1); err != nil || got < generation {
		t.Fatalf("Watch(%d) = %d, %v", generation-1, got, err)
	}
}

// listening waits until n connections to the database of url listen, and returns their process ids.
func listening(t testing.TB, url string, n int) []int32 {
	t.Helper()
	db := raw(t, url)
	var pids []int32
	poll(t, "the Stores listen", func() bool {
		// Its last statement is the sweep after LISTEN.
		if err := db.QueryRow(t.Context(), `SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE datname = current_database()
			AND state = 'idle' AND wait_event = 'ClientRead' AND application_name = 'towpath' AND query = 'SELECT generation FROM network'`).
			Scan(&pids); err != nil {
			t.Fatal(err)
		}
		return len(pids) == n
	})
	return pids
}

func TestWatchAcrossReplicas(t *testing.T) {
	url := pgtest.Start(t)
	a, b := openAt(t, url), openAt(t, url)
	for range 5 {
		reaches(t, b, bump(t, a))
		reaches(t, a, bump(t, b))
	}
	// Whoever raises it, it is told.
	statements(t, url, `UPDATE towpath.network SET generation = 1000`)
	reaches(t, a, 1000)
	reaches(t, b, 1000)
}

// TestFalseNotification has somebody tell of a generation that there is not.
func TestFalseNotification(t *testing.T) {
	url := pgtest.Start(t)
	a, b := openAt(t, url), openAt(t, url)
	listening(t, url, 2)
	statements(t, url, `NOTIFY towpath, '99'; NOTIFY towpath, 'nonsense'; NOTIFY towpath`)
	g := bump(t, a)
	reaches(t, b, g)
	if got := b.watch.Generation(); got != g {
		t.Errorf("it believes in generation %d, and %d is the last", got, g)
	}
}

// TestSweepFindsLostNotification raises the generation without a notification.
func TestSweepFindsLostNotification(t *testing.T) {
	url := pgtest.Start(t)
	s := openRhythm(t, url, quick(50*time.Millisecond))
	listening(t, url, 1)
	statements(t, url, `SET session_replication_role = replica; UPDATE towpath.network SET generation = 7`)
	reaches(t, s, 7)
}

// journal collects what is logged.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(s string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), s)
}

// TestConnectionsLost cuts every connection of a Store, and keeps the server away for a while: it must come back, hear of what happened
// meanwhile, and have said so once.
func TestConnectionsLost(t *testing.T) {
	url := pgtest.Start(t)
	var j journal
	s, err := open(t.Context(), url, Options{Log: slog.New(slog.NewTextHandler(&j, nil))}, quick(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bump(t, s)
	const cut = `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
		AND application_name = 'towpath'`
	for round := range 3 {
		listening(t, url, 1)
		statements(t, url, cut)
		// The next try must work although the pool is full of dead connections.
		g := bump(t, s)
		if err := s.View(t.Context(), func(tx store.Tx) error {
			got, err := tx.Generation()
			if got != g {
				t.Errorf("round %d: generation %d after %d", round, got, g)
			}
			return err
		}); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
	listening(t, url, 1)

	var name string
	admin := raw(t, url)
	if err := admin.QueryRow(t.Context(), `SELECT current_database()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	other := raw(t, strings.Replace(url, "/"+name, "/postgres", 1))
	before := j.count("does not notify")
	if _, err := other.Exec(t.Context(), `ALTER DATABASE `+name+` ALLOW_CONNECTIONS false`); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(tx store.Tx) error { return nil })
	if err == nil || errors.Is(err, store.ErrClosed) {
		t.Errorf("Update without a database: %v", err)
	}
	if _, err := admin.Exec(t.Context(), `UPDATE towpath.network SET generation = 500`); err != nil {
		t.Fatal(err)
	}
	poll(t, "the loss is told", func() bool { return j.count("does not notify") == before+1 })
	if _, err := other.Exec(t.Context(), `ALTER DATABASE `+name+` ALLOW_CONNECTIONS true`); err != nil {
		t.Fatal(err)
	}
	reaches(t, s, 500)
	if n := j.count("does not notify"); n != before+1 {
		t.Errorf("one loss was told %d times", n-before)
	}
	if g := bump(t, s); g != 501 {
		t.Errorf("the generation is %d after 500", g)
	}
}

// TestCutInsideUpdate cuts the connection while fn runs: fn runs again, and once is what counts.
func TestCutInsideUpdate(t *testing.T) {
	url := pgtest.Start(t)
	s := openAt(t, url)
	start, runs := bump(t, s), 0
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		runs++
		if err := tx.SetSetting("k", "v"); err != nil {
			return err
		}
		if runs == 1 {
			listening(t, url, 1)
			statements(t, url, `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
				WHERE datname = current_database() AND state = 'idle in transaction' AND application_name = 'towpath'`)
		}
		_, err := tx.Bump()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if runs != 2 {
		t.Errorf("fn ran %d times", runs)
	}
	if g := s.watch.Generation(); g != start+1 {
		t.Errorf("the generation is %d after %d", g, start)
	}
}

// TestDeadlockIsTriedAgain has an Update and a raw transaction take two rows in opposite order.
func TestDeadlockIsTriedAgain(t *testing.T) {
	url := pgtest.Start(t)
	s := openAt(t, url)
	for _, k := range []string{"a", "b"} {
		if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.SetSetting(k, "") }); err != nil {
			t.Fatal(err)
		}
	}
	db := raw(t, url)
	// Of the two, the Update looks for deadlocks first, and so is the one that is given up.
	if _, err := db.Exec(t.Context(), `SET deadlock_timeout = '1h'; BEGIN; UPDATE towpath.settings SET value = 'raw' WHERE key = 'b'`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	runs := 0
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if runs++; runs == 1 {
			if err := tx.SetSetting("a", "ours"); err != nil {
				return err
			}
			go func() {
				_, err := db.Exec(t.Context(), `UPDATE towpath.settings SET value = 'raw' WHERE key = 'a'; COMMIT`)
				done <- err
			}()
			waiting(t, url, db.PgConn().PID())
		}
		return tx.SetSetting("b", "ours")
	})
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	if runs != 2 {
		t.Errorf("fn ran %d times", runs)
	}
}
