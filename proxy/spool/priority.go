package spool

import (
	"container/heap"
	"fmt"
	"io"
	"strings"
	"time"
)

// Urgent is the priority from which an item counts as urgent; what is below is routine.
const Urgent = 5

// routineTurn is how many urgent items in a row pass a routine one that could go as well: the next one is routine, so that a flood of urgent
// items slows the others down and does not stop them.
const routineTurn = 16

// SetPriority changes the priority of a queued or parked item, synced: it survives a restart. It may be leased; then Lease.Item tells of it, and
// whoever has the lease decides what to do. It returns ErrUnknown when there is no such item, or the far gateway has it.
func (s *Spool) SetPriority(id ID, priority int) error {
	if priority < 0 || priority > MaxPriority {
		return fmt.Errorf("the priority %d is not between 0 and %d", priority, MaxPriority)
	}
	if err := s.begin(); err != nil {
		return err
	}
	defer s.ops.Done()
	s.prioritizing.Lock()
	defer s.prioritizing.Unlock()
	e, err := s.look(id)
	if err != nil {
		return err
	}
	if e.state == StateCarried {
		return ErrUnknown
	}
	if err := s.writePriority(id, priority); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.entries[id]
	if now == nil { // delivered since
		_ = s.vol.remove(itemName(id, extPriority)) // otherwise the next Open does it
		return ErrUnknown
	}
	now.priority, now.moved = int8(priority), true
	if now.heap != nil {
		heap.Fix(now.heap, now.index)
	}
	now.queue.notify()
	return nil
}

// writePriority keeps a priority beside the item: what the item's own file says never changes.
func (s *Spool) writePriority(id ID, priority int) error {
	temporary := itemName(id, extTemporary)
	_ = s.vol.remove(temporary)
	err := s.writeFile(temporary, []byte{byte('0' + priority), '\n'})
	if err == nil {
		err = s.vol.rename(temporary, itemName(id, extPriority))
	}
	if err == nil {
		err = s.sync.do()
	}
	if err != nil {
		return fmt.Errorf("keep the priority of an item: %w", err)
	}
	return nil
}

// readPriority returns what writePriority has written; false if that cannot be read.
func (s *Spool) readPriority(id ID) (int, bool) {
	f, err := s.vol.open(itemName(id, extPriority))
	if err != nil {
		return 0, false
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 3))
	digit, whole := strings.CutSuffix(string(text), "\n")
	if err != nil || !whole || len(digit) != 1 || digit[0] < '0' || digit[0] > '0'+MaxPriority {
		return 0, false
	}
	return int(digit[0] - '0'), true
}

// recoverPriorities takes over what SetPriority has kept, once all items are there, and removes what belongs to none.
func (s *Spool) recoverPriorities(ids []ID) error {
	for _, id := range ids {
		e := s.entries[id]
		if e == nil {
			if err := s.vol.remove(itemName(id, extPriority)); err != nil {
				return err
			}
			continue
		}
		p, ok := s.readPriority(id)
		if !ok {
			s.log.Warn("the priority that an item was given cannot be read, it has the one it came with", "item", id)
			continue
		}
		e.priority, e.moved = int8(p), true
		if e.heap != nil {
			heap.Fix(e.heap, e.index)
		}
	}
	return nil
}

// turn is the entry of ready that goes next, or that the others of an ordered queue have to wait for. A routine one whose turn it is lets urgent
// ones pass while it cannot go.
func (q *queue) turn(now time.Time) *entry {
	head := q.ready.list[0]
	if head.priority < Urgent || q.passed < routineTurn {
		return head
	}
	var first *entry
	for _, e := range q.ready.list {
		if e.priority < Urgent && (first == nil || sooner(e, first)) {
			first = e
		}
	}
	if first == nil || q.ordered && q.blocked(first, now) {
		return head
	}
	return first
}

// blocked reports whether an entry of an ordered queue cannot go now.
func (q *queue) blocked(e *entry, now time.Time) bool {
	return e.locked() || e.notBefore.After(now) || q.halting && q.behindParked(e)
}

// took counts for turn.
func (q *queue) took(e *entry) {
	if e.priority < Urgent {
		q.passed = 0
		return
	}
	q.passed = min(q.passed+1, routineTurn)
}
