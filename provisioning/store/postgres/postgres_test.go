package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/store/pgtest"
	"github.com/towpath/towpath/provisioning/store/storetest"
)

// quick is a rhythm for tests that wait for the listener. sweep is long, so that nothing is found by it alone.
func quick(sweep time.Duration) rhythm {
	return rhythm{sweep: sweep, least: 10 * time.Millisecond, most: 100 * time.Millisecond}
}

func openAt(t testing.TB, url string) *Store {
	t.Helper()
	return openRhythm(t, url, quick(time.Hour))
}

func openRhythm(t testing.TB, url string, r rhythm) *Store {
	t.Helper()
	s, err := open(t.Context(), url, Options{}, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// raw connects as any other program would, with nothing of ours but the schema.
func raw(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// statements runs a text of several statements.
func statements(t testing.TB, url, text string) {
	t.Helper()
	if _, err := raw(t, url).PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openAt(t, pgtest.Start(t)) })
}

// TestRevisionWithinTransaction reads the revision between two changes of one transaction: an index built there is not true behind it.
func TestRevisionWithinTransaction(t *testing.T) {
	s := openAt(t, pgtest.Start(t))
	var seen []uint64
	look := func(tx store.Tx) {
		t.Helper()
		r, err := tx.Ranges().Revision()
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, r)
	}
	if err := s.Update(t.Context(), func(tx store.Tx) error {
		look(tx)
		for _, p := range []string{"10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/16"} {
			if _, err := tx.Ranges().Create(storetest.RangeOf(provisioning.RangePool, p)); err != nil {
				return err
			}
			if p != "10.2.0.0/16" {
				look(tx)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.View(t.Context(), func(tx store.Tx) error { look(tx); look(tx); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 5 || seen[0] >= seen[1] || seen[1] >= seen[2] || seen[2] >= seen[3] || seen[3] != seen[4] {
		t.Errorf("the revisions were %v, want a rise with every change", seen)
	}
}
