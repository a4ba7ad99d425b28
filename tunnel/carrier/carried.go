package carrier

import (
	"context"
	"sync"
	"time"
)

// carried is a session of a client: one or two connections over one route.
type carried struct {
	id     sessionID
	how    string
	route  Route
	take   func(p []byte, done <-chan struct{})
	queues [lanes]*queue

	mu      sync.Mutex
	ended   bool
	streams [lanes]*stream
	next    time.Time // attempt to have a second connection
	work    sync.WaitGroup
}

// openCarried opens a session. The connection for large packets may be missing at first, see mend.
func openCarried(ctx context.Context, r Route, take func([]byte, <-chan struct{})) (*carried, error) {
	x := &carried{id: newID(), how: r.How, route: r, take: take}
	for l := range lanes {
		x.queues[l] = newQueue(l)
	}
	if err := x.connect(ctx, interactive); err != nil {
		return nil, err
	}
	x.mend(ctx)
	return x, nil
}

func (x *carried) connect(ctx context.Context, l lane) error {
	st, err := x.route.upgrade(ctx, x.id, l, x.queues[l])
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		st.end()
		return nil
	}
	x.streams[l] = st
	x.work.Go(st.write)
	x.work.Go(func() { st.read(func(p []byte) { x.take(p, st.done) }) })
	return nil
}

func (s *stream) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// live is the connection of a lane; nil if it has none.
func (x *carried) live(l lane) *stream {
	if s := x.streams[l]; s != nil && !s.over() {
		return s
	}
	return nil
}

// mend opens the connection that is missing, if it is time.
func (x *carried) mend(ctx context.Context) {
	for l := range lanes {
		x.mu.Lock()
		due := x.live(l) == nil && !time.Now().Before(x.next)
		if due {
			x.next = time.Now().Add(retryMin)
		}
		x.mu.Unlock()
		if due {
			_ = x.connect(ctx, l) // the other one carries all meanwhile
		}
	}
}

// over reports whether no connection is left.
func (x *carried) over() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.live(interactive) == nil && x.live(bulk) == nil
}

func (x *carried) send(p []byte) {
	l := laneOf(p)
	x.mu.Lock()
	if x.live(l) == nil {
		l = lanes - 1 - l
	}
	x.mu.Unlock()
	x.queues[l].push(p, time.Now())
}

func (x *carried) lost() (n uint64) {
	for _, q := range x.queues {
		n += q.lost()
	}
	return n
}

// end closes the connections and returns when nobody works for them any more.
func (x *carried) end() {
	x.mu.Lock()
	x.ended = true
	for _, s := range x.streams {
		if s != nil {
			s.end()
		}
	}
	x.mu.Unlock()
	x.work.Wait()
}
