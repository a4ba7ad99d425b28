package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/images/internal/kmod"
)

const (
	testsPort  = "/dev/ttyS1"
	resultPort = "/dev/ttyS2"
	coverage   = "/tmp/cover.out"
)

// broken is the exit code of a machine that could not run the tests.
const broken = 125

func main() {
	code, err := run()
	if err != nil {
		fmt.Println("vminit:", err) // on the kernel's console
		code = broken
	}
	if err := report(code); err != nil {
		fmt.Println("vminit:", err)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("vminit: power off:", err)
	}
}

func run() (code int, err error) {
	for _, m := range []struct{ kind, dir string }{
		{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"},
	} {
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return 0, fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	for _, l := range []struct{ target, name string }{
		{"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"}, {"fd/1", "/dev/stdout"}, {"fd/2", "/dev/stderr"},
	} {
		if err := os.Symlink(l.target, l.name); err != nil {
			return 0, err
		}
	}
	// A module that does not load is what a test would stumble over much later.
	order, err := os.ReadFile("/vm/modules")
	if err != nil {
		return 0, err
	}
	for file := range strings.FieldsSeq(string(order)) {
		if err := kmod.Load(file); err != nil {
			return 0, err
		}
	}
	if err := loopbackUp(); err != nil {
		return 0, fmt.Errorf("set up the loopback interface: %w", err)
	}
	return test()
}

func test() (code int, err error) {
	out, err := port(testsPort)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	args, err := lines("/vm/args")
	if err != nil {
		return 0, err
	}
	env, err := lines("/vm/env")
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("/vm/test", args...)
	cmd.Dir = "/vm/package"
	cmd.Env = append(env, "HOME=/tmp", "TMPDIR=/tmp", "PATH=/bin")
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			fmt.Fprintf(out, "the test program was ended by signal %v\n", status.Signal())
			return 1, drain(out)
		}
		return exit.ExitCode(), drain(out)
	}
	return 0, errors.Join(err, drain(out))
}

func report(code int) error {
	out, err := port(resultPort)
	if err != nil {
		return err
	}
	defer out.Close()
	text := fmt.Appendf(nil, "exit %d\n", code)
	profile, err := os.ReadFile(coverage)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := out.Write(append(text, profile...)); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return drain(out)
}

func lines(file string) ([]string, error) {
	b, err := os.ReadFile(file)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return strings.Split(string(b), "\x00"), nil
}

// port opens a serial line that changes nothing of what is written.
func port(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err == nil {
		t.Oflag &^= unix.OPOST
		t.Lflag &^= unix.ECHO
		err = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %s: %w", name, err), f.Close())
	}
	return f, nil
}

// drain waits until all has been sent.
func drain(f *os.File) error {
	if err := unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1); err != nil {
		return fmt.Errorf("wait for %s: %w", f.Name(), err)
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
