package crashtest

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(boxEnv); text != "" {
		if err := runBox(text); err != nil {
			fmt.Fprintln(os.Stderr, "box:", err)
			os.Exit(1)
		}
		return
	}
	if text := os.Getenv(launchEnv); text != "" {
		fmt.Fprintln(os.Stderr, "launch:", launch(text))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Without arguments TestCrash is a short slice of the campaign with fixed seeds.
const (
	slice      = 24
	shortSlice = 4
	wholeSlice = 2 // of whole programs; with -short none
)

// The campaign's flags.
var (
	flagRuns    = flag.Int("crash.runs", 0, "runs of the campaign; 0 is the short slice")
	flagSeed    = flag.Uint64("crash.seed", 1, "seed of the first run")
	flagTime    = flag.Duration("crash.time", 0, "begin no run after this time")
	flagSlow    = flag.Duration("crash.slow", 0, "show the trace of runs that take longer")
	flagWorkers = flag.Int("crash.workers", 2, "runs at a time")
	// Their runs are mostly waiting.
	flagPrograms = flag.Int("crash.programs", 2, "runs of whole programs at a time")
)

// TestCrash is the campaign. Make crash sets its flags.
func TestCrash(t *testing.T) {
	if err := possible(t.TempDir()); err != nil {
		t.Skipf("SKIPPED: this machine cannot stop system calls of a process without root: %v", err)
	}
	campaign(t, *flagWorkers, slice, shortSlice, "boxes", func(int) (player, func(), error) { return play, func() {}, nil })
}

// TestCrashPrograms is the campaign with whole programs: coordinator, center's box and clinic's box.
func TestCrashPrograms(t *testing.T) {
	if err := possible(t.TempDir()); err != nil {
		t.Skipf("SKIPPED: this machine cannot stop system calls of a process without root: %v", err)
	}
	if testing.Short() && *flagRuns == 0 && *flagTime == 0 {
		t.Skip("SKIPPED: -short")
	}
	dir := t.TempDir()
	bin, err := buildProgram(dir)
	if err != nil {
		t.Fatal(err)
	}
	campaign(t, *flagPrograms, wholeSlice, wholeSlice, "programs", func(n int) (player, func(), error) {
		own := filepath.Join(dir, fmt.Sprint("plant-", n))
		if err := os.Mkdir(own, 0o700); err != nil {
			return nil, nil, err
		}
		p, err := newPlant(bin, own, n)
		if err != nil {
			return nil, nil, err
		}
		return func(seed uint64, dir string) (result, []string, error) { return playWhole(p, seed, dir) }, p.close, nil
	})
}

// player plays one seed in a directory of its own.
type player func(seed uint64, dir string) (res result, trace []string, err error)

// campaign plays seeds, some at a time, each by a player of its own.
func campaign(t *testing.T, workers, slice, shortSlice int, tier string, hire func(n int) (player, func(), error)) {
	t.Helper()
	args := campaignArgs(t, slice, shortSlice)
	deadline := time.Now().Add(args.limit)
	var mu sync.Mutex
	total := tally{faults: map[string]int{}, struck: map[string]int{}}
	next := args.seed
	work := func(play player) {
		for {
			mu.Lock()
			seed := next
			stop := int(seed-args.seed) >= args.runs || args.limit > 0 && time.Now().After(deadline) || total.failed >= 5
			next++
			mu.Unlock()
			if stop {
				return
			}
			dir := filepath.Join(args.dir, fmt.Sprint("seed-", seed))
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Error(err)
				return
			}
			res, trace, err := play(seed, dir)
			_ = os.RemoveAll(dir)
			mu.Lock()
			total.add(res, err)
			if err != nil {
				t.Errorf("seed %d: %v\nagain with: make crash TIER=%s SEED=%d RUNS=1\n%s", seed, err, tier, seed, strings.Join(trace, "\n"))
			}
			if err == nil && (res.restarted || *flagSlow > 0 && res.took > *flagSlow) {
				t.Logf("seed %d took %v, restarted %v\n%s", seed, res.took, res.restarted, strings.Join(trace, "\n"))
			}
			if total.runs%200 == 0 {
				fmt.Fprintf(os.Stderr, "%d runs, %d failed\n", total.runs, total.failed)
			}
			mu.Unlock()
		}
	}
	var wg sync.WaitGroup
	for n := range min(workers, args.runs) {
		wg.Go(func() {
			play, dismiss, err := hire(n)
			if err != nil {
				t.Error(err)
				return
			}
			defer dismiss()
			work(play)
		})
	}
	wg.Wait()
	t.Log(total.String())
}

type arguments struct {
	runs  int
	seed  uint64
	limit time.Duration
	dir   string
}

func campaignArgs(t *testing.T, slice, shortSlice int) arguments {
	a := arguments{runs: *flagRuns, seed: *flagSeed, limit: *flagTime, dir: t.TempDir()}
	switch {
	case a.runs > 0:
	case a.limit > 0:
		a.runs = math.MaxInt
	case testing.Short():
		a.runs = shortSlice
	default:
		a.runs = slice
	}
	return a
}

// tally adds runs up.
type tally struct {
	runs, failed, objects, sends, restarted int
	messages, again                         int
	faults, struck                          map[string]int
	longest, all                            time.Duration
}

func (y *tally) add(r result, err error) {
	y.runs++
	if err != nil {
		y.failed++
	}
	if r.restarted {
		y.restarted++
	}
	y.objects, y.sends, y.all, y.longest = y.objects+r.objects, y.sends+r.sends, y.all+r.took, max(y.longest, r.took)
	y.messages, y.again = y.messages+r.messages, y.again+r.again
	for k, n := range r.faults {
		y.faults[k] += n
	}
	for k, n := range r.struck {
		y.struck[k] += n
	}
}

func (y *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs, %d failed; %d objects acknowledged in %d sends; %d messages, %d came again; %d runs needed a restart; the longest run %v, "+
		"the mean %v\n", y.runs, y.failed, y.objects, y.sends, y.messages, y.again, y.restarted, y.longest.Round(time.Millisecond),
		(y.all / time.Duration(max(y.runs, 1))).Round(time.Millisecond))
	for _, of := range []struct {
		what   string
		counts map[string]int
	}{{"planned", y.faults}, {"struck", y.struck}} {
		fmt.Fprintln(&b, of.what)
		for _, k := range slices.Sorted(maps.Keys(of.counts)) {
			fmt.Fprintf(&b, "  %6d %s\n", of.counts[k], k)
		}
	}
	return b.String()
}

// possible tries whether a box can be watched here.
func possible(dir string) error {
	s := &site{receipts: map[string]bool{}, cfg: boxConfig{Name: "probe", Host: "127.0.0.1", Dir: dir}}
	_ = s.start()
	s.now.kill()
	if strings.Contains(s.log.String(), "filter of system calls") {
		return fmt.Errorf("%s", strings.TrimSpace(s.log.String()))
	}
	return nil
}
