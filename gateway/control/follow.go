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
	// Have says which map the box has; it is asked before every attempt.
	Have func() wire.Have
	// Beat is what the coordinator is told while the stream is open.
	Beat func() wire.Beat
	// Frame is called with every frame. An error ends the stream and counts as a failed attempt. After a wire.ErrMisfit the next one
	// begins with the whole map.
	Frame func(wire.Frame) error
	// State is called when the connection comes up (nil) or fails (why).
	State func(error)
	Log   *slog.Logger
}

// Run follows until ctx is done.
func (f *Follower) Run(ctx context.Context) error {
	wait := backoffMin
	var fit fit
	for {
		began, up := time.Now(), false
		err := f.Coordinator.Watch(ctx, fit.ask(f.Have()), f.Beat, func(fr wire.Frame) error {
			if !up {
				up = true
				f.State(nil)
			}
			err := f.Frame(fr)
			fit.note(fr, err, f.Log)
			return err
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
