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
	os.Exit(m.Run())
}

// Without arguments TestCrash is a short slice of the campaign with fixed seeds.
const (
	slice      = 24
	shortSlice = 4
)

// The campaign's flags.
var (
	flagRuns    = flag.Int("crash.runs", 0, "runs of the campaign; 0 is the short slice")
	flagSeed    = flag.Uint64("crash.seed", 1, "seed of the first run")
	flagTime    = flag.Duration("crash.time", 0, "begin no run after this time")
	flagSlow    = flag.Duration("crash.slow", 0, "show the trace of runs that take longer")
	flagWorkers = flag.Int("crash.workers", 2, "runs at a time")
)

// TestCrash is the campaign. Make crash sets its flags.
func TestCrash(t *testing.T) {
	if err := possible(t.TempDir()); err != nil {
		t.Skipf("SKIPPED: this machine cannot stop system calls of a process without root: %v", err)
	}
	args := campaignArgs(t)
	deadline := time.Now().Add(args.limit)
	var mu sync.Mutex
	total := tally{faults: map[string]int{}, struck: map[string]int{}}
	next := args.seed
	var wg sync.WaitGroup
	for range args.workers {
		wg.Go(func() {
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
					t.Errorf("seed %d: %v\nagain with: make crash SEED=%d RUNS=1\n%s", seed, err, seed, strings.Join(trace, "\n"))
				}
				if err == nil && (res.restarted || *flagSlow > 0 && res.took > *flagSlow) {
					t.Logf("seed %d took %v, restarted %v\n%s", seed, res.took, res.restarted, strings.Join(trace, "\n"))
				}
				if total.runs%200 == 0 {
					fmt.Fprintf(os.Stderr, "%d runs, %d failed\n", total.runs, total.failed)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Log(total.String())
}

type arguments struct {
	runs, workers int
	seed          uint64
	limit         time.Duration
	dir           string
}

func campaignArgs(t *testing.T) arguments {
	a := arguments{runs: *flagRuns, workers: *flagWorkers, seed: *flagSeed, limit: *flagTime, dir: t.TempDir()}
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
	for k, n := range r.faults {
		y.faults[k] += n
	}
	for k, n := range r.struck {
		y.struck[k] += n
	}
}

func (y *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs, %d failed; %d objects acknowledged in %d sends; %d runs needed a restart; the longest run %v\n", y.runs, y.failed,
		y.objects, y.sends, y.restarted, y.longest.Round(time.Millisecond))
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
	s := &site{receipts: map[string]bool{}, cfg: boxConfig{Name: "probe", Dir: dir}}
	_ = s.start()
	s.now.kill()
	if strings.Contains(s.log.String(), "filter of system calls") {
		return fmt.Errorf("%s", strings.TrimSpace(s.log.String()))
	}
	return nil
}
