package clock

import (
	"log/slog"
	"sync"
	"time"

	"github.com/towpath/towpath/gateway/state"
)

// RepairKept is how long a repair is worth knowing.
const RepairKept = 24 * time.Hour

// Look is what was found when the clock was looked at.
type Look struct {
	// Now is the time of day, after what was done to it.
	Now time.Time
	// Floor is a moment that this box has certainly lived through. A clock that is before it by more than state.ClockTolerance is wrong.
	Floor time.Time
	// Repaired is by how much the clock was set just now; more than zero is forward.
	Repaired time.Duration
}

// Past reports whether the clock is still in the past.
func (l Look) Past() bool { return l.Now.Before(l.Floor.Add(-state.ClockTolerance)) }

// Keeper looks after one clock. It is safe for concurrent use.
type Keeper struct {
	machine Machine
	dir     *state.Dir
	log     *slog.Logger
	born    time.Time

	mu     sync.Mutex
	wall   time.Time // of the last look, zero before the first
	steady time.Duration
	by     time.Duration // of the last repair, zero if there was none
	at     time.Time     // to what it set the clock
	since  time.Duration // steady time then
	broken bool          // setting has failed: it is not tried again
}

// NewKeeper returns the Keeper of a machine whose floor is in dir.
func NewKeeper(m Machine, dir *state.Dir, log *slog.Logger) *Keeper {
	return &Keeper{machine: m, dir: dir, log: log, born: time.Now()}
}

func (k *Keeper) read() (wall time.Time, steady time.Duration) {
	if k.machine.Read != nil {
		return k.machine.Read()
	}
	now := time.Now()
	return now.Round(0), now.Sub(k.born) // both have a monotonic reading
}

// Check looks at the clock, sets it if it may and must be, and raises the floor. coordinator is the coordinator's clock, from an answer
// that was sealed or came through the tunnel; zero if it was not heard.
//
// A clock that was set back while this process runs is known to be wrong by how much has passed since, so it is set to where it would be.
// What cannot be done is logged; the caller says by Look.Past what is wrong.
func (k *Keeper) Check(coordinator time.Time) Look {
	k.mu.Lock()
	defer k.mu.Unlock()
	wall, steady := k.read()
	floor, err := k.dir.TimeFloor()
	if err != nil {
		k.log.Warn("the time floor cannot be read", "error", err) // a new one is written below
	}
	lived := floor
	if !k.wall.IsZero() {
		if here := k.wall.Add(steady - k.steady); here.After(lived) {
			lived = here
		}
	}
	l := Look{Now: wall, Floor: lived}
	if coordinator.IsZero() && lived.After(floor) && l.Past() {
		coordinator = lived
	}
	if !k.broken {
		l.Repaired = k.repair(wall, steady, floor, coordinator)
		l.Now = l.Now.Add(l.Repaired)
	}
	if l.Past() {
		return l // the readings before the jump are the better ones
	}
	k.wall, k.steady = l.Now, steady
	if err := k.dir.RaiseTimeFloor(l.Now); err != nil {
		k.log.Warn("the time floor cannot be written", "error", err)
	}
	return l
}

// Skew is how far the clock is ahead of theirs.
func (k *Keeper) Skew(theirs time.Time) time.Duration {
	wall, _ := k.read()
	return wall.Sub(theirs.Round(0))
}

func (k *Keeper) repair(wall time.Time, steady time.Duration, floor, coordinator time.Time) time.Duration {
	by, err := k.machine.repair(wall, floor, coordinator)
	if err != nil {
		k.broken = true
		k.log.Error("the clock is wrong and cannot be set", "error", err)
		return 0
	}
	if by == 0 {
		return 0
	}
	k.log.Warn("the clock was wrong and was set: enable time synchronization", "by", by.Round(time.Second))
	// What was still wrong after one repair and is set by another was wrong by both.
	if k.by == 0 || steady-k.since > time.Minute {
		k.by = 0
	}
	k.by, k.at, k.since = k.by+by, wall.Add(by), steady
	return by
}

// Repaired returns by how much the clock was set in the last day, and to what; zero if it was not.
func (k *Keeper) Repaired() (by time.Duration, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, steady := k.read(); k.by == 0 || steady-k.since > RepairKept {
		return 0, time.Time{}
	}
	return k.by, k.at
}
