package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestEveryDatabaseIsFresh(t *testing.T) {
	a, b := Start(t), Start(t)
	for _, url := range []string{a, b} {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), `CREATE TABLE t (a int)`); err != nil {
			t.Error(err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestServerEndsWithItsBinary runs this test binary again, with a directory of its own for temporary files, kills it while its server
// runs, and waits until the server has gone and taken its directory along.
func TestServerEndsWithItsBinary(t *testing.T) {
	const name = "PGTEST_HANG"
	if os.Getenv(name) != "" {
		Start(t)
		if _, err := os.Stdout.WriteString("running\n"); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	Start(t)                           // skips where there is none
	tmp, err := os.MkdirTemp("", "pg") //nolint:usetesting // the path of a Unix socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	// The server's user looks for its own directory in it, and removes that.
	if err := os.Chmod(tmp, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServerEndsWithItsBinary$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), name+"=1", "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 64)
	if n, err := out.Read(said); err != nil || !strings.HasPrefix(string(said[:n]), "running") {
		t.Fatalf("it said %q, %v", said[:n], err)
	}
	if found, err := filepath.Glob(filepath.Join(tmp, "pgtest*", "data", "postmaster.pid")); err != nil || len(found) != 1 {
		t.Fatalf("found the servers %v, %v, want one", found, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		left, err := os.ReadDir(tmp)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v is still there", left)
		}
	}
}
