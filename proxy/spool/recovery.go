package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// rebuild makes the books from the directory: it removes what was being written, sets damaged items aside, and counts the rest.
func (s *Spool) rebuild() error {
	names, err := s.vol.list(itemsDir)
	if err != nil {
		return err
	}
	quarantined, err := s.vol.list(quarantineDir)
	if err != nil {
		return err
	}
	s.quarantined = len(quarantined)
	segments, err := s.vol.list(journalDir)
	if err != nil {
		return err
	}
	if err := s.recoverSequence(slices.Concat(names, quarantined, segments)); err != nil {
		return err
	}
	if err := s.loadEpochs(); err != nil {
		return err
	}
	slices.Sort(names) // .item before .parked of the same ID
	items, err := s.journal.load(segments)
	if err != nil {
		return err
	}
	gone, damaged, err := s.recoverJournal(items, marked(names))
	if err != nil {
		return err
	}
	foreign := 0
	var preferred []ID
	for _, name := range slices.Backward(names) {
		id, ext, ours := parseName(name)
		switch {
		case !ours:
			foreign++
		case ext == extPriority:
			preferred = append(preferred, id)
		case ext == extTemporary:
			err = s.vol.remove(itemsDir + "/" + name)
		case ext == extGone:
			if !slices.Contains(gone, id) {
				err = s.vol.remove(itemsDir + "/" + name)
			}
		case ext == extNote:
			if e := s.entries[id]; e == nil || e.state != StateParked {
				err = s.vol.remove(itemsDir + "/" + name)
			}
		default:
			err = s.recoverItem(id, ext)
		}
		if err != nil {
			return err
		}
	}
	if err := s.recoverPriorities(preferred); err != nil {
		return err
	}
	if foreign > 0 {
		s.log.Warn("files that are not of the queue lie in its directory and are left alone", "files", foreign)
	}
	// What a killed process has renamed may not be synced yet, and will now be counted on.
	if err := s.vol.sync(itemsDir); err != nil {
		return err
	}
	s.forgetShared(gone, damaged)
	s.journal.retire()
	if err := s.sweepEpochs(); err != nil {
		return err
	}
	s.log.Info("queue recovered", "items", len(s.entries), "bytes", s.used, "quarantined", s.quarantined)
	return nil
}

// marked returns the items that a mark says are gone.
func marked(names []string) map[ID]bool {
	list := map[ID]bool{}
	for _, name := range names {
		if id, ext, ours := parseName(name); ours && ext == extGone {
			list[id] = true
		}
	}
	return list
}

func parseName(name string) (id ID, ext string, ours bool) {
	stem, ext, _ := strings.Cut(name, ".")
	id, ext = ID(stem), "."+ext
	_, ours = id.sequence()
	return id, ext, ours && (ext == extTemporary || ext == extQueued || ext == extParked || ext == extCarried || ext == extNote || ext == extPriority || ext == extGone)
}

func (s *Spool) recoverItem(id ID, ext string) error {
	e := &entry{id: id, ext: ext, state: stateOf(ext)}
	d, err := s.readDescription(e)
	if starved(err) {
		return err
	}
	if err == nil && s.entries[id] != nil {
		err = fmt.Errorf("%w: the item exists twice", ErrCorrupt)
	}
	if err != nil {
		s.log.Error("an item is damaged and was set aside", "item", id, "error", err)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.quarantineLocked(itemName(id, ext), string(id))
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.bytes = d.fileSize
	s.recoverLocked(e, d)
	return nil
}

// recoverLocked takes an item into the books.
func (s *Spool) recoverLocked(e *entry, d description) {
	e.size, e.created, e.queue, e.priority = d.Size, d.Created, s.queueLocked(d.Queue), int8(d.Priority)
	if e.state == StateParked {
		e.attempts, e.lastError = s.readNote(e.id)
	}
	e.epoch = s.epochOfLocked(d)
	s.countLocked(e.queue, e.bytes)
	s.insertLocked(e)
}

func stateOf(ext string) State {
	switch ext {
	case extParked:
		return StateParked
	case extCarried:
		return StateCarried
	}
	return StateQueued
}

// starved tells a lack of means, which says nothing about the file, from a file that cannot be read.
func starved(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// recoverSequence starts behind every number that was ever given out.
func (s *Spool) recoverSequence(names []string) error {
	n, err := s.readSequence()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if starved(err) {
			return err
		}
		s.log.Error("the sequence of the queue is damaged, item numbers start behind the highest one found", "error", err)
		n = sequenceBlock
	}
	s.next = max(n, 1)
	for _, name := range names {
		stem, _, _ := strings.Cut(name, ".")
		for part := range strings.SplitSeq(stem, "-") {
			if sequence, ok := ID(part).sequence(); ok && sequence >= s.next {
				s.next = sequence + 1
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reserveLocked(); err != nil && !errors.Is(err, ErrFull) {
		return err
	}
	return nil
}
