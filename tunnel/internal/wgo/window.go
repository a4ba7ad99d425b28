package wgo

import (
	"sync"
	"time"
)

// maxHeld is how many packets WireGuard may hold in one direction before no more are given to it. Each occupies a buffer of 64 KiB whatever its
// size; a batch of 128 may come on top.
const maxHeld = 256

// staleAfter is how long at least, and twice as long at most, a packet counts of which nothing more is heard: WireGuard does not tell what it
// drops, or keeps for a peer that does not answer.
const staleAfter = 50 * time.Millisecond

// window counts the packets that WireGuard holds in one direction.
type window struct {
	limit int

	mu     sync.Mutex
	young  int // packets taken since turned
	old    int // packets taken in the period before
	turned time.Time
	wake   chan struct{} // closed when packets were given back; nil if nobody waits
}

func newWindow(limit int) *window { return &window{limit: limit, turned: time.Now()} }

// wait returns when there is room, which is after twice staleAfter at the latest.
func (w *window) wait() {
	for {
		wake, rest := w.full()
		if wake == nil {
			return
		}
		timer := time.NewTimer(rest)
		select {
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// full returns nil if there is room, or else what is closed when packets were given back, and when some will be forgotten.
func (w *window) full() (wake <-chan struct{}, rest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn()
	if w.young+w.old < w.limit {
		return nil, 0
	}
	if w.wake == nil {
		w.wake = make(chan struct{})
	}
	return w.wake, staleAfter - time.Since(w.turned)
}

func (w *window) take(n int) {
	if n == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn()
	w.young += n
}

// giveBack takes the oldest first. More than there are is no error: some may have been forgotten.
func (w *window) giveBack(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fromOld := min(n, w.old)
	w.old -= fromOld
	w.young -= min(n-fromOld, w.young)
	if w.wake != nil {
		close(w.wake)
		w.wake = nil
	}
}

// turn begins a new period, if it is time, and forgets what is older than the last one.
func (w *window) turn() {
	since := time.Since(w.turned)
	if since < staleAfter {
		return
	}
	w.old, w.young = w.young, 0
	if since >= 2*staleAfter {
		w.old = 0
	}
	w.turned = time.Now()
}

// lent is a batch of buffers that WireGuard lent to be filled. In the next batch it has replaced those that it still holds.
type lent struct {
	first []*byte // of the buffers that were filled; nil if WireGuard is not going to hold that one for long
}

// kept is how many of the filled buffers have been replaced. Bufs are those of the next batch.
func (l *lent) kept(bufs [][]byte) (n int) {
	for i, p := range l.first {
		if p != nil && i < len(bufs) && &bufs[i][0] != p {
			n++
		}
	}
	clear(l.first)
	l.first = l.first[:0]
	return n
}

// fill notes that the first n of bufs were filled, those that count.
func (l *lent) fill(bufs [][]byte, n int, counts func(i int) bool) {
	for i := range n {
		p := &bufs[i][0]
		if !counts(i) {
			p = nil
		}
		l.first = append(l.first, p)
	}
}
