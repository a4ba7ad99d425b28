package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// boot is how long a machine may take to start and to end, besides the time limit of the tests.
const boot = time.Minute

var errNoTests = errors.New("it could not run the tests")

// machine is what a VM is made of.
type machine struct {
	kernel string // folder of the unpacked package
	init   string
	memory int // MiB
	// steady makes time in the machine a count of instructions, and no matter of what else this machine does. It takes twice as long.
	steady bool
	// disk is a file that outlives the machine; empty for none. What the machine has not written out when QEMU is killed is lost.
	disk     string
	modules  []string
	programs []string
}

// arguments are those of a test program, made fit for the VM.
type arguments struct {
	inside []string
	cover  string        // where the coverage profile belongs; empty if there is none
	limit  time.Duration // 0 for none
}

// translate reads what go test gives to a test program.
func translate(args []string) arguments {
	var a arguments
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "-test.coverprofile":
			a.cover = value
			a.inside = append(a.inside, name+"=/tmp/cover.out")
		case "-test.gocoverdir", "-test.outputdir", "-test.testlogfile":
			// folders of this machine
		case "-test.timeout":
			if d, err := time.ParseDuration(value); err == nil {
				a.limit = d
			}
			fallthrough
		default:
			a.inside = append(a.inside, arg)
		}
	}
	return a
}

// run boots a machine, copies what the tests say to standard output and returns their exit code.
func (m machine) run(ctx context.Context, test string, args []string) (code int, err error) {
	dir, err := os.MkdirTemp("", "vmtest")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	a := translate(args)
	if a.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, a.limit+boot, fmt.Errorf("no result after %v", a.limit+boot))
		defer cancel()
	}
	initramfs, console, result := filepath.Join(dir, "initramfs"), filepath.Join(dir, "console"), filepath.Join(dir, "result")
	if err := m.pack(initramfs, test, a.inside); err != nil {
		return 0, err
	}
	image, err := one(m.kernel, "boot/vmlinuz-*")
	if err != nil {
		return 0, err
	}
	// qemu64 because newer instructions are slow to emulate; without rdrand the kernel waits for entropy that never comes.
	options := []string{
		"-accel", "tcg", "-machine", "q35", "-cpu", "qemu64,+rdrand",
		"-m", strconv.Itoa(m.memory), "-nodefaults", "-no-reboot", "-display", "none", "-monitor", "none",
		"-serial", "file:" + console, "-serial", "stdio", "-serial", "file:" + result,
		"-kernel", image, "-initrd", initramfs,
		"-append", "console=ttyS0 quiet cryptomgr.notests mitigations=off panic=-1 oops=panic rcupdate.rcu_expedited=1",
	}
	if m.disk != "" {
		options = append(options, "-drive", "file="+m.disk+",format=raw,if=virtio,cache=writeback")
	}
	if m.steady {
		options = append(options, "-icount", "shift=1,sleep=off", "-rtc", "clock=vm")
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", options...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.WaitDelay = 10 * time.Second
	ended := cmd.Run()
	if cause := context.Cause(ctx); cause != nil {
		ended = cause
	}
	report, err := os.ReadFile(result)
	if err != nil {
		return 0, errors.Join(ended, err)
	}
	code, profile, err := parse(report)
	if err = errors.Join(ended, err); err != nil || code == broken {
		said, _ := os.ReadFile(console)
		return 0, fmt.Errorf("the machine did not end in order, and its kernel said:\n%s\n%w", said, cmp.Or(err, errNoTests))
	}
	if a.cover != "" && len(profile) > 0 {
		if err := os.WriteFile(a.cover, profile, 0o644); err != nil {
			return 0, err
		}
	}
	return code, nil
}

// parse reads what vminit reported: "exit CODE", a line feed, and the coverage profile.
func parse(report []byte) (code int, profile []byte, err error) {
	line, profile, ok := bytes.Cut(report, []byte("\n"))
	text, found := strings.CutPrefix(string(line), "exit ")
	if !ok || !found {
		return 0, nil, errors.New("the tests gave no result: the kernel crashed, or the machine was ended")
	}
	if code, err = strconv.Atoi(text); err != nil {
		return 0, nil, fmt.Errorf("read the result of the tests: %w", err)
	}
	return code, profile, nil
}

// one finds the only file of a pattern.
func one(dir string, patterns ...string) (string, error) {
	for _, p := range patterns {
		have, err := filepath.Glob(filepath.Join(dir, p))
		if err != nil {
			return "", err
		}
		if len(have) == 1 {
			return have[0], nil
		}
	}
	return "", fmt.Errorf("there is not exactly one %s in %s", strings.Join(patterns, " or "), dir)
}
