package clock_test

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/clock"
	"github.com/towpath/towpath/gateway/state"
)

// machine is a clock that a test moves. It starts at noon.
type machine struct {
	wall         time.Time
	steady       time.Duration
	synchronized bool
	err          error
	sets         []time.Time
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func (m *machine) clock(may bool) clock.Machine {
	c := clock.Machine{Read: func() (time.Time, time.Duration) { return m.wall, m.steady }}
	if may {
		c.Synchronized = func() bool { return m.synchronized }
		c.Set = func(t time.Time) error {
			if m.err == nil {
				m.wall, m.sets = t, append(m.sets, t)
			}
			return m.err
		}
	}
	return c
}

func (m *machine) pass(d time.Duration) {
	m.wall, m.steady = m.wall.Add(d), m.steady+d
}

func newKeeper(t *testing.T, m clock.Machine, floor time.Time) (*clock.Keeper, *state.Dir, *bytes.Buffer) {
	t.Helper()
	dir, err := state.Open(filepath.Join(t.TempDir(), "box"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	if err := dir.RaiseTimeFloor(floor); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	return clock.NewKeeper(m, dir, slog.New(slog.NewTextHandler(&log, nil))), dir, &log
}

func TestFirstLook(t *testing.T) {
	for name, c := range map[string]struct {
		floor        time.Duration // from noon
		coordinator  time.Duration // zero: not heard
		locked       bool          // may not be set
		synchronized bool
		err          error
		repaired     time.Duration
		past         bool
	}{
		"right":                    {floor: -time.Hour},
		"a little behind":          {floor: time.Minute},
		"far behind":               {floor: time.Hour, repaired: time.Hour + 90*time.Second},
		"may not be set":           {floor: time.Hour, locked: true, past: true},
		"follows a time server":    {floor: time.Hour, synchronized: true, past: true},
		"cannot be set":            {floor: time.Hour, err: errors.New("operation not permitted"), past: true},
		"the coordinator is ahead": {floor: time.Hour, coordinator: 5 * time.Hour, repaired: 5 * time.Hour},
		"ahead of the coordinator": {floor: -5 * time.Hour, coordinator: -3 * time.Hour, repaired: -3 * time.Hour},
	} {
		m := &machine{wall: noon, synchronized: c.synchronized, err: c.err}
		k, dir, _ := newKeeper(t, m.clock(!c.locked), noon.Add(c.floor))
		var theirs time.Time
		if c.coordinator != 0 {
			theirs = noon.Add(c.coordinator)
		}
		l := k.Check(theirs)
		if l.Repaired != c.repaired || l.Past() != c.past || !l.Now.Equal(m.wall) {
			t.Errorf("%s: %+v, past %v; want repaired by %s, past %v", name, l, l.Past(), c.repaired, c.past)
		}
		if by, at := k.Repaired(); by != c.repaired || by != 0 && !at.Equal(m.wall) {
			t.Errorf("%s: it tells of %s at %s", name, by, at)
		}
		floor, err := dir.TimeFloor()
		if want := noon.Add(c.floor); err != nil || floor.Before(want) || !c.past && floor.Before(m.wall.Add(-time.Second)) {
			t.Errorf("%s: the floor is %s (%v)", name, floor, err)
		}
	}
}

// The clock goes back while the box runs: it is put to where it would be, which the floor alone would not know.
func TestJumpBackwards(t *testing.T) {
	for name, c := range map[string]struct {
		jump  time.Duration
		may   bool
		fixed bool
	}{
		"by hours":          {-3 * time.Hour, true, true},
		"to the epoch":      {-noon.Sub(time.Unix(0, 0)), true, true},
		"by a minute":       {-time.Minute, true, false},
		"forward":           {3 * time.Hour, true, false},
		"may not be set":    {-3 * time.Hour, false, false},
		"by three minutes":  {-3 * time.Minute, true, true},
		"forward by a year": {365 * 24 * time.Hour, true, false},
	} {
		m := &machine{wall: noon}
		k, _, log := newKeeper(t, m.clock(c.may), noon.Add(-time.Hour))
		k.Check(time.Time{})
		m.pass(50 * time.Second)
		m.wall = m.wall.Add(c.jump)
		l := k.Check(time.Time{})
		want := m.wall
		if c.fixed {
			want = noon.Add(50 * time.Second)
		}
		if !m.wall.Equal(want) || (l.Repaired != 0) != c.fixed || l.Past() != (!c.may && c.jump < 0) {
			t.Errorf("%s: it is %s after %+v (past %v), want %s", name, m.wall, l, l.Past(), want)
		}
		if c.fixed != strings.Contains(log.String(), "the clock was wrong") {
			t.Errorf("%s: the log says %q", name, log)
		}
		m.pass(time.Minute)
		if l := k.Check(time.Time{}); l.Repaired != 0 {
			t.Errorf("%s: repaired again by %s", name, l.Repaired)
		}
	}
}

// At boot the floor comes first and the coordinator second: together they are one repair.
func TestRepairIsKeptForADay(t *testing.T) {
	m := &machine{wall: noon}
	k, _, _ := newKeeper(t, m.clock(true), noon.Add(24*time.Hour))
	k.Check(time.Time{})
	m.pass(3 * time.Second)
	k.Check(noon.Add(72 * time.Hour))
	if by, at := k.Repaired(); (by-72*time.Hour).Abs() > 5*time.Second || !at.Equal(noon.Add(72*time.Hour)) {
		t.Errorf("wrong by %s, set to %s; want 72 hours together", by, at)
	}
	m.pass(clock.RepairKept)
	k.Check(time.Time{})
	if by, _ := k.Repaired(); by == 0 {
		t.Error("forgotten within the day")
	}
	m.pass(time.Minute)
	if by, _ := k.Repaired(); by != 0 {
		t.Error("a day later it is news still")
	}
}

// What cannot be set is not tried each minute.
func TestSettingIsGivenUp(t *testing.T) {
	m := &machine{wall: noon, err: errors.New("operation not permitted")}
	k, _, log := newKeeper(t, m.clock(true), noon.Add(time.Hour))
	for range 5 {
		if l := k.Check(time.Time{}); !l.Past() {
			t.Fatalf("%+v", l)
		}
		m.pass(time.Minute)
	}
	if n := strings.Count(log.String(), "cannot be set"); n != 1 {
		t.Errorf("told %d times: %s", n, log)
	}
}

// Without anything injected it is this process's clock, and nothing is set.
func TestThisMachine(t *testing.T) {
	k, _, _ := newKeeper(t, clock.Machine{}, time.Now().Add(-time.Hour))
	if l := k.Check(time.Now().Add(time.Hour)); l.Past() || l.Repaired != 0 || time.Since(l.Now).Abs() > time.Minute {
		t.Errorf("%+v", l)
	}
	if skew := k.Skew(time.Now().Add(-time.Hour)); (skew - time.Hour).Abs() > time.Minute {
		t.Errorf("skew %s, want an hour ahead", skew)
	}
}
