package spool

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// segmentSize is when the next segment is begun, in bytes.
	segmentSize = 4 << 20
	// groupSize is about how much is written and synced together, in bytes.
	groupSize = 1 << 20
	// journalSlack is how many bytes of forgotten items the journal may hold beyond those of the items it has.
	journalSlack = 8 << 20
)

// journal writes what all ask for together. What is under way when others ask makes them wait for the next write and sync, which they share.
type journal struct {
	spool *Spool
	// segmentSize and slack are the constants but in tests.
	segmentSize, slack int64

	mu      sync.Mutex
	waiting []*request
	running bool

	// What follows belongs to the one goroutine that writes, and to Open and Close.

	segments []*segment // the oldest first
	active   *segment   // the last of them, or nil
	broken   *segment   // one whose last write or sync failed, until its end is recorded
	unread   *segment   // one of which something could not be read when it was to be compacted
	buffer   []byte
	pause    time.Time // until when nothing is compacted

	// size is that of all segments, in bytes.
	size atomic.Int64
}

// segment is a file of the journal.
type segment struct {
	number uint64
	salt   uint64
	size   int64 // as far as it is synced
	marked int64 // bytes behind that
	file   file  // while it is written
	// spoiled means that something in it could not be read: in the end it is set aside, not removed.
	spoiled bool

	// The Spool's mutex guards what follows.

	name  string
	items int   // that are in it
	bytes int64 // of their records
	stuck int   // of the items, those that are damaged, could not be set aside, and are in no book
}

// request is something to be made durable, and what follows in the books.
type request struct {
	kind  recordKind
	id    ID
	ext   string
	image []byte // of recordItem
	entry *entry // nil for an item of which there is none

	at   int64 // of the body in its segment
	size int64 // of an image that is still to be read there
	done chan struct{}
	err  error
}

// do returns when a change is durable and in the books, or failed.
func (j *journal) do(c *request) error {
	c.done = make(chan struct{})
	j.mu.Lock()
	j.waiting = append(j.waiting, c)
	if !j.running {
		j.running = true
		go j.run()
	}
	j.mu.Unlock()
	<-c.done
	return c.err
}

// run writes until nobody waits.
func (j *journal) run() {
	for {
		group, last := j.next()
		if len(group) == 0 {
			return
		}
		err := j.write(group, last)
		j.clean()
		for _, c := range group {
			c.err = err
			close(c.done)
		}
	}
}

// next takes those who wait, as far as they fit a group, and tells whether these are all.
func (j *journal) next() (group []*request, last bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for size := 0; n < len(j.waiting) && size < groupSize; n++ {
		size += recordHead + len(j.waiting[n].image)
	}
	group = j.waiting[:n:n]
	j.waiting = j.waiting[n:]
	j.running = n > 0
	return group, len(j.waiting) == 0
}

// write makes a group durable. Either all of it is or, as far as the disk obeys, nothing.
func (j *journal) write(group []*request, last bool) error {
	if err := j.ready(); err != nil {
		return fmt.Errorf("write to the journal: %w", err)
	}
	seg := j.active
	if err := j.append(seg, group); err != nil {
		j.fail()
		return fmt.Errorf("write to the journal: %w", err)
	}
	j.spool.mu.Lock()
	for _, c := range group {
		j.applyLocked(c, seg)
	}
	j.spool.mu.Unlock()
	if last {
		j.mark(seg)
	}
	return nil
}

func (j *journal) append(seg *segment, group []*request) error {
	b := j.buffer[:0]
	if seg.size == 0 {
		b = append(b, segmentMark...)
	}
	from := seg.size + seg.marked
	begin := max(seg.size, int64(len(b))) // the mark behind the last group was not synced, either
	for _, c := range group {
		c.at = from + int64(len(b)) + recordHead
		b = appendRecord(b, record{kind: c.kind, ext: c.ext, id: c.id, salt: seg.salt, group: begin}, c.image)
	}
	if j.buffer = b; cap(b) > 2*groupSize {
		j.buffer = nil
	}
	if _, err := seg.file.Write(b); err != nil {
		return err //nolint:wrapcheck // write does
	}
	if err := seg.file.Sync(); err != nil {
		return err //nolint:wrapcheck // write does
	}
	j.size.Add(from + int64(len(b)) - seg.size)
	seg.size, seg.marked = from+int64(len(b)), 0
	return nil
}

