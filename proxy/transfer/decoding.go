package transfer

import (
	"sync"
	"time"
)

// reportsFrom is the version of the codec from which on both ends know kindDecoding.
const reportsFrom = 2

// decoding is how fast a receiver decodes what one sender sends, all lanes together: the time in which any block was being decoded, by the bytes
// of original that came of it.
type decoding struct {
	mu     sync.Mutex
	active int
	since  time.Time // until then busy is counted
	busy   time.Duration
	bytes  int // since the last report
	ns     float64
}

func (d *decoding) countLocked(now time.Time) {
	if d.active > 0 {
		d.busy += now.Sub(d.since)
	}
	d.since = now
}

// begin starts on a block.
func (d *decoding) begin(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.countLocked(now)
	d.active++
}

// end is called for each begin, with the size of the original in bytes.
func (d *decoding) end(size int, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.countLocked(now)
	d.active--
	d.bytes += size
}

// report returns the picoseconds that a byte took of late, and whether anything was decoded since the last report.
func (d *decoding) report() (psPerByte uint64, news bool) {
	const weight = 0.3
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bytes == 0 {
		return uint64(d.ns * 1000), false
	}
	now := float64(d.busy.Nanoseconds()) / float64(d.bytes)
	if d.ns == 0 {
		d.ns = now
	}
	d.ns += weight * (now - d.ns)
	d.busy, d.bytes = 0, 0
	return uint64(d.ns * 1000), true
}

const (
	// farFresh is how long a report of the receiver counts in full. After that half of it does, so that the codec is tried again.
	farFresh = 5 * time.Second
	// bestFor is how long the best rate of the line counts. A receiver that decodes slowly holds up acknowledgments, and the line then looks
	// slower than it is.
	bestFor = 30 * time.Second
	// farPart is the part of the time that a block takes raw in which the receiver must decode it.
	farPart = 0.8
	// maxFar is the most nanoseconds for a byte that are believed.
	maxFar = 1e6
)

// heard takes in a report of the receiver.
func (s *speed) heard(psPerByte uint64, now time.Time) {
	s.far, s.farAt = min(float64(psPerByte)/1000, maxFar), now
}

// line takes in a measured rate of the line in bytes/s.
func (s *speed) line(rate float64, now time.Time) {
	if rate >= s.best || now.Sub(s.bestAt) > bestFor {
		s.best, s.bestAt = rate, now
	}
}

// keepsUp reports whether the receiver decodes more than the line carries raw, with something to spare.
func (s *speed) keepsUp(now time.Time) bool {
	far := s.far
	if now.Sub(s.farAt) > farFresh {
		far /= 2
	}
	return far/1e9*s.best <= farPart
}
