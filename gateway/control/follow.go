package control

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
)

const (
	backoffMin = time.Second
	backoffMax = time.Minute
	// stableAfter is how long a stream must have lived for its end to start the back-off from the beginning.
	stableAfter = time.Minute
)

// Follower keeps a watch stream open for as long as it runs.
type Follower struct {
	Coordinator Coordinator
	// Have returns the generation of the map the box has; it is asked before every attempt.
	Have func() uint64
	// Frame is called with every frame. An error ends the stream and counts as a failed attempt.
	Frame func(wire.Frame) error
	// State is called when the connection comes up (nil) or fails (why).
	State func(error)
	Log   *slog.Logger
}

// Run follows until ctx is done.
func (f *Follower) Run(ctx context.Context) error {
	wait := backoffMin
	for {
		began, up := time.Now(), false
		err := f.Coordinator.Watch(ctx, f.Have(), func(fr wire.Frame) error {
			if !up {
				up = true
				f.State(nil)
			}
			return f.Frame(fr)
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the watch ended because ctx is done
		}
		if errors.Is(err, ErrMoved) {
			continue // nothing is wrong
		}
		if up && time.Since(began) > stableAfter {
			wait = backoffMin
		}
		if errors.Is(err, ErrRemoved) {
			wait = backoffMax
		}
		f.State(err)
		// Full jitter, so that a fleet does not come back in one moment after an outage.
		pause := wait/2 + rand.N(wait/2+1)
		f.Log.Debug("coordinator stream ended", "error", err, "retry_in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		wait = min(2*wait, backoffMax)
	}
}
