package carrier

import (
	"sync"
	"time"
)

// Bounds of what waits in front of a connection. A packet that waits longer than maxAge is dropped, and so is the oldest when there are more octets.
const (
	maxAge           = 200 * time.Millisecond
	interactiveBytes = 64 << 10
	bulkBytes        = 512 << 10
)

// queue holds packets that wait for a connection. The oldest is dropped first.
type queue struct {
	limit int
	// ready has a token while there may be something.
	ready chan struct{}

	mu      sync.Mutex
	items   []waiting
	bytes   int
	dropped uint64
}

type waiting struct {
	packet []byte
	since  time.Time
}

func newQueue(l lane) *queue {
	q := &queue{limit: interactiveBytes, ready: make(chan struct{}, 1)}
	if l == bulk {
		q.limit = bulkBytes
	}
	return q
}

// push adds a copy of a packet.
func (q *queue) push(p []byte, now time.Time) {
	if len(p) == 0 || len(p) > MaxPacket {
		return
	}
	q.mu.Lock()
	q.items = append(q.items, waiting{append([]byte(nil), p...), now})
	q.bytes += len(p)
	for q.bytes > q.limit {
		q.drop()
		q.dropped++
	}
	q.expire(now)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take adds frames to b while it is shorter than size.
func (q *queue) take(b []byte, size int, now time.Time) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expire(now)
	for len(q.items) > 0 && len(b) < size {
		b = appendFrame(b, q.items[0].packet)
		q.drop()
	}
	return b
}

func (q *queue) expire(now time.Time) {
	for len(q.items) > 0 && now.Sub(q.items[0].since) > maxAge {
		q.drop()
		q.dropped++
	}
}

func (q *queue) drop() {
	q.bytes -= len(q.items[0].packet)
	q.items[0] = waiting{}
	q.items = q.items[1:]
}

// lost is how many packets were dropped.
func (q *queue) lost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}
