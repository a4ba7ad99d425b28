package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/gateway/clock"
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
	return machineClock{clock.Machine{
		Set: func(t time.Time) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.set = append(r.set, t.UTC())
			return r.err
		},
		Synchronized: func() bool { return r.synchronized },
	}}
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
				set := o.Clock.Set
				o.Clock.Set = func(at time.Time) error {
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
	if z := (machineClock{}); z.Set != nil || !(control.Ways{}).Proxy.IsZero() {
		t.Error("the zero values must do nothing")
	}
}

// TestSettingTheClockReachesTheKernel makes the real call where the kernel refuses it: in a user namespace, whose root may not set the
// time (clock_settime(2) wants CAP_SYS_TIME of the first one). The order of the kernel's answers says what it thought of the argument: an
// impossible time is EINVAL, a possible one EPERM. A clock that is really set cannot be had in a test: time namespaces have only the monotonic
// and the boot-time clock (time_namespaces(7)), so it would be the whole machine's.
func TestSettingTheClockReachesTheKernel(t *testing.T) {
	const child = "TOWPATH_TEST_SET_CLOCK"
	if os.Getenv(child) != "" {
		fmt.Printf("possible=%v impossible=%v\n", errors.Is(setSystemClock(time.Now()), unix.EPERM), errors.Is(setSystemClock(time.Unix(-5, 0)), unix.EINVAL))
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), child+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSPC) {
		t.Skipf("SKIPPED: no user namespaces on this machine, so the call that sets the clock is not made at all: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "possible=true impossible=true") {
		t.Errorf("the kernel answers otherwise (%v):\n%s", err, out)
	}
}
