package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Get describes one item. It returns ErrUnknown when there is none.
func (s *Spool) Get(id ID) (Item, error) {
	if err := s.begin(); err != nil {
		return Item{}, err
	}
	defer s.ops.Done()
	e, err := s.look(id)
	if err != nil {
		return Item{}, err
	}
	d, err := s.describe(&e)
	if (err != nil || d.locked) && !s.Holds(id) {
		return Item{}, ErrUnknown // delivered since
	}
	if err != nil {
		return Item{}, fmt.Errorf("read the item: %w", err)
	}
	return e.item(d), nil
}

// Payload reads the bytes of an item without a lease: whoever delivers it is not disturbed. The caller closes it before the Spool. Content is
// checked as by Lease.Open.
func (s *Spool) Payload(id ID) (io.ReadCloser, error) {
	item, err := s.Get(id)
	if err != nil {
		return nil, err
	}
	if item.Locked {
		return nil, ErrNoKey
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.ops.Done()
	e, err := s.look(id)
	if err != nil {
		return nil, err
	}
	f, err := s.openItem(&e)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("open the item: %w", err)
	}
	p, err := s.payload(f, &e, item)
	if errors.Is(err, ErrNoKey) && !s.Holds(id) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// look copies what is in memory of an item.
func (s *Spool) look(id ID) (entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil {
		return entry{}, ErrUnknown
	}
	return *e, nil
}

// RetryNow makes one item due at once: a parked one is unparked, one that waits for its next attempt stops waiting, and one that is carried
// is sent again. It returns ErrLeased while the item is being delivered.
func (s *Spool) RetryNow(id ID) error {
	s.mu.Lock()
	e := s.entries[id]
	if e != nil && e.state == StateCarried {
		s.mu.Unlock()
		return s.Resolve(id, Requeue())
	}
	if e == nil || e.leased || e.state != StateQueued {
		s.mu.Unlock()
		return s.Unpark(id)
	}
	defer s.mu.Unlock()
	e.queue.withdraw(e)
	e.notBefore = time.Time{}
	e.queue.add(e)
	return nil
}

// Hold parks a queued item until it is unparked or dropped. The reason must not hold patient data. It returns ErrLeased while the item is
// being delivered, and ErrUnknown when no such item is queued.
func (s *Spool) Hold(id ID, reason string) error {
	e, err := s.borrow(id, func(e *entry) bool { return e.state == StateQueued })
	if err != nil {
		return err
	}
	defer s.ops.Done()
	reason = limitText(reason)
	s.tellOf(e, StepParked)
	s.writeNote(id, note{Attempts: e.attempts, LastError: reason})
	renamed, err := s.move(e, extParked)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.releaseLocked()
	if !renamed {
		e.queue.add(e)
		return err
	}
	e.ext, e.state, e.lastError, e.notBefore = extParked, StateParked, reason, time.Time{}
	e.queue.park(e)
	return err
}
