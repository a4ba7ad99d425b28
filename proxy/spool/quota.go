package spool

import "fmt"

// Limits bound what one queue may hold, so that a receiver that is away does not take the space of others. Zero is no bound.
type Limits struct {
	// MaxBytes bounds the bytes of all files of items, finished or not.
	MaxBytes int64
	// MaxItems bounds the items in whatever state, and those being written.
	MaxItems int
}

// The marks. What is full takes nothing new until some room was made: without that, a producer that tries again and again would get one
// item in for each that is delivered, and a study would arrive in shreds.
const (
	// highPart of a bound of bytes is left for items that were begun already.
	highPart = 20
	// lowPart of a bound must be free again.
	lowPart = 7
)

// gate is what lets new items in.
type gate struct{ shut bool }

// look decides by what there is. It stays shut from high until there is no more than low.
func (g *gate) look(used, high, low int64) bool {
	switch {
	case used >= high:
		g.shut = true
	case used <= low:
		g.shut = false
	}
	return !g.shut
}

// bytes is look with the marks of a bound of bytes.
func (g *gate) bytes(used, limit int64) bool {
	return limit <= 0 || g.look(used, limit-limit/highPart, limit-limit/lowPart)
}

// items is look with the marks of a bound of items, which is reached exactly.
func (g *gate) items(used, limit int) bool {
	return limit <= 0 || g.look(int64(used), int64(limit), int64(limit-max(limit/lowPart, 1)))
}

// space is look with the marks of free space, where less is worse.
func (g *gate) space(free, least int64) bool {
	return g.look(-free, -(least + least/4), -(least + least/2))
}

// Limit bounds a queue from now on; the choice is not stored. What is there stays, also above the bound.
func (s *Spool) Limit(name string, l Limits) error {
	if err := validQueue(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queueLocked(name)
	q.limits = Limits{MaxBytes: max(l.MaxBytes, 0), MaxItems: max(l.MaxItems, 0)}
	return nil
}

// fullLocked names the limit that keeps new items out of a queue, or nothing.
func (q *queue) fullLocked() string {
	switch {
	case !q.items.items(len(q.entries)+q.writers, q.limits.MaxItems):
		return "items"
	case !q.bytes.bytes(q.used, q.limits.MaxBytes):
		return "bytes"
	}
	return ""
}

// admitLocked returns ErrFull, with the limit that is reached, or counts one more writer.
func (s *Spool) admitLocked(q *queue) error {
	switch q.fullLocked() {
	case "items":
		return fmt.Errorf("%w: %s holds %d of at most %d items", ErrFull, q.name, len(q.entries)+q.writers, q.limits.MaxItems)
	case "bytes":
		return fmt.Errorf("%w: %s holds %d of at most %d bytes", ErrFull, q.name, q.used, q.limits.MaxBytes)
	}
	if !s.total.bytes(s.used, s.opts.MaxBytes) {
		return fmt.Errorf("%w: all queues together hold %d of at most %d bytes", ErrFull, s.used, s.opts.MaxBytes)
	}
	q.writers++
	return nil
}

// takeLocked counts n more bytes of an item of q, or refuses.
func (s *Spool) takeLocked(q *queue, n int64) error {
	if limit := q.limits.MaxBytes; limit > 0 && q.used+n > limit {
		return fmt.Errorf("%w: %s holds %d of at most %d bytes", ErrFull, q.name, q.used, limit)
	}
	if limit := s.opts.MaxBytes; limit > 0 && s.used+n > limit {
		return fmt.Errorf("%w: all queues together hold %d of at most %d bytes", ErrFull, s.used, limit)
	}
	s.countLocked(q, n)
	return nil
}

// countLocked counts n more bytes, or less.
func (s *Spool) countLocked(q *queue, n int64) {
	s.used += n
	q.used += n
}

// checkFree refuses when the filesystem is nearly full, new items a little earlier than more of one that was begun.
func (s *Spool) checkFree(begun bool) error {
	least := s.opts.MinFreeBytes
	if least < 0 {
		return nil
	}
	free, err := s.vol.free()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !begun && !s.space.space(free, least) || free < least {
		return fmt.Errorf("%w: %d bytes are free on the disk, %d must stay free", ErrFull, free, least)
	}
	return nil
}
