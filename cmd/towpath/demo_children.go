package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
)

// childGrace is how long a program of the demo may take to end in order.
const childGrace = 15 * time.Second

// children runs copies of this binary: the demo goes through the same commands that a person would type.
type children struct {
	bin  string
	logs string
	// start hands work to the one thread that makes all children. The kernel ends a child when the thread that made it ends, which
	// is how none outlives a killed demo.
	start chan func()
	all   []*child
}

type child struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

func newChildren(logs string) (*children, error) {
	bin, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	c := &children{bin: bin, logs: logs, start: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the process
		for f := range c.start {
			f()
		}
	}()
	return c, nil
}

// run starts a program that stays, with its log in a file.
func (c *children) run(name string, args ...string) error {
	path := filepath.Join(c.logs, name+".log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer func() { _ = f.Close() }()
	cmd := exec.Command(c.bin, args...) //nolint:noctx // ended in order by stop, not killed by a context
	cmd.Stdout, cmd.Stderr = f, f
	// A group of its own: an interrupt from the keyboard reaches the demo only, which ends its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	ch := &child{name: name, cmd: cmd, log: path, done: make(chan struct{})}
	started := make(chan error)
	c.start <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		ch.err = cmd.Wait()
		close(ch.done)
	}()
	c.all = append(c.all, ch)
	return nil
}

// failed returns an error if a child that should run has ended.
func (c *children) failed() error {
	for _, ch := range c.all {
		select {
		case <-ch.done:
			return fmt.Errorf("%s ended by itself (%w); its log says:\n%s", ch.name, ch.err, tail(ch.log))
		default:
		}
	}
	return nil
}

// stop ends all children in order, the last started first.
func (c *children) stop() {
	for _, ch := range slices.Backward(c.all) {
		_ = ch.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ch.done:
		case <-time.After(childGrace):
			_ = ch.cmd.Process.Kill()
			<-ch.done
		}
	}
}

// command runs a program to its end and returns what it printed. An exit code in want is no error.
func (c *children) command(ctx context.Context, want []int, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, c.bin, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		for _, w := range want {
			if exit.ExitCode() == w {
				return out.String(), nil
			}
		}
	}
	if err != nil {
		return "", fmt.Errorf("towpath %s: %w\n%s", strings.Join(args[:min(2, len(args))], " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// json runs a reading command with --json and decodes what it printed.
func (c *children) json(ctx context.Context, into any, args ...string) error {
	out, err := c.command(ctx, []int{ui.ExitUnhealthy}, append(args, "--json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("read the answer of towpath %s: %w", args[0], err)
	}
	return nil
}

func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}
