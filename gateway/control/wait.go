package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Bounds of how long a box waits before it asks again, whatever the coordinator says.
const (
	waitLeast = time.Second
	waitMost  = 5 * time.Minute
	// waitUnanswered is how long a box that waits tries to reach a coordinator that has stopped answering.
	waitUnanswered = 24 * time.Hour
)

// WaitError means that the token was good and that somebody at the center has to agree before the box gets its map.
type WaitError struct {
	// Message is the coordinator's, for the person at the box.
	Message string
	// After is when to ask again.
	After time.Duration
}

func (e *WaitError) Error() string { return e.Message }

func newWaitError(w wire.Wait) *WaitError {
	message := clean(w.Message, Proxy{})
	if message == "" {
		message = "the center has to agree first"
	}
	after := waitMost
	if w.After < int(waitMost/time.Second) {
		after = max(time.Duration(w.After)*time.Second, waitLeast)
	}
	return &WaitError{Message: message, After: after}
}

// EnrollPatiently is Enroll for a box that waits until the center has agreed: it asks again when it is told to, as it was answered before
// and otherwise in all ways. tell is called with each *WaitError, and with the reason when the coordinator cannot be reached meanwhile,
// which it survives for a day. It ends with ctx, whose error is wrapped; the same key and token go on where it ended.
func EnrollPatiently(ctx context.Context, ways Ways, tok wire.Token, key wgkey.PrivateKey, facts wire.Facts, tell func(error)) (Enrolled, error) {
	e, err := newEnroller(ways, tok, key, facts)
	if err != nil {
		return Enrolled{}, err
	}
	var after time.Duration
	var heard time.Time // when the coordinator answered last
	for {
		got, err := e.ask(ctx)
		if ctx.Err() != nil && err != nil {
			return Enrolled{}, fmt.Errorf("wait for the center: %w", ctx.Err())
		}
		wait, waits := errors.AsType[*WaitError](err)
		switch {
		case waits:
			after, heard = wait.After, time.Now()
		case passing(err) && !heard.IsZero() && time.Since(heard) < waitUnanswered:
			// After a restart, or behind a line that comes and goes, it is the same coordinator.
		default:
			return got, err
		}
		tell(err)
		if err := pause(ctx, after); err != nil {
			return Enrolled{}, err
		}
	}
}

// passing reports whether asking again may help.
func passing(err error) bool {
	if r, ok := errors.AsType[*wire.Refusal](err); ok {
		return r.Code == unavailable
	}
	_, failed := errors.AsType[*EnrollError](err)
	return failed
}

// unavailable is the code of a wire.Refusal that says nothing about the token: the coordinator has a problem, or too much to do.
const unavailable = "unavailable"

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for the center: %w", ctx.Err())
	case <-t.C:
		return nil
	}
}
