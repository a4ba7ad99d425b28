package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// powerRuns is a flag because each run takes two starts of a machine.
var powerRuns = flag.Int("power.runs", 0, "how often TestPowerLoss takes a machine's power; the lane vm says it")

// TestPowerLoss kills a virtual machine in which a box takes objects on a disk, starts another one with this disk, and looks whether everything that
// was acknowledged arrives, once. That it is a loss of power is shown by a control file: the machine had not written it out.
func TestPowerLoss(t *testing.T) {
	if *powerRuns == 0 {
		t.Skip("SKIPPED: it needs -power.runs, which the lane vm gives")
	}
	line, err := prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "crashtest.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "github.com/towpath/towpath/gateway/crashtest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lost := 0
	for run := range *powerRuns {
		disk := filepath.Join(t.TempDir(), "disk")
		if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", disk, "192M").CombinedOutput(); err != nil {
			t.Fatalf("make a file system: %v\n%s", err, out)
		}
		until := 3 + 17*run // acknowledgments
		acked := powered(t, line, disk, program, "ACKNOWLEDGED", until)
		arrived := powered(t, line, disk, program, "", 0)
		count := map[string]int{}
		var unsaved, of int
		for _, l := range arrived {
			word, rest, _ := strings.Cut(l, " ")
			switch word {
			case "ARRIVED":
				count[rest]++
			case "UNSAVED":
				_, _ = fmt.Sscan(rest, &unsaved, &of)
			}
		}
		if unsaved < of {
			lost++
		}
		told := 0
		for _, l := range acked {
			sum, ok := strings.CutPrefix(l, "ACKNOWLEDGED ")
			if !ok {
				continue
			}
			told++
			if count[sum] != 1 {
				t.Errorf("run %d: an acknowledged object arrived %d times", run, count[sum])
			}
		}
		if told < until || of == 0 {
			t.Fatalf("run %d: %d objects acknowledged instead of %d, control file of %d bytes; the second machine said:\n%s", run, told, until, of,
				strings.Join(arrived, "\n"))
		}
		t.Logf("%d objects acknowledged, %d arrived; of %d bytes that nobody had synced %d were left", told, len(count), of, unsaved)
	}
	if lost == 0 {
		t.Error("no machine lost what was not synced: its power was not taken")
	}
}

// powered runs the test in a machine with a disk and returns what it said. With a word it kills the machine after so many lines that begin with it.
func powered(t *testing.T, line, disk, program, word string, until int) (said []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	argv := append(strings.Fields(line), "-disk", disk, program, "-test.run=^TestInsideOfPowerLoss$", "-test.v", "-test.timeout=2m")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "../../gateway/crashtest"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // QEMU is in it, too
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stop := context.AfterFunc(ctx, kill)
	defer stop()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	seen := 0
	for lines.Scan() {
		l := strings.TrimSpace(lines.Text())
		said = append(said, l)
		if word != "" && strings.HasPrefix(l, word) {
			if seen++; seen == until {
				kill()
			}
		}
	}
	err = cmd.Wait()
	if ctx.Err() != nil || word == "" && err != nil {
		t.Fatalf("the machine did not end in order: %v\n%s", err, strings.Join(said, "\n"))
	}
	return said
}
