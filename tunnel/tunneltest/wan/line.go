package wan

import (
	"container/heap"
	"sync"
	"time"
)

// Line carries packets over one Link in real time, or in the fake time of a testing/synctest bubble. It is safe for concurrent use.
type Line struct {
	deliver func([]byte)

	mu     sync.Mutex
	plan   *schedule
	flying flight
	seq    uint64
	closed bool
	wake   chan struct{} // capacity 1: the earliest arrival changed, or closed
	done   chan struct{}
}

// NewLine starts a line. It calls deliver for each packet that arrives, one at a time, from its own goroutine; deliver owns the slice.
func NewLine(l Link, deliver func([]byte)) *Line {
	n := &Line{deliver: deliver, plan: newSchedule(l), wake: make(chan struct{}, 1), done: make(chan struct{})}
	go n.run()
	return n
}

// Send hands in a packet, which is copied. It never blocks: what does not fit the queue is dropped, as on a real line.
func (n *Line) Send(packet []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	at, ok := n.plan.offer(time.Now(), len(packet))
	if !ok {
		return
	}
	n.seq++
	heap.Push(&n.flying, arrival{at, n.seq, append([]byte(nil), packet...)})
	if n.flying[0].seq == n.seq {
		n.nudge()
	}
}

// Stats returns the counters so far.
func (n *Line) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.plan.stats
}

// Close drops what is under way and returns when no deliver is running any more. It is idempotent.
func (n *Line) Close() {
	n.mu.Lock()
	n.closed = true
	n.nudge()
	n.mu.Unlock()
	<-n.done
}

func (n *Line) nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *Line) run() {
	defer close(n.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		packet, wait, closed := n.due()
		switch {
		case closed:
			return
		case packet != nil:
			n.deliver(packet)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-n.wake:
		}
	}
}

// due takes the next packet that has arrived, or says how long to wait for one.
func (n *Line) due() (packet []byte, wait time.Duration, closed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, 0, true
	}
	if len(n.flying) == 0 {
		return nil, time.Hour, false
	}
	if wait = time.Until(n.flying[0].at); wait > 0 {
		return nil, wait, false
	}
	a, _ := heap.Pop(&n.flying).(arrival)
	n.plan.stats.DeliveredPackets++
	n.plan.stats.DeliveredBytes += int64(len(a.packet))
	return a.packet, 0, false
}

// arrival is a packet under way.
type arrival struct {
	at     time.Time
	seq    uint64
	packet []byte
}

// flight is a heap of arrivals, earliest first, in the order handed in where equal.
type flight []arrival

func (f *flight) Len() int { return len(*f) }

func (f *flight) Less(i, j int) bool {
	a, b := &(*f)[i], &(*f)[j]
	if a.at.Equal(b.at) {
		return a.seq < b.seq
	}
	return a.at.Before(b.at)
}

func (f *flight) Swap(i, j int) { (*f)[i], (*f)[j] = (*f)[j], (*f)[i] }

func (f *flight) Push(x any) {
	a, _ := x.(arrival)
	*f = append(*f, a)
}

func (f *flight) Pop() any {
	old := *f
	a := old[len(old)-1]
	old[len(old)-1] = arrival{}
	*f = old[:len(old)-1]
	return a
}
