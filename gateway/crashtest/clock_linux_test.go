package crashtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inMachine is a file that only the virtual machines of images/vmtest have: nobody else's clock is set.
const inMachine = "/vm/args"

// TestMachineClockJumps sets the machine's clock while coordinator, center's box and clinic's box work, from seconds to days to either side, and
// judges like the campaign. A box is killed, too: what it reads of its directory afterwards has times that are yet to come.
func TestMachineClockJumps(t *testing.T) {
	if _, err := os.Stat(inMachine); err != nil {
		t.Skip("SKIPPED: it sets the machine's clock, and runs in the lane vm only")
	}
	if err := possible(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bin, err := buildProgram(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlant(bin, dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for seed, c := range map[uint64]struct {
		dies  int
		jumps []time.Duration
	}{
		1: {1, []time.Duration{5 * time.Second, -5 * time.Second, -3 * time.Hour, 3 * 24 * time.Hour}},
		2: {2, []time.Duration{-3 * 24 * time.Hour, 2 * time.Minute}},
	} {
		own := filepath.Join(dir, fmt.Sprint("run-", seed))
		if err := os.Mkdir(own, 0o700); err != nil {
			t.Fatal(err)
		}
		res, trace, err := playClock(p, seed, own, c.dies, c.jumps)
		if err != nil || res.restarted {
			t.Errorf("jumps %v: %v, restarted %v\n%s", c.jumps, err, res.restarted, strings.Join(trace, "\n"))
			continue
		}
		t.Logf("jumps %v: %d objects, %d messages, all delivered after %v", c.jumps, res.objects, res.messages, res.took.Round(time.Millisecond))
	}
}

// playClock is a run whose troubles are jumps of the clock, and the death of the program with number dies.
func playClock(p *plant, seed uint64, dir string, dies int, jumps []time.Duration) (res result, trace []string, err error) {
	x := &wholeRun{
		plant: p, seed: seed, dir: dir, r: rand.New(rand.NewPCG(seed, 0xc10c)), faults: map[string]int{}, struck: map[string]int{}, began: time.Now(),
	}
	defer func() {
		x.end()
		res.restarted, res.took, trace = x.again, time.Since(x.began), x.trace
	}()
	if err = x.open(); err != nil {
		return
	}
	x.modality.start()
	x.practice.start()
	for _, by := range jumps {
		x.pause(time.Duration(500+x.r.IntN(1500)) * time.Millisecond)
		if err = jump(by); err != nil {
			return
		}
		x.note("the clock was set by %v", by)
	}
	victim := x.programs[dies]
	x.note("%s: kill -9", victim.name)
	if err = x.restart(victim, nil); err != nil {
		return
	}
	if err = x.recover(); err == nil {
		err = x.judge(&res)
	}
	if err != nil {
		x.portrait()
	}
	res.objects, res.messages = len(x.modality.objects), len(x.practice.messages)
	return
}

// jump sets the machine's clock.
func jump(by time.Duration) error {
	ts := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}
