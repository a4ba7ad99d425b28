package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// errNotInstalled means that this machine has no PostgreSQL.
var errNotInstalled = errors.New("PostgreSQL is not installed")

// patience is how long anything may take on a machine that has much else to do.
const patience = time.Minute

// running starts the cluster of this test binary once. It outlives the test that started it and ends with the process, see watchdog.
var running = sync.OnceValues(launch)

// databases numbers the databases of the cluster.
var databases atomic.Int64

// Start returns the URL of an empty database, which is dropped when the test ends, whoever is still connected. The role is a superuser.
// Where PostgreSQL is not installed, the test is skipped.
func Start(t testing.TB) string {
	t.Helper()
	c, err := running()
	if errors.Is(err, errNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test%d", databases.Add(1))
	if err := statement(t.Context(), c.dir, `CREATE DATABASE `+name+` TEMPLATE template0`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := statement(context.WithoutCancel(t.Context()), c.dir, `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	return address(c.dir, name)
}

// address is the URL of a database of the cluster in dir.
func address(dir, database string) string {
	u := url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: url.Values{"host": {dir}, "user": {role}}.Encode()}
	return u.String()
}

// statement runs one in the database "postgres".
func statement(ctx context.Context, dir, text string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, address(dir, "postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, text)
	return errors.Join(err, conn.Close(ctx))
}
