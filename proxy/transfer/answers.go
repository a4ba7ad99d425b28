package transfer

import (
	"errors"
	"sync"
)

// known answers an offer of what was taken before.
func (s *inSession) known(m offer, k key) (bool, error) {
	e, ok := s.r.journal.get(k)
	if !ok {
		return false, nil
	}
	receipt := e.taken
	if e.settled || receipt.Kind == 0 {
		if e.settled {
			// Its sender knows that it was refused, and tries again.
			again, err := s.r.cfg.Inbox.Again(m.item.Origin)
			if err != nil {
				return true, err //nolint:wrapcheck // the sender is told
			}
			if !again {
				return false, s.r.journal.forget(k)
			}
		}
		var err error
		if receipt, err = s.r.attest(Taken, Held{m.item.Origin, m.item.Size, m.item.Service}, Result{}); err != nil {
			return true, err
		}
	}
	s.out.put(signed{kindTaken, m.handle, receipt.canonical})
	if e.final.Kind != 0 && !e.settled {
		s.finals.add(e.final) // it may have come too early before
	}
	return true, nil
}

// answer tells how an offer ended.
func (s *inSession) answer(handle uint64, receipt Receipt, err error) {
	if err == nil {
		s.taken.Add(1)
		s.out.put(signed{kindTaken, handle, receipt.canonical})
		return
	}
	why := reasonLater
	switch {
	case errors.Is(err, ErrFull):
		why = reasonFull
	case errors.Is(err, ErrRefused):
		why = reasonNever
	case errors.Is(err, ErrDamaged):
		why = reasonDamaged
	}
	s.out.put(refuse{handle, why, err.Error()})
}

// abandon forgets an offer that the sender cannot fulfill.
func (s *inSession) abandon(handle uint64) {
	s.r.mu.Lock()
	in := s.items[handle]
	delete(s.items, handle)
	s.r.mu.Unlock()
	if in != nil && !in.cut(s) {
		s.r.mu.Lock()
		s.r.dropLocked(in)
		s.r.mu.Unlock()
		s.r.grant()
	}
}

// ask answers what the sender believes to be here.
func (s *inSession) ask(m named) {
	k := Origin{s.node, m.id, m.digest}.key()
	e, ok := s.r.journal.get(k)
	s.r.mu.Lock()
	in := s.r.incoming[k]
	s.r.mu.Unlock()
	switch {
	case ok && e.final.Kind != 0:
		s.finals.add(e.final)
	case ok || (in != nil && in.complete()):
		s.out.put(named{kindHeld, m.id, m.digest, 0})
	default:
		s.out.put(named{kindUnknown, m.id, m.digest, 0})
	}
}

func (in *incoming) complete() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.stage == storing || in.stored
}

// settle records that the sender keeps a final receipt.
func (s *inSession) settle(m named) error {
	k := Origin{s.node, m.id, m.digest}.key()
	s.settled <- struct{}{}
	go func() {
		defer func() { <-s.settled }()
		e, ok := s.r.journal.get(k)
		var err error
		switch {
		case !ok || e.final.Kind != m.final || e.settled:
		case m.final == Accepted:
			err = s.r.journal.forget(k)
		default:
			err = s.r.journal.settle(k)
		}
		if err != nil {
			s.end(err)
			return
		}
		s.finals.settled(Origin{s.node, m.id, m.digest})
	}()
	return nil
}

// finalQueue sends final receipts, so many at a time.
type finalQueue struct {
	mu     sync.Mutex
	queue  []Receipt
	queued map[Origin]Kind // what is in queue
	sent   map[Origin]struct{}
	wake   chan struct{}
}

func newFinalQueue() *finalQueue {
	return &finalQueue{queued: map[Origin]Kind{}, sent: map[Origin]struct{}{}, wake: make(chan struct{}, 1)}
}

func (q *finalQueue) add(r Receipt) {
	q.mu.Lock()
	if q.queued[r.Origin] != r.Kind {
		q.queued[r.Origin] = r.Kind
		q.queue = append(q.queue, r)
	}
	q.mu.Unlock()
	q.nudge()
}

func (q *finalQueue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *finalQueue) settled(o Origin) {
	q.mu.Lock()
	delete(q.sent, o)
	q.mu.Unlock()
	q.nudge()
}

func (q *finalQueue) run(out *outbound, over <-chan struct{}) {
	for {
		q.mu.Lock()
		for len(q.queue) > 0 && len(q.sent) < finalsAtOnce {
			r := q.queue[0]
			q.queue = q.queue[1:]
			delete(q.queued, r.Origin)
			q.sent[r.Origin] = struct{}{}
			out.put(signed{kindFinal, 0, r.canonical})
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-over:
			return
		}
	}
}
