package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/gateway/state"
)

// guardEvery is how often a running gateway's clock is checked.
const guardEvery = time.Minute

// machineClock sets this machine's clock. The zero one leaves it alone.
type machineClock struct {
	set          func(time.Time) error
	synchronized func() bool
}

func setClockFlag() cli.Flag {
	return &cli.BoolFlag{
		Name: "set-clock",
		Usage: "set this machine's clock if it is wrong by more than two minutes and follows no time server (needs CAP_SYS_TIME); " +
			"for boxes, not for machines with other work",
	}
}

// clockOf is the system's clock if the person asked for it to be set.
func clockOf(c *cli.Context) machineClock {
	if !c.Bool("set-clock") {
		return machineClock{}
	}
	return machineClock{set: setSystemClock, synchronized: systemClockSynchronized}
}

func setSystemClock(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	return unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
}

// systemClockSynchronized asks the kernel, which time daemons tell (adjtimex(2)). Asking changes nothing and needs no privilege.
func systemClockSynchronized() bool {
	var t unix.Timex
	status, err := unix.Adjtimex(&t)
	return err == nil && status != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

// repair sets the clock if it must be, and returns by how much: more than zero is forward. coordinator is zero if it was not heard.
func (m machineClock) repair(floor, coordinator time.Time) (time.Duration, error) {
	if m.set == nil {
		return 0, nil
	}
	now := time.Now()
	to, ok := state.Clock{Now: now, Floor: floor, Coordinator: coordinator, Synchronized: m.synchronized()}.Correction()
	if !ok {
		return 0, nil
	}
	if err := m.set(to); err != nil {
		return 0, fmt.Errorf("set the clock from %s to %s: %w", now.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339), err)
	}
	return to.Sub(now), nil
}

// guard sets a clock that went back forward to what this box has lived through: before it returns, so that no peer refuses the first
// handshake, and while the gateway runs. The caller calls stop before it closes dir. That the clock cannot be set is no reason to stay
// off: the gateway reports a clock in the past by itself.
func (m machineClock) guard(dir *state.Dir, log *slog.Logger) (stop func()) {
	if m.set == nil || !m.keepUp(dir, log) {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(guardEvery)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				if !m.keepUp(dir, log) {
					return
				}
			}
		}
	}()
	return func() { close(end); <-ended }
}

// keepUp reports whether it makes sense to go on.
func (m machineClock) keepUp(dir *state.Dir, log *slog.Logger) bool {
	floor, err := dir.TimeFloor()
	if err != nil {
		log.Warn("the time floor cannot be read, so the clock is not checked", "error", err)
		return true // the gateway writes a new one
	}
	by, err := m.repair(floor, time.Time{})
	if err != nil {
		log.Error("the clock is in the past and cannot be set", "error", err)
		return false
	}
	if by != 0 {
		log.Warn("the clock was in the past and was set forward to when this box last ran: enable time synchronization", "by", by.Round(time.Second))
	}
	return true
}
