package main

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/kernel"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

// program is this one in a network namespace.
type program struct {
	ns   *tunneltest.Namespace
	path string
	env  []string
}

func (p program) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.path, args...)
	cmd.Env = append(os.Environ(), p.env...)
	return cmd
}

// must runs a command to its end.
func (p program) must(t *testing.T, args ...string) string {
	t.Helper()
	var out []byte
	if err := p.ns.Do(func() (err error) {
		out, err = p.command(args...).CombinedOutput()
		return err
	}); err != nil {
		t.Fatalf("towpath %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// output is a buffer that a program writes to while the test reads.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start runs a command until stop or until the test ends. It has to end in order.
func (p program) start(t *testing.T, args ...string) (said *output, stop func()) {
	t.Helper()
	cmd, out := p.command(args...), &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := p.ns.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("towpath %s: %v", strings.Join(args, " "), err)
		}
		if t.Failed() {
			t.Logf("towpath %s:\n%s", strings.Join(args, " "), out)
		}
	})
	t.Cleanup(stop)
	return out, stop
}

// status waits until the box's status has all the texts.
func (p program) status(t *testing.T, within time.Duration, texts ...string) {
	t.Helper()
	var out []byte
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(time.Second) {
		_ = p.ns.Do(func() error {
			out, _ = p.command("status").CombinedOutput()
			return nil
		})
		missing := false
		for _, s := range texts {
			missing = missing || !strings.Contains(string(out), s)
		}
		if !missing {
			return
		}
	}
	t.Fatalf("after %v the box does not say all of %q:\n%s", within, texts, out)
}

// TestKernelGivesWay has a box on the kernel's WireGuard that comes back to a network that lets no UDP out any more. It builds its tunnel again in a way that can
// be carried over TCP.
func TestKernelGivesWay(t *testing.T) {
	tunneltest.NeedRoot(t)
	if err := kernel.Available(); err != nil {
		t.Skipf("this kernel has no WireGuard: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "towpath")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	wan := tunneltest.NewSwitch(t)
	center := program{tunneltest.NewNamespace(t), path, []string{"TOWPATH_DIR=" + filepath.Join(dir, "co")}}
	clinic := program{tunneltest.NewNamespace(t), path, []string{"TOWPATH_STATE=" + filepath.Join(dir, "box")}}
	wan.Plug(center.ns, netip.MustParsePrefix("198.51.100.1/24"))
	wan.Plug(clinic.ns, netip.MustParsePrefix("198.51.100.2/24"))

	center.must(t, "coordinator", "init", "--host", "198.51.100.1", "--http-port", "8080", "--with-center", "center", "--center-backend", "netstack")
	said, _ := center.start(t, "coordinator", "serve")
	deadline := time.Now().Add(30 * time.Second)
	for center.ns.Do(func() error { return center.command("site", "list").Run() }) != nil {
		if time.Now().After(deadline) {
			t.Fatalf("the coordinator does not come up:\n%s", said)
		}
		time.Sleep(200 * time.Millisecond)
	}
	center.must(t, "site", "add", "north")
	token, _, _ := strings.Cut(center.must(t, "token", "new", "--site", "north"), "\n")
	clinic.must(t, "enroll", token)
	_, stop := clinic.start(t, "gateway", "--interface", "towvm0")
	clinic.status(t, 30*time.Second, "Coordinator connected", "Tunnel (kernel")
	stop()

	for _, rule := range []string{
		"add table inet noudp", "add chain inet noudp out { type filter hook output priority 10 ; }", "add rule inet noudp out oifname eth0 meta l4proto udp drop",
		"add chain inet noudp in { type filter hook input priority 10 ; }", "add rule inet noudp in iifname eth0 meta l4proto udp drop",
	} {
		if err := clinic.ns.Do(exec.Command("nft", strings.Fields(rule)...).Run); err != nil {
			t.Fatalf("nft %s: %v", rule, err)
		}
	}
	begin := time.Now()
	clinic.start(t, "gateway", "--interface", "towvm0")
	clinic.status(t, 5*time.Minute, "Coordinator connected", "Tunnel (userspace, UDP was blocked here", "carried over HTTP on 198.51.100.1:8080")
	t.Logf("carried after %v", time.Since(begin).Round(time.Second))
}
