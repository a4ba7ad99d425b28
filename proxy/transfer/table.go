package transfer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// admit takes an offered item in, of which nothing is known yet or a part.
func (r *Receiver) admit(s *inSession, handle uint64, item Item, k key) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if in := r.incoming[k]; in != nil {
		return r.continueLocked(s, handle, in)
	}
	if len(r.incoming)+r.journal.count() >= r.cfg.MaxKept {
		return fmt.Errorf("%w: %d items wait for their delivery", ErrFull, r.cfg.MaxKept)
	}
	r.seq++
	in := &incoming{item: item, key: k, cost: max(item.Size, 1<<10), seq: r.seq, owner: s, handle: handle}
	if item.Size > r.cfg.InMemory {
		in.cost = fileCost
	}
	r.incoming[k] = in
	s.items[handle] = in
	at, _ := slices.BinarySearchFunc(r.waiting, in, byUrgency)
	r.waiting = slices.Insert(r.waiting, at, in)
	return nil
}

func byUrgency(a, b *incoming) int {
	return cmp.Or(cmp.Compare(b.item.Priority, a.item.Priority), cmp.Compare(a.seq, b.seq))
}

// continueLocked gives an item of an earlier session to s.
func (r *Receiver) continueLocked(s *inSession, handle uint64, in *incoming) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.owner != nil {
		return fmt.Errorf("%w: the item is offered twice", errMalformed)
	}
	in.owner, in.handle = s, handle
	s.items[handle] = in
	if in.stage == receiving {
		r.goOnLocked(in)
	}
	return nil
}

// goOnLocked asks for the rest of an item, or stores it if there is none. The item is locked, too.
func (r *Receiver) goOnLocked(in *incoming) {
	if in.have.prefix < in.item.Size && !in.stored {
		in.owner.out.put(want{in.handle, in.have.prefix})
		return
	}
	in.stage = storing
	r.storeSoon(in)
}

// grant asks for waiting items as far as there is memory.
func (r *Receiver) grant() {
	for {
		in := r.nextGrant()
		if in == nil {
			return
		}
		if err := in.begin(r.parts, r.cfg.InMemory); err != nil {
			if !errors.Is(err, errGone) {
				r.finish(in, Receipt{}, err)
			}
			continue
		}
		r.mu.Lock()
		in.mu.Lock()
		if in.owner != nil && in.stage == receiving {
			r.goOnLocked(in)
		}
		in.mu.Unlock()
		r.mu.Unlock()
	}
}

func (r *Receiver) nextGrant() *incoming {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 || r.closed {
		return nil
	}
	at := r.turnLocked()
	in := r.waiting[at]
	limit := r.cfg.Memory
	if in.item.Priority >= Urgent {
		limit += urgentMemory
	}
	for r.used > 0 && r.used+in.cost > limit {
		if !r.evictLocked() {
			return nil
		}
	}
	r.used += in.cost
	r.waiting = slices.Delete(r.waiting, at, at+1)
	if r.passed++; in.item.Priority < Urgent {
		r.passed = 0
	}
	return in
}

// turnLocked is the place of the item that is asked for next: the most urgent one, or after many of these a routine one.
func (r *Receiver) turnLocked() int {
	if r.passed >= routineTurn && r.waiting[0].item.Priority >= Urgent {
		return max(0, slices.IndexFunc(r.waiting, func(in *incoming) bool { return in.item.Priority < Urgent }))
	}
	return 0
}

// evictLocked drops the oldest payload in memory that lost its session.
func (r *Receiver) evictLocked() bool {
	var oldest *incoming
	for _, in := range r.incoming {
		in.mu.Lock()
		if in.owner == nil && in.stage == receiving && in.memory != nil && (oldest == nil || in.seq < oldest.seq) {
			oldest = in
		}
		in.mu.Unlock()
	}
	if oldest == nil {
		return false
	}
	oldest.mu.Lock()
	oldest.stage = gone
	oldest.release(true)
	oldest.mu.Unlock()
	r.dropLocked(oldest)
	return true
}

// dropLocked takes an item out of the table.
func (r *Receiver) dropLocked(in *incoming) {
	if i := slices.Index(r.waiting, in); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	} else {
		r.used -= in.cost
	}
	delete(r.incoming, in.key)
}

// storeSoon hands a complete item to the Inbox.
func (r *Receiver) storeSoon(in *incoming) {
	r.wg.Go(func() {
		r.slots <- struct{}{}
		defer func() { <-r.slots }()
		receipt, err := r.store(in)
		r.finish(in, receipt, err)
	})
}

func (r *Receiver) store(in *incoming) (Receipt, error) {
	if !in.stored {
		if err := r.cfg.Inbox.Store(r.ended, in.item, in.payload()); err != nil {
			return Receipt{}, err //nolint:wrapcheck // finish judges it
		}
		in.mu.Lock()
		in.stored = true
		in.mu.Unlock()
	}
	return r.attest(Taken, Held{Origin: in.item.Origin, Size: in.item.Size, Service: in.item.Service}, Result{})
}

// finish tells the sender how receiving an item ended, and gives its memory to others.
func (r *Receiver) finish(in *incoming, receipt Receipt, err error) {
	r.mu.Lock()
	in.mu.Lock()
	if in.stage == gone {
		in.mu.Unlock()
		r.mu.Unlock()
		return
	}
	owner, handle := in.owner, in.handle
	in.owner, in.handle, in.blocks = nil, 0, nil
	if err != nil && (in.stored || in.memory != nil) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrRefused) {
		in.stage = receiving // its bytes need not come again
		if in.stored {
			in.release(true)
			r.used -= in.cost
			in.cost = 0
		}
	} else {
		in.stage = gone
		in.release(err == nil || errors.Is(err, ErrDamaged) || errors.Is(err, ErrRefused))
		r.dropLocked(in)
	}
	if owner != nil {
		delete(owner.items, handle)
	}
	in.mu.Unlock()
	r.mu.Unlock()
	if owner != nil {
		owner.answer(handle, receipt, err)
	}
	r.grant()
}
