package state_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/gateway/state"
)

func TestClockCorrection(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return now.Add(d) }
	const tol, age = state.ClockTolerance, 90 * time.Second
	for name, c := range map[string]struct {
		clock state.Clock
		want  time.Time // zero: left alone
	}{
		"nothing known":                          {state.Clock{}, time.Time{}},
		"floor behind us":                        {state.Clock{Floor: at(-time.Hour)}, time.Time{}},
		"floor a little ahead":                   {state.Clock{Floor: at(tol)}, time.Time{}},
		"clock went back":                        {state.Clock{Floor: at(time.Hour)}, at(time.Hour + age)},
		"just beyond the tolerance":              {state.Clock{Floor: at(tol + time.Second)}, at(tol + time.Second + age)},
		"the epoch after a dead battery":         {state.Clock{Now: time.Unix(0, 0), Floor: now}, at(age)},
		"went back, but a time server says so":   {state.Clock{Floor: at(time.Hour), Synchronized: true}, time.Time{}},
		"coordinator agrees":                     {state.Clock{Coordinator: at(-tol)}, time.Time{}},
		"coordinator is ahead":                   {state.Clock{Coordinator: at(time.Hour)}, at(time.Hour)},
		"coordinator is behind":                  {state.Clock{Coordinator: at(-time.Hour)}, at(-time.Hour)},
		"coordinator is before the floor":        {state.Clock{Coordinator: at(-time.Hour), Floor: at(-time.Minute)}, time.Time{}},
		"coordinator is far before the floor":    {state.Clock{Coordinator: at(-3 * time.Hour), Floor: at(-time.Hour)}, at(-time.Hour + age)},
		"ahead of the floor by the tolerance":    {state.Clock{Coordinator: at(-time.Hour), Floor: at(-tol - time.Second)}, time.Time{}},
		"coordinator is ahead of the floor":      {state.Clock{Coordinator: at(2 * time.Hour), Floor: at(time.Hour)}, at(2 * time.Hour)},
		"coordinator differs from a time server": {state.Clock{Coordinator: at(time.Hour), Synchronized: true}, time.Time{}},
	} {
		if c.clock.Now.IsZero() {
			c.clock.Now = now
		}
		if got, ok := c.clock.Correction(); ok == c.want.IsZero() || !got.Equal(c.want) {
			t.Errorf("%s: set to %s (%v), want %s", name, got, ok, c.want)
		}
	}
}

func TestClockCorrectionSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		moment := rapid.Custom(func(t *rapid.T) time.Time { return time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), 0) })
		c := state.Clock{Now: moment.Draw(t, "now"), Synchronized: rapid.Bool().Draw(t, "synchronized")}
		if rapid.Bool().Draw(t, "has a floor") {
			c.Floor = moment.Draw(t, "floor")
		}
		if rapid.Bool().Draw(t, "has heard") {
			c.Coordinator = moment.Draw(t, "coordinator")
		}
		to, ok := c.Correction()
		if !ok {
			return
		}
		switch {
		case c.Synchronized:
			t.Fatal("a clock that follows a time server was set")
		case to.Before(c.Floor):
			t.Fatalf("set to %s, before the floor", to)
		case c.Coordinator.IsZero() && to.Before(c.Now):
			t.Fatalf("set back to %s though nobody said so", to)
		case to.Sub(c.Now).Abs() <= state.ClockTolerance:
			t.Fatalf("set by %s, which is within the tolerance", to.Sub(c.Now))
		}
		c.Now = to
		if again, ok := c.Correction(); ok {
			t.Fatalf("set to %s and then again to %s", to, again)
		}
	})
}
