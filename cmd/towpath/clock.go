package main

import (
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/gateway/clock"
)

// machineClock is this machine's clock. The zero one leaves it alone.
type machineClock struct{ clock.Machine }

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
	return machineClock{clock.Machine{Set: setSystemClock, Synchronized: systemClockSynchronized}}
}

// repair sets the clock by an answer to enrolment, see clock.Machine.Repair.
func (m machineClock) repair(floor, coordinator time.Time) (time.Duration, error) {
	return m.Repair(floor, coordinator)
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
