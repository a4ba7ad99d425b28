package spool

import (
	"container/heap"
	"time"
)

// entry is what is kept in memory of one item: little, since a queue may hold hundreds of thousands. The rest is read from its file.
type entry struct {
	id       ID
	queue    *queue
	size     int64 // of the payload
	bytes    int64 // of the file, or of the record in the journal
	created  time.Time
	priority int8
	moved    bool // priority is another than the file of the item says

	ext       string // what its file is called now; differs from state only after a failed rename
	state     State
	epoch     *epoch // nil for what is stored plain
	waiting   bool   // for the key of its epoch
	leased    bool
	attempts  int
	lastError string
	notBefore time.Time
	away      bool // notBefore is there because the far end could not be reached

	// An item that is shared is in the journal: where in which segment its image is. What was left there is gone, or is elsewhere.
	shared  bool
	segment *segment
	at      int64
	left    bool

	heap  *entryHeap // the heap it is in, if any
	index int        // where in it
}

// queue orders the entries of one name. The Spool's mutex guards it.
type queue struct {
	name    string
	ordered bool
	// ready is sorted by priority and id. In an ordered queue it holds all that is queued and not leased, otherwise what may be delivered now.
	// passed counts urgent ones in a row.
	ready  entryHeap
	passed int
	// delayed is sorted by notBefore and is empty in an ordered queue.
	delayed entryHeap
	// parked is sorted by id. It is there for ordered queues, where it tells what was overtaken.
	parked  entryHeap
	entries map[ID]*entry
	// halting means that in an ordered queue nothing passes a parked entry.
	halting bool
	leases  int
	// used is what Spool.used is for this queue, writers how many items are being written.
	used    int64
	writers int
	limits  Limits
	// away means that an entry may be.
	away  bool
	bytes gate
	items gate
	// wake is closed when a waiter should look again; nil when nobody waits.
	wake chan struct{}

	delivered uint64
	// deliveredBytes are payloads alone.
	deliveredBytes int64
	retried        uint64
	overtook       uint64
	lastError      string
}

func newQueue(name string, ordered bool) *queue {
	return &queue{
		name: name, ordered: ordered, entries: map[ID]*entry{},
		ready:   entryHeap{before: sooner},
		delayed: entryHeap{before: func(a, b *entry) bool { return a.notBefore.Before(b.notBefore) }},
		parked:  entryHeap{before: func(a, b *entry) bool { return a.id < b.id }},
	}
}

// sooner is the order in which entries of one queue are given out.
func sooner(a, b *entry) bool {
	if a.priority != b.priority {
		return a.priority > b.priority
	}
	return a.id < b.id
}

// behindParked reports whether an older entry of the queue is parked.
func (q *queue) behindParked(e *entry) bool {
	return len(q.parked.list) > 0 && q.parked.list[0].id < e.id
}

// park sets an entry aside.
func (q *queue) park(e *entry) {
	heap.Push(&q.parked, e)
	q.notify()
}

// add makes a queued entry available. One whose key is not there has to wait for it: in an ordered queue with all that is behind it.
func (q *queue) add(e *entry) {
	if e.locked() && !q.ordered {
		return
	}
	if !q.ordered && !e.notBefore.IsZero() {
		heap.Push(&q.delayed, e)
	} else {
		heap.Push(&q.ready, e)
	}
	q.notify()
}

// withdraw takes an entry out of whatever heap it is in.
func (q *queue) withdraw(e *entry) {
	if e.heap != nil {
		heap.Remove(e.heap, e.index)
	}
	q.notify()
}

// reached makes due what waits only because the far end could not be reached.
func (q *queue) reached() {
	if !q.away {
		return
	}
	q.away = false
	var due []*entry
	for _, e := range q.delayed.list {
		if e.away {
			due = append(due, e)
		}
	}
	for _, e := range due {
		q.withdraw(e)
		e.notBefore = time.Time{}
		q.add(e)
	}
}

func (q *queue) notify() {
	if q.wake != nil {
		close(q.wake)
		q.wake = nil
	}
}

func (q *queue) waiter() <-chan struct{} {
	if q.wake == nil {
		q.wake = make(chan struct{})
	}
	return q.wake
}

// take leases the entry whose turn it is. When there is none it returns the time until one becomes due by itself, or zero when
// only an event can change that.
func (q *queue) take(now time.Time) (*entry, time.Duration) {
	for len(q.delayed.list) > 0 && !q.delayed.list[0].notBefore.After(now) {
		e := q.delayed.list[0]
		heap.Pop(&q.delayed)
		heap.Push(&q.ready, e)
	}
	if len(q.ready.list) == 0 {
		if len(q.delayed.list) > 0 {
			return nil, q.delayed.list[0].notBefore.Sub(now)
		}
		return nil, 0
	}
	head := q.turn(now)
	if q.ordered && (q.leases > 0 || q.blocked(head, now)) {
		if q.leases > 0 || !head.notBefore.After(now) {
			return nil, 0
		}
		return nil, head.notBefore.Sub(now)
	}
	heap.Remove(&q.ready, head.index)
	q.took(head)
	head.leased = true
	q.leases++
	return head, 0
}

func (q *queue) stats() QueueStats {
	st := QueueStats{
		Queue: q.name, Delivered: q.delivered, DeliveredBytes: q.deliveredBytes, Retried: q.retried, Overtook: q.overtook, LastError: q.lastError,
		Used: q.used, MaxBytes: q.limits.MaxBytes, MaxItems: q.limits.MaxItems, Full: q.fullLocked(),
	}
	st.Halted = q.ordered && q.halting && len(q.ready.list) > 0 && q.behindParked(q.ready.list[0])
	var oldest ID // of the parked
	for _, e := range q.entries {
		st.Bytes += e.size
		if e.locked() {
			st.Locked++
		}
		switch e.state {
		case StateParked:
			st.Parked++
			if e.lastError != "" && (oldest == "" || e.id < oldest) {
				oldest, st.ParkedError = e.id, e.lastError
			}
		case StateCarried:
			st.Carried++
			st.CarriedBytes += e.size
		default:
			st.Queued++
			st.QueuedBytes += e.size
			if e.priority >= Urgent {
				st.Urgent++
			}
		}
		if st.OldestCreated.IsZero() || e.created.Before(st.OldestCreated) {
			st.OldestCreated = e.created
		}
	}
	return st
}

// entryHeap implements heap.Interface and tells entries where they are.
type entryHeap struct {
	list   []*entry
	before func(a, b *entry) bool
}

func (h *entryHeap) Len() int           { return len(h.list) }
func (h *entryHeap) Less(i, j int) bool { return h.before(h.list[i], h.list[j]) }
func (h *entryHeap) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].index, h.list[j].index = i, j
}

func (h *entryHeap) Push(x any) {
	e := x.(*entry) //nolint:forcetypeassert // only entries are pushed
	e.heap, e.index = h, len(h.list)
	h.list = append(h.list, e)
}

func (h *entryHeap) Pop() any {
	last := len(h.list) - 1
	e := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	e.heap = nil
	return e
}
