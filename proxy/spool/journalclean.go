package spool

import (
	"errors"
	"fmt"
	"time"
)

// cleanPause is how long the journal is not compacted after that failed.
const cleanPause = time.Minute

// clean removes segments that hold no items any more. Where old items keep too many dead bytes around, it first copies the oldest of them to the end.
func (j *journal) clean() {
	j.retire()
	if len(j.segments) == 0 || j.segments[0] == j.active || j.segments[0] == j.broken || time.Now().Before(j.pause) {
		return
	}
	j.spool.mu.Lock()
	var live int64
	for _, seg := range j.segments {
		live += seg.bytes
	}
	j.spool.mu.Unlock()
	if j.size.Load()-live <= live+j.slack {
		return
	}
	if err := j.compact(j.segments[0]); err != nil {
		j.pause = time.Now().Add(cleanPause)
		j.spool.log.Warn("the journal of the queue could not be made smaller, it will be tried again", "error", err)
		return
	}
	j.retire()
}

// retire removes the oldest segments while they hold no items. They go in their order, each synced before the next, since a later one says which items of
// the earlier are gone.
func (j *journal) retire() {
	s := j.spool
	for len(j.segments) > 0 {
		seg := j.segments[0]
		s.mu.Lock()
		items, name := seg.items, seg.name
		s.mu.Unlock()
		if items > 0 || seg == j.active || seg == j.broken {
			return
		}
		err := s.vol.remove(name)
		if err == nil {
			j.forget(seg)
			err = s.vol.sync(journalDir)
		}
		if err != nil {
			s.log.Warn("a file of the queue's journal could not be removed", "error", err) // the next group or Open tries again
			return
		}
	}
}

// compact copies the items of a segment to the end of the journal.
func (j *journal) compact(seg *segment) error {
	s := j.spool
	var group []*request
	s.mu.Lock()
	name := seg.name
	for _, e := range s.entries {
		if e.segment == seg && !e.left {
			group = append(group, &request{kind: recordItem, id: e.id, ext: e.ext, entry: e, at: e.at, image: make([]byte, e.bytes-recordHead)})
		}
	}
	s.mu.Unlock()
	if len(group) == 0 {
		return errors.New("it holds what is damaged and could not be set aside")
	}
	f, err := s.vol.open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for _, c := range group {
		// A damaged one goes along as it is: who reads it will see, and set it aside.
		if _, err := f.ReadAt(c.image, c.at); err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
	}
	return j.write(group, true)
}
