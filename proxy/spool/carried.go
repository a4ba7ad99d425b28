package spool

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Carried keeps the item until Resolve says what its receiver answered. When it returns an error the item is carried, but may be queued
// again after a restart: the far gateway must know it again by its ID and digest.
func (l *lease) Carried(r Receipt) error {
	if err := l.end(); err != nil {
		return err
	}
	s, e := l.spool, l.entry
	defer s.ops.Done()
	s.tell(Change{Item: l.Item(), Step: StepCarried, Receipt: r})
	renamed, err := s.move(e, extCarried)
	s.mu.Lock()
	defer s.mu.Unlock()
	if renamed {
		e.ext = extCarried
	}
	e.releaseLocked()
	e.state, e.notBefore, e.lastError = StateCarried, time.Time{}, ""
	if e.queue.ordered && e.queue.behindParked(e) {
		e.queue.overtook++
	}
	e.queue.lastError = ""
	return err
}

// Carried returns the items of a queue that the far gateway has and whose receiver has not been heard of, oldest first. An item whose file
// cannot be read now is listed without attributes.
func (s *Spool) Carried(name string) ([]Item, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.ops.Done()
	return s.items(name, func(e *entry) bool { return e.state == StateCarried && !e.leased }, -1), nil
}

// items describes what fits of a queue, oldest first, up to a limit that is not negative.
func (s *Spool) items(name string, fits func(*entry) bool, limit int) []Item {
	s.mu.Lock()
	var found []entry
	if q := s.queues[name]; q != nil {
		for _, e := range q.entries {
			if fits(e) {
				found = append(found, *e)
			}
		}
	}
	s.mu.Unlock()
	slices.SortFunc(found, func(a, b entry) int { return strings.Compare(string(a.id), string(b.id)) })
	if limit < 0 {
		limit = len(found)
	}
	list := make([]Item, 0, min(limit, len(found)))
	for _, e := range found {
		if len(list) >= limit {
			break
		}
		d, err := s.describe(&e)
		if (err != nil || d.locked) && !s.Holds(e.id) {
			continue // delivered since
		}
		if err != nil {
			d = description{Meta: Meta{Queue: name, Priority: int(e.priority)}, Size: e.size, Created: e.created}
		}
		list = append(list, e.item(d))
	}
	return list
}

// Outcome is what became of a carried item. Make it with Done, Park or Requeue.
type Outcome struct {
	kind    outcomeKind
	cause   error
	receipt Receipt
}

type outcomeKind int

const (
	outcomeRequeue outcomeKind = iota
	outcomeDone
	outcomePark
)

// Done is an item that its receiver has: it is forgotten.
func Done(r Receipt) Outcome { return Outcome{kind: outcomeDone, receipt: r} }

// Park is an item that its receiver refused for good. The cause must not hold patient data.
func Park(cause error) Outcome { return Outcome{kind: outcomePark, cause: cause} }

// Requeue is an item that the far gateway does not have after all: it is queued at its old place, with its attempts forgotten.
func Requeue() Outcome { return Outcome{} }

// Resolve ends StateCarried, synced. It returns ErrUnknown when no such item is carried, as after an answer that came twice, and ErrLeased
// while another call is about the same item. After any other error the item may be carried again after a restart, and unless its receiver has
// it may be so still: resolve it again.
func (s *Spool) Resolve(id ID, o Outcome) error {
	e, err := s.borrow(id, func(e *entry) bool { return e.state == StateCarried })
	if err != nil {
		return err
	}
	defer s.ops.Done()
	switch o.kind {
	case outcomeDone:
		return s.arrived(e, o.receipt)
	case outcomePark:
		return s.reject(e, o.cause)
	case outcomeRequeue:
		return s.requeue(e)
	}
	panic(fmt.Sprintf("outcome %d", o.kind))
}

// Arrived forgets an item, synced, that its receiver has although it is not carried: its way there was not recorded before the machine
// stopped, or it was parked here and delivered there after all. Like the other ends that were good, OnDelivered hears of it. It returns ErrUnknown
// when there is no such item, and ErrLeased while another call is about it.
func (s *Spool) Arrived(id ID, r Receipt) error {
	e, err := s.borrow(id, func(*entry) bool { return true })
	if err != nil {
		return err
	}
	defer s.ops.Done()
	return s.arrived(e, r)
}

// arrived forgets a borrowed entry whose item is delivered.
func (s *Spool) arrived(e *entry, r Receipt) error {
	s.tellDelivered(s.itemOf(e), r)
	err := s.erase(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.releaseLocked()
	if err != nil {
		keepEpochLocked(e.epoch)
	}
	s.forgetLocked(e)
	e.queue.delivered++
	e.queue.deliveredBytes += e.size
	e.queue.lastError = ""
	return err
}

// reject parks a borrowed entry.
func (s *Spool) reject(e *entry, cause error) error {
	s.mu.Lock()
	e.failedLocked(cause)
	n := note{Attempts: e.attempts, LastError: e.lastError}
	s.mu.Unlock()
	s.tellOf(e, StepParked)
	s.writeNote(e.id, n)
	renamed, err := s.move(e, extParked)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.releaseLocked()
	if !renamed {
		return err
	}
	e.ext, e.state, e.notBefore = extParked, StateParked, time.Time{}
	e.queue.park(e)
	return err
}

// requeue queues a borrowed entry again.
func (s *Spool) requeue(e *entry) error {
	s.tellOf(e, StepQueued)
	renamed, err := s.move(e, extQueued)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.releaseLocked()
	if !renamed {
		return err
	}
	e.ext, e.state, e.attempts, e.lastError, e.notBefore = extQueued, StateQueued, 0, "", time.Time{}
	e.queue.add(e)
	return err
}
