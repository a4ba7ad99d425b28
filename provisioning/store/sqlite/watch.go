package sqlite

import (
	"context"
	"sync"

	"github.com/towpath/towpath/provisioning/store"
)

// watch holds the last committed generation and wakes who waits for a later one.
type watch struct {
	mu         sync.Mutex
	generation uint64
	closed     bool
	// changed is closed and replaced with every rise, and closed for good by close.
	changed chan struct{}
}

func newWatch(generation uint64) *watch {
	return &watch{generation: generation, changed: make(chan struct{})}
}

// raise is called after a commit. Commits may report out of order; the generation never falls.
func (w *watch) raise(generation uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || generation <= w.generation {
		return
	}
	w.generation = generation
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watch) above(ctx context.Context, have uint64) (uint64, error) {
	for {
		w.mu.Lock()
		generation, closed, changed := w.generation, w.closed, w.changed
		w.mu.Unlock()
		switch {
		case closed:
			return 0, store.ErrClosed
		case generation > have:
			return generation, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.changed)
	}
}

func (w *watch) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}
