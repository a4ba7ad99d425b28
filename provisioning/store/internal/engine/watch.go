package engine

import (
	"context"
	"sync"

	"github.com/towpath/towpath/provisioning/store"
)

// Watch holds the last committed generation that a Store knows of and wakes who waits for a later one.
type Watch struct {
	mu         sync.Mutex
	generation uint64
	closed     bool
	// changed is closed and replaced with every rise, and closed for good by Close.
	changed chan struct{}
}

// NewWatch starts at a generation.
func NewWatch(generation uint64) *Watch {
	return &Watch{generation: generation, changed: make(chan struct{})}
}

// Raise is called after a commit. Commits may report out of order; the generation never falls.
func (w *Watch) Raise(generation uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || generation <= w.generation {
		return
	}
	w.generation = generation
	close(w.changed)
	w.changed = make(chan struct{})
}

// Above returns as soon as the generation is above have, store.ErrClosed after Close.
func (w *Watch) Above(ctx context.Context, have uint64) (uint64, error) {
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

// Generation returns the last one told.
func (w *Watch) Generation() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.generation
}

// Close makes every Above return, now and later.
func (w *Watch) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.changed)
	}
}

// Closed says whether Close was called.
func (w *Watch) Closed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}
