package clock

import (
	"fmt"
	"time"

	"github.com/towpath/towpath/gateway/state"
)

// Machine is the clock of a machine. The zero one is this machine's, and is left alone.
type Machine struct {
	// Set sets the clock; nil means that it may not be set.
	Set func(time.Time) error
	// Synchronized reports whether the machine follows a time server. Required with Set.
	Synchronized func() bool
	// Read returns the time of day, and one that goes forward evenly whatever the former does. Nil means this process's.
	Read func() (wall time.Time, steady time.Duration)
}

// Repair sets the clock if it may and must be, see state.Clock.Correction, and returns by how much: more than zero is forward. Floor and
// coordinator are zero if they are not known.
func (m Machine) Repair(floor, coordinator time.Time) (time.Duration, error) {
	wall := time.Now()
	if m.Read != nil {
		wall, _ = m.Read()
	}
	return m.repair(wall, floor, coordinator)
}

func (m Machine) repair(wall, floor, coordinator time.Time) (time.Duration, error) {
	if m.Set == nil {
		return 0, nil
	}
	to, ok := state.Clock{Now: wall, Floor: floor, Coordinator: coordinator, Synchronized: m.Synchronized()}.Correction()
	if !ok {
		return 0, nil
	}
	if err := m.Set(to); err != nil {
		return 0, fmt.Errorf("set the clock from %s to %s: %w", wall.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339), err)
	}
	return to.Sub(wall.Round(0)), nil
}
