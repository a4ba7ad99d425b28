package spool

import (
	"fmt"
	"strconv"
	"strings"
)

// Sequence numbers are reserved in blocks, so that an empty Spool does not start again from one after a restart, whatever the clock
// says.
const (
	sequenceName    = "sequence"
	sequenceBlock   = 1 << 20
	maxSequenceText = 32
)

// nextLocked gives out a sequence number.
func (s *Spool) nextLocked() (uint64, error) {
	if s.next >= s.reserved {
		if err := s.reserveLocked(); err != nil {
			return 0, err
		}
	}
	n := s.next
	s.next++
	return n, nil
}

// reserveLocked makes it durable that numbers up to a block ahead of next may have been used.
func (s *Spool) reserveLocked() error {
	upTo := s.next + sequenceBlock
	temporary := sequenceName + extTemporary
	_ = s.vol.remove(temporary)
	if err := s.writeFile(temporary, []byte(strconv.FormatUint(upTo, 16)+"\n")); err != nil {
		return fmt.Errorf("reserve item numbers: %w", full(err))
	}
	if err := s.vol.rename(temporary, sequenceName); err != nil {
		return fmt.Errorf("reserve item numbers: %w", err)
	}
	if err := s.vol.sync(rootDir); err != nil {
		return fmt.Errorf("reserve item numbers: %w", err)
	}
	s.reserved = upTo
	return nil
}

// readSequence returns the end of the last block that was reserved.
func (s *Spool) readSequence() (uint64, error) {
	f, err := s.vol.open(sequenceName)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	text := make([]byte, min(size, maxSequenceText))
	if _, err := f.ReadAt(text, 0); err != nil {
		return 0, fmt.Errorf("read the sequence: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(string(text), "\n"), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: the sequence is not a number", ErrCorrupt)
	}
	return n, nil
}

// writeFile writes a small file whole and synced. Its folder is not synced.
func (s *Spool) writeFile(name string, content []byte) error {
	f, err := s.vol.create(name)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = s.vol.remove(name)
		return fmt.Errorf("write a file of the queue: %w", err)
	}
	return nil
}
