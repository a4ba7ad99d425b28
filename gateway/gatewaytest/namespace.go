//go:build lab

package gatewaytest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// prefix begins the name of every namespace of every run, followed by the process id of the run.
const prefix = "tp-"

const (
	namespaces = "/run/netns"
	perNSFiles = "/etc/netns" // "ip netns exec" puts the files of NAME there over /etc
)

// Namespace is a network namespace made by this run.
type Namespace struct {
	name string
	dir  string // for logs
}

// NewNamespace makes a namespace with loopback up. It ends with the test, and everything in it.
func NewNamespace(t testing.TB, role, logs string) Namespace {
	t.Helper()
	n := Namespace{prefix + strconv.Itoa(os.Getpid()) + "-" + role, logs}
	mustRun(t, "ip", "netns", "add", n.name)
	t.Cleanup(func() { removeNamespace(n.name) })
	n.IP(t, "link", "set", "lo", "up")
	for _, setting := range []string{"net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6"} {
		n.Sysctl(t, setting, "1")
	}
	// Programs that look up the names of their peers must fail at once, and inside the lab.
	etc := filepath.Join(perNSFiles, n.name)
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "resolv.conf"), []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return n
}

// Sweep removes the namespaces of runs that are dead, with the processes left in them.
func Sweep(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir(namespaces)
	if err != nil {
		return // none was ever made
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), prefix)
		id, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(id)
		if !ours || err != nil || pid == os.Getpid() || syscall.Kill(pid, 0) == nil {
			continue
		}
		t.Logf("removing %s, left by a dead run", e.Name())
		removeNamespace(e.Name())
	}
}

// removeNamespace ends what still runs in a namespace of ours and removes it.
func removeNamespace(name string) {
	if out, err := exec.Command("ip", "netns", "pids", name).Output(); err == nil {
		for f := range strings.FieldsSeq(string(out)) {
			if pid, err := strconv.Atoi(f); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	_ = exec.Command("ip", "netns", "del", name).Run()
	_ = os.RemoveAll(filepath.Join(perNSFiles, name))
}

// Path is the namespace's file.
func (n Namespace) Path() string { return filepath.Join(namespaces, n.name) }

// IP runs the ip program on the namespace.
func (n Namespace) IP(t testing.TB, args ...string) {
	t.Helper()
	mustRun(t, "ip", append([]string{"-n", n.name}, args...)...)
}

// Sysctl writes a kernel setting of the namespace, named as below /proc/sys.
func (n Namespace) Sysctl(t testing.TB, name, value string) {
	t.Helper()
	err := n.enter(func() error { return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644) })
	if err != nil {
		t.Fatalf("set %s in %s: %v", name, n.name, err)
	}
}

// Listen opens a TCP listener in the namespace.
func (n Namespace) Listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var l net.Listener
	err := n.enter(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatalf("listen in %s: %v", n.name, err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Dial connects from the namespace.
func (n Namespace) Dial(ctx context.Context, address string) (net.Conn, error) {
	var c net.Conn
	err := n.enter(func() (err error) {
		d := net.Dialer{FallbackDelay: -1} // a second attempt would run on another thread, outside
		c, err = d.DialContext(ctx, "tcp4", address)
		return err
	})
	return c, err
}

// enter runs f on a thread that is in the namespace. What f opens stays there; f must not start goroutines.
func (n Namespace) enter(f func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so that no other one inherits the namespace.
		runtime.LockOSThread()
		file, err := os.Open(n.Path())
		if err != nil {
			result <- err
			return
		}
		defer file.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter %s: %w", n.name, err)
			return
		}
		result <- f()
	}()
	return <-result
}

// command prepares a program in the namespace.
func (n Namespace) command(ctx context.Context, env []string, argv []string) *exec.Cmd {
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.name}, argv...)...)
	c.Env = append(os.Environ(), env...)
	c.Dir = n.dir
	return c
}

// Run runs a program to its end and returns what it printed, and its exit code.
func (n Namespace) Run(t testing.TB, limit time.Duration, env []string, argv ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := n.command(ctx, env, argv)
	c.WaitDelay = 5 * time.Second
	out, err := c.CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("%s in %s did not end within %v", argv[0], n.name, limit)
	}
	if err != nil && c.ProcessState == nil {
		t.Fatalf("%s in %s: %v", argv[0], n.name, err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// Must runs a program that has to succeed and returns its standard output.
func (n Namespace) Must(t testing.TB, limit time.Duration, env []string, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := n.command(ctx, env, argv)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s in %s: %v\n%s%s", strings.Join(argv, " "), n.name, err, out, stderr.String())
	}
	return string(out)
}

func mustRun(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
}

// Eventually polls until f is true, for what only real programs can tell. It fails the test when limit is over.
func Eventually(t testing.TB, limit time.Duration, what string, f func() bool) {
	t.Helper()
	if !Within(limit, f) {
		t.Fatalf("after %v still not: %s", limit, what)
	}
}

// Within polls until f is true or limit is over, and reports which.
func Within(limit time.Duration, f func() bool) bool {
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		if f() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
