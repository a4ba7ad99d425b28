package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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
