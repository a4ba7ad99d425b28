package pgtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// role is the superuser of the cluster.
const role = "postgres"

// settings are for data that nobody will miss.
const settings = `
listen_addresses = ''
fsync = off
full_page_writes = off
max_connections = 100
autovacuum_naptime = '5s'
log_min_messages = error
`

// watchdog starts the server and waits for the end of its standard input, which is a pipe that only this process holds: it is closed when
// the process ends, by a signal too. Then it stops the server, at once and by its id, and removes the directory ($1).
const watchdog = `
"$2" -D "$1/data" -k "$1" >"$1/log" 2>&1 </dev/null &
server=$!
read -r _
kill -QUIT "$server" && wait "$server"
rm -rf "$1"
`

// cluster is a running server.
type cluster struct {
	// dir has its socket.
	dir string
	// alive is never closed, see watchdog. A pipe that nobody refers to would be.
	alive io.Closer
}

// launch makes a cluster and starts it.
func launch() (_ *cluster, err error) {
	initdb, postgres, err := programs()
	if err != nil {
		return nil, err
	}
	// Not t.TempDir: it ends with one test, and the path of a socket has room for 107 bytes.
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	as, err := owner(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	cmd := exec.Command(initdb, "-D", data, "-U", role, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
	cmd.SysProcAttr, cmd.Dir = as, dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a cluster with %s: %w\n%s", initdb, err, out)
	}
	if err := appendTo(filepath.Join(data, "postgresql.conf"), settings); err != nil {
		return nil, err
	}
	cmd = exec.Command("/bin/sh", "-c", watchdog, "pgtest", dir, postgres)
	cmd.SysProcAttr, cmd.Dir = as, dir
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := ready(dir); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		_ = stdin.Close()
		_ = cmd.Wait()
		return nil, fmt.Errorf("start %s: %w\n%s", postgres, err, log)
	}
	return &cluster{dir, stdin}, nil
}

// ready waits until the server answers.
func ready(dir string) error {
	deadline := time.Now().Add(patience)
	for {
		err := statement(context.Background(), dir, `SELECT 1`)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// programs finds initdb and postgres: on the path, or where Debian installs them, the newest version first.
func programs() (initdb, postgres string, err error) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", "", err
	}
	version := func(bin string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
		return n
	}
	slices.SortFunc(bins, func(a, b string) int { return version(b) - version(a) })
	for _, bin := range append([]string{""}, bins...) {
		// With a folder before it, a name is not searched for on the path.
		initdb, err1 := exec.LookPath(filepath.Join(bin, "initdb"))
		postgres, err2 := exec.LookPath(filepath.Join(bin, "postgres"))
		if err1 == nil && err2 == nil {
			return initdb, postgres, nil
		}
	}
	return "", "", errNotInstalled
}

// owner gives dir to the user that the server will run as: whoever runs the test, or "postgres" where that is root, which the server
// refuses.
func owner(dir string) (*syscall.SysProcAttr, error) {
	// Apart from the terminal's process group: an interrupt ends the test, and that ends the server.
	as := &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() != 0 {
		return as, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return as, os.Chown(dir, int(uid), int(gid))
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
