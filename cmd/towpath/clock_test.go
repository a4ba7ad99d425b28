package main

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/state"
)

// recordedClock notes what it was set to and never touches this machine's.
type recordedClock struct {
	err          error
	synchronized bool

	mu  sync.Mutex
	set []time.Time
}

func (r *recordedClock) times() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.set)
}

func (r *recordedClock) clock() machineClock {
	return machineClock{
		set: func(t time.Time) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.set = append(r.set, t.UTC())
			return r.err
		},
		synchronized: func() bool { return r.synchronized },
	}
}

func stateDir(t *testing.T) *state.Dir {
	t.Helper()
	d, err := state.Open(filepath.Join(t.TempDir(), "box"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestGuardSetsAClockThatWentBack(t *testing.T) {
	for name, c := range map[string]struct {
		floor time.Duration
		rec   *recordedClock
		off   bool
		// at once, and in the five minutes after
		now, later int
		log        string
	}{
		"right":             {floor: -time.Hour},
		"a little behind":   {floor: time.Minute},
		"far behind":        {floor: time.Hour, now: 1, later: 5, log: "set forward"},
		"becomes behind":    {floor: 2 * time.Minute},
		"time server":       {floor: time.Hour, rec: &recordedClock{synchronized: true}},
		"not asked for":     {floor: time.Hour, off: true},
		"without privilege": {floor: time.Hour, rec: &recordedClock{err: fs.ErrPermission}, now: 1, log: "cannot be set"},
	} {
		t.Run(name, func(t *testing.T) {
			d := stateDir(t)
			synctest.Test(t, func(t *testing.T) {
				floor := time.Now().Add(c.floor)
				if err := d.RaiseTimeFloor(floor); err != nil {
					t.Fatal(err)
				}
				rec, m := cmp.Or(c.rec, new(recordedClock)), machineClock{}
				if !c.off {
					m = rec.clock()
				}
				var log bytes.Buffer
				stop := m.guard(d, slog.New(slog.NewTextHandler(&log, nil)))
				if len(rec.times()) != c.now {
					t.Errorf("set %d times before the tunnel, want %d", len(rec.times()), c.now)
				}
				time.Sleep(5*time.Minute + time.Second)
				stop()
				time.Sleep(5 * time.Minute)
				if got := len(rec.times()) - c.now; got != c.later {
					t.Errorf("set %d times later, want %d", got, c.later)
				}
				for _, s := range rec.times() {
					if want := floor.Add(90 * time.Second).UTC(); !s.Equal(want) {
						t.Errorf("set to %s, want %s", s, want)
					}
				}
				if !strings.Contains(log.String(), c.log) || (c.log == "") != (log.Len() == 0) {
					t.Errorf("the log says %q, want %q", &log, c.log)
				}
			})
		})
	}
}

// TestEnrollSetsTheClockByTheSealedAnswer gives coordinators a clock that is off.
func TestEnrollSetsTheClockByTheSealedAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		off   time.Duration
		rec   *recordedClock
		leave bool
		sets  int
		says  string
	}{
		"right":                 {off: time.Minute},
		"we are behind":         {off: 3 * time.Hour, sets: 1, says: "was wrong by 3h0m0s and was set"},
		"we are ahead":          {off: -3 * time.Hour, sets: 1, says: "was wrong by 3h0m0s and was set"},
		"we have a time server": {off: 3 * time.Hour, rec: &recordedClock{synchronized: true}, says: "differs from the coordinator's by 3h0m0s"},
		"we may not":            {off: 3 * time.Hour, rec: &recordedClock{err: fs.ErrPermission}, sets: 1, says: "--set-clock failed: set the clock from "},
		"nobody asked":          {off: 3 * time.Hour, leave: true, says: "differs from the coordinator's by 3h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newProxyLabAt(t, "http", func() time.Time { return time.Now().Add(c.off) })
			l.token.URLs = []string{l.origin.URL}
			d := stateDir(t)
			var o enrollOptions
			rec, saved := cmp.Or(c.rec, new(recordedClock)), false
			if !c.leave {
				o.Clock = rec.clock()
				set := o.Clock.set
				o.Clock.set = func(at time.Time) error {
					_, err := os.Stat(d.Path("identity.json"))
					saved = saved || !errors.Is(err, fs.ErrNotExist)
					return set(at)
				}
			}
			e, err := enroll(t.Context(), d, l.token.Reveal(), o)
			if err != nil {
				t.Fatal(err)
			}
			if saved {
				t.Error("the clock was set after the identity was saved with the wrong time")
			}
			if len(rec.times()) != c.sets || slices.ContainsFunc(rec.times(), func(s time.Time) bool {
				return s.Sub(time.Now().Add(c.off)).Abs() > time.Minute
			}) {
				t.Errorf("set to %v, want %d times by %s", rec.times(), c.sets, c.off)
			}
			var b bytes.Buffer
			e.tellClock(&b)
			if !strings.Contains(b.String(), c.says) || (c.says == "") != (b.Len() == 0) {
				t.Errorf("said %q, want %q", &b, c.says)
			}
		})
	}
}

// TestSystemClockSynchronizedChangesNothing calls the one function that may be called here.
func TestSystemClockSynchronizedChangesNothing(t *testing.T) {
	wall, mono := time.Now(), time.Now()
	_ = systemClockSynchronized()
	if drift := time.Now().Round(0).Sub(wall.Round(0)) - time.Since(mono); drift.Abs() > time.Second {
		t.Errorf("the clock moved by %s", drift)
	}
	if z := (machineClock{}); z.set != nil || !(control.Ways{}).Proxy.IsZero() {
		t.Error("the zero values must do nothing")
	}
}
