package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// image is the part of a segment that is an item, in the place of a file of its own.
type image struct {
	storedFile
	part *io.SectionReader
}

// ReadAt reads from the image alone.
func (i image) ReadAt(p []byte, at int64) (int, error) { return i.part.ReadAt(p, at) } //nolint:wrapcheck // io.EOF must stay what it is

// Size is that of the image.
func (i image) Size() (int64, error) { return i.part.Size(), nil }

// section is the image of a shared entry in its segment.
func (e *entry) section(f storedFile) image {
	return image{f, io.NewSectionReader(f, e.at, e.bytes-recordHead)}
}

// openItem opens what is stored of an entry, which may be a copy.
func (s *Spool) openItem(e *entry) (storedFile, error) {
	if !e.shared {
		return s.vol.open(itemName(e.id, e.ext))
	}
	for last := ""; ; {
		s.mu.Lock()
		now := entry{id: e.id, segment: e.segment, at: e.at, bytes: e.bytes}
		if current := s.entries[e.id]; current != nil {
			now.segment, now.at = current.segment, current.at
		}
		name := now.segment.name
		s.mu.Unlock()
		f, err := s.vol.open(name)
		if errors.Is(err, fs.ErrNotExist) && name != last {
			last = name // it was closed, or the item has moved, since: look where it is now
			continue
		}
		if err != nil {
			return nil, err
		}
		return now.section(f), nil
	}
}

// eraseShared forgets an item of the journal, synced. On a disk that takes no more data it leaves a mark, which needs none.
func (s *Spool) eraseShared(e *entry) error {
	err := s.journal.do(&request{kind: recordGone, id: e.id, entry: e})
	if err == nil {
		return nil
	}
	f, markErr := s.vol.create(itemName(e.id, extGone))
	if markErr == nil {
		markErr = f.Close()
	}
	if markErr == nil {
		markErr = s.sync.do()
	}
	if markErr == nil {
		return nil
	}
	return errors.Join(err, markErr)
}

// setAside copies a damaged item of the journal to where an operator can look at it, and forgets it in the journal. It reports whether nothing of it is
// needed in the journal any more.
func (s *Spool) setAside(e *entry) bool {
	if err := s.copyAside(e); err != nil {
		s.log.Error("an item could not be set aside", "item", e.id, "error", err)
		return false
	}
	if err := s.eraseShared(e); err != nil {
		s.log.Error("setting an item aside could not be synced", "item", e.id, "error", err) // the next Open finds it again
	}
	return true
}

func (s *Spool) copyAside(e *entry) error {
	f, err := s.openItem(e)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, e.bytes-recordHead)
	if _, err := f.ReadAt(b, 0); err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	s.mu.Lock()
	name := s.asideNameLocked(string(e.id))
	s.mu.Unlock()
	if err := s.writeFile(name, b); err != nil {
		return err
	}
	if err := s.vol.sync(quarantineDir); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quarantined++
	return nil
}
