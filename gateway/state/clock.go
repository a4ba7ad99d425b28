package state

import "time"

// ClockTolerance is how far a clock may be off before it is worth setting: far more than a network delays an answer, far less than hurts.
const ClockTolerance = 2 * time.Minute

// floorAge is how much the box may have lived through after it saved its floor, which a gateway does once a minute.
const floorAge = 90 * time.Second

// Clock is what a box knows of the time at one moment.
//
// It matters because a WireGuard peer refuses a handshake whose TAI64N timestamp is not later than the last one it took (WireGuard
// paper §5.1): a box whose clock went back is shut out by all its peers, without an answer, until the clock has caught up.
type Clock struct {
	// Now is the system's clock.
	Now time.Time
	// Floor is Dir.TimeFloor; zero if none was saved.
	Floor time.Time
	// Coordinator is the coordinator's clock at the same moment, from an answer that was sealed or came through the tunnel; zero if none.
	Coordinator time.Time
	// Synchronized means that the system follows a time server.
	Synchronized bool
}

// Correction returns what the system's clock must be set to; ok is false if it is to be left alone.
//
//   - A clock that follows a time server is left alone: that server knows better, and would set it back.
//   - The coordinator's clock is taken if there is one, in both directions.
//   - Without it the clock only goes forward, to a little after the floor.
//   - It is never set to before the floor, since peers may have taken a handshake from then.
func (c Clock) Correction() (to time.Time, ok bool) {
	if c.Synchronized {
		return time.Time{}, false
	}
	to = c.Now
	if !c.Coordinator.IsZero() {
		to = c.Coordinator
	}
	var age time.Duration
	if to.Before(c.Floor) {
		to, age = c.Floor, floorAge
	}
	// A little after the floor may be within the tolerance though the floor itself is not, when it is the clock that is ahead.
	if to.Sub(c.Now).Abs() <= ClockTolerance || to.Add(age).Sub(c.Now).Abs() <= ClockTolerance {
		return time.Time{}, false
	}
	return to.Add(age), true
}
