package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
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

// retire removes the oldest segments while they hold no items, or sets them aside if something in them is damaged. They go in their order, each synced before the next, since a later one says which items of
// the earlier are gone.
func (j *journal) retire() {
	s := j.spool
	for len(j.segments) > 0 {
		seg := j.segments[0]
		s.mu.Lock()
		wanted, name, aside := seg.items > seg.stuck, seg.name, seg.spoiled || seg.stuck > 0
		s.mu.Unlock()
		if wanted || seg == j.active || seg == j.broken {
			return
		}
		if aside {
			if !j.setAside(name, seg.number) {
				return
			}
			j.forget(seg)
			continue
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
	var items []*request
	s.mu.Lock()
	name := seg.name
	for _, e := range s.entries {
		if e.segment == seg && !e.left {
			items = append(items, &request{kind: recordItem, id: e.id, ext: e.ext, entry: e, at: e.at, size: e.bytes - recordHead})
		}
	}
	s.mu.Unlock()
	if len(items) == 0 {
		return errors.New("what is in its oldest file is not in the books")
	}
	slices.SortFunc(items, func(a, b *request) int { return cmp.Compare(a.at, b.at) })
	f, err := s.vol.open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for len(items) > 0 {
		n := 0
		for size := int64(0); n < len(items) && size < groupSize; n++ {
			if err := j.fetch(f, seg, items[n]); err != nil {
				return err
			}
			size += recordHead + items[n].size
		}
		if err := j.write(items[:n], n == len(items)); err != nil {
			return err
		}
		for _, c := range items[:n] {
			c.image = nil
		}
		items = items[n:]
	}
	return nil
}

// fetch reads the image of an item that is to be copied. A damaged one goes along as it is: who reads it will see, and set it aside. So does, at
// the second attempt, one of which the disk does not give all: otherwise the segment could never go, nor any behind it, until the disk is full.
func (j *journal) fetch(f io.ReaderAt, seg *segment, c *request) error {
	c.image = make([]byte, c.size)
	_, err := f.ReadAt(c.image, c.at)
	switch {
	case err == nil:
		return nil
	case starved(err):
		return fmt.Errorf("read the journal: %w", err)
	case j.unread != seg && !seg.spoiled:
		j.unread = seg
		return fmt.Errorf("read the journal: %w", err)
	}
	seg.spoiled = true
	j.spool.log.Error("a part of the queue's journal cannot be read, its file will be set aside", "item", c.id, "error", err)
	salvage(f, c.image, c.at)
	return nil
}