// mark says, for a start after a crash, that all that was written was synced: when something of it is bad then, it is damaged, and not half written.
func (j *journal) mark(seg *segment) {
	b := appendRecord(nil, record{kind: recordMarked, ext: extQueued, id: newID(0), salt: seg.salt, group: seg.size}, nil)
	if _, err := seg.file.Write(b); err != nil {
		j.fail()
		return
	}
	seg.marked = int64(len(b))
}

// applyLocked enters a change into the books.
func (j *journal) applyLocked(c *request, seg *segment) {
	e := c.entry
	if e == nil {
		return
	}
	switch c.kind {
	case recordItem:
		fresh := e.segment == nil
		e.leaveLocked()
		e.segment, e.at = seg, c.at
		seg.items++
		seg.bytes += e.bytes
		if fresh {
			e.queue.writers--
			j.spool.insertLocked(e)
		}
	case recordState:
		e.ext = c.ext
	case recordGone:
		e.leaveLocked()
		e.left = true
	case recordMarked: // nobody's
	}
}

// leaveLocked counts an entry out of its segment. It stays known where it was.
func (e *entry) leaveLocked() {
	if e.segment == nil || e.left {
		return
	}
	e.segment.items--
	e.segment.bytes -= e.bytes
}

// ready has a segment to write to.
func (j *journal) ready() error {
	if err := j.mend(); err != nil {
		return err
	}
	if j.active != nil && j.active.size >= j.segmentSize {
		if err := j.closeActive(); err != nil {
			return err
		}
	}
	if j.active != nil {
		return nil
	}
	return j.begin()
}

// begin makes a segment. Its name is durable before anything is in it; with it, that of the one before.
func (j *journal) begin() error {
	s := j.spool
	s.mu.Lock()
	number, err := s.nextLocked()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	seg := &segment{number: number, salt: newSalt()}
	seg.name = openName(number, seg.salt)
	if seg.file, err = s.vol.create(seg.name); err != nil {
		return err
	}
	if err = s.vol.sync(journalDir); err != nil {
		_ = seg.file.Close()
		_ = s.vol.remove(seg.name)
		return err
	}
	j.active = seg
	j.segments = append(j.segments, seg)
	return nil
}

func newSalt() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return binary.BigEndian.Uint64(b[:])
}

// fail ends a segment where it was last synced, since nobody knows what of the last write is on the disk.
func (j *journal) fail() {
	_ = j.active.file.Close()
	j.active, j.broken = nil, j.active
	if err := j.mend(); err != nil {
		j.spool.log.Error("the journal of the queue cannot be written", "error", err)
	}
}

// mend records the end of a broken segment, and returns an error when that is still to be done.
func (j *journal) mend() error {
	if j.broken == nil {
		return nil
	}
	if err := j.finish(j.broken); err != nil {
		return err
	}
	j.broken = nil
	return nil
}

// closeActive ends the segment that is written.
func (j *journal) closeActive() error {
	seg := j.active
	_ = seg.file.Close()
	j.active, j.broken = nil, seg
	return j.mend()
}

// finish records where a segment ends, synced. One that holds nothing is removed.
func (j *journal) finish(seg *segment) error {
	s := j.spool
	to := closedName(seg.number, seg.salt, seg.size)
	switch {
	case seg.size == 0:
		if err := s.vol.remove(seg.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		j.forget(seg)
	case seg.name != to:
		s.mu.Lock() // who reads the name finds the file
		err := s.vol.rename(seg.name, to)
		if err == nil {
			seg.name = to
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return s.vol.sync(journalDir)
}

// forget takes a segment off the list.
func (j *journal) forget(seg *segment) {
	for i, other := range j.segments {
		if other == seg {
			j.segments = append(j.segments[:i:i], j.segments[i+1:]...)
			j.size.Add(-seg.size)
			return
		}
	}
}

// close ends the journal of a Spool that is being closed.
func (j *journal) close() error {
	if j.active == nil {
		return j.mend()
	}
	return j.closeActive()
}
