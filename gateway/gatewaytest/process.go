//go:build lab

package gatewaytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a program that runs in a namespace until it is stopped.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the program has ended; err is set before
	err  error
}

// Start starts a program in the namespace. Its output goes to a log file of that name. It is stopped with the test, and its log
// shown if the test failed.
func (n Namespace) Start(t testing.TB, name string, env []string, argv ...string) *Process {
	t.Helper()
	p := &Process{name: name, log: filepath.Join(n.dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd = n.command(context.Background(), env, argv)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// "ip netns exec" becomes the program, so this reaches the program itself.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Stop(t)
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, tail(p.Log(), 4000))
		}
	})
	return p
}

// Stop asks the program to end, insists after ten seconds, and reports whether it ended by itself without an error.
func (p *Process) Stop(t testing.TB) bool {
	t.Helper()
	if p.ended() {
		return p.err == nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		t.Logf("%s did not end when asked to", p.name)
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // a Go program says where it hangs
		select {
		case <-p.done:
		case <-time.After(2 * time.Second):
			p.Kill()
		}
		return false
	}
	return p.err == nil
}

// Kill ends the program without asking: a power cut as far as it can tell.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// PeakMemory is the most that the process had resident so far, in bytes.
func (p *Process) PeakMemory(t testing.TB) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	t.Fatalf("no peak of memory in:\n%s", text)
	return 0
}

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Log is all the program has printed.
func (p *Process) Log() string {
	data, err := os.ReadFile(p.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(data)
}

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + s[len(s)-n:]
}
