package spool

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors of what an operator asks for.
var (
	// ErrUnknown means that there is no such item, or no longer.
	ErrUnknown = errors.New("there is no such item")
	// ErrLeased means that the item is being delivered just now: try again.
	ErrLeased = errors.New("the item is being delivered")
)

// List returns up to limit items of a queue, oldest first, whatever their state. An item whose file cannot be read now is listed without
// attributes.
func (s *Spool) List(name string, limit int) ([]Item, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.ops.Done()
	return s.items(name, func(*entry) bool { return true }, max(limit, 0)), nil
}

// Holds reports whether an item is there, in whatever state.
func (s *Spool) Holds(id ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[id] != nil
}

// Unpark queues a parked item again, at its old place and with its attempts forgotten. It returns ErrUnknown when no such item is
// parked.
func (s *Spool) Unpark(id ID) error {
	e, err := s.borrow(id, func(e *entry) bool { return e.state == StateParked })
	if err != nil {
		return err
	}
	defer s.ops.Done()
	s.tellOf(e, StepQueued)
	renamed, err := s.move(e, extQueued)
	if renamed {
		_ = s.vol.remove(itemName(id, extNote)) // otherwise the next Open does it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.releaseLocked()
	if !renamed {
		e.queue.park(e)
		return err
	}
	e.ext, e.state, e.attempts, e.lastError, e.notBefore = extQueued, StateQueued, 0, "", time.Time{}
	e.queue.add(e)
	return err
}

// Halt says whether in an ordered queue a parked item holds up those behind it until it is unparked or dropped, or they pass it. They pass
// it unless told otherwise; the choice is not stored.
func (s *Spool) Halt(name string, on bool) error {
	if err := validQueue(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queueLocked(name)
	if q.halting != on {
		q.halting = on
		q.notify()
	}
	return nil
}

// RetryParked unparks all parked items of a queue and makes waiting ones due at once. It returns how many items it touched.
func (s *Spool) RetryParked(name string) (int, error) {
	s.mu.Lock()
	var parked []ID
	touched := 0
	if q := s.queues[name]; q != nil {
		for id, e := range q.entries {
			switch {
			case e.state == StateParked:
				parked = append(parked, id)
			case e.state == StateQueued && !e.leased && !e.notBefore.IsZero():
				q.withdraw(e)
				e.notBefore = time.Time{}
				q.add(e)
				touched++
			}
		}
	}
	s.mu.Unlock()
	slices.Sort(parked)
	for _, id := range parked {
		switch err := s.Unpark(id); {
		case err == nil:
			touched++
		case !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrLeased):
			return touched, fmt.Errorf("unpark the items of %s: %w", name, err)
		}
	}
	return touched, nil
}

// Drop deletes an item for good, undelivered. Only an operator may want that.
func (s *Spool) Drop(id ID) error {
	e, err := s.borrow(id, func(*entry) bool { return true })
	if err != nil {
		return err
	}
	defer s.ops.Done()
	s.tellOf(e, StepDropped)
	err = s.erase(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.releaseLocked()
	if err != nil {
		keepEpochLocked(e.epoch)
	}
	s.forgetLocked(e)
	s.log.Warn("an item was dropped by an operator", "item", id, "queue", e.queue.name)
	return err
}

// borrow leases an item out of turn, so that nobody else touches it. The caller ends that with releaseLocked, and s.ops.Done.
func (s *Spool) borrow(id ID, fits func(*entry) bool) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	switch {
	case s.closed:
		return nil, ErrClosed
	case e == nil:
		return nil, ErrUnknown
	case e.leased:
		return nil, ErrLeased
	case !fits(e):
		return nil, ErrUnknown
	}
	s.ops.Add(1)
	e.queue.withdraw(e)
	e.leased = true
	e.queue.leases++
	return e, nil
}
