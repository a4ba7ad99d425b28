package netstack

import (
	"sync"
	"time"
)

// deadline is one direction's deadline of a connection. The zero value has none.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{} // closed when the deadline has passed; nil before the first use
}

// wait returns a channel that is closed when the deadline set last has passed.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.expired == nil {
		d.expired = make(chan struct{})
	}
	return d.expired
}

// set moves the deadline; the zero time removes it. Calls that wait already keep to the old channel unless it has not expired.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.expired == nil {
		d.expired = make(chan struct{})
	}
	if d.timer != nil && !d.timer.Stop() {
		<-d.expired // the timer has fired: let it finish
	}
	d.timer = nil
	closed := isClosed(d.expired)
	if left := time.Until(t); !t.IsZero() && left <= 0 {
		if !closed {
			close(d.expired)
		}
		return
	}
	if closed {
		d.expired = make(chan struct{})
	}
	if !t.IsZero() {
		expired := d.expired
		d.timer = time.AfterFunc(time.Until(t), func() { close(expired) })
	}
}

// stop releases the timer of a connection that was closed.
func (d *deadline) stop() { d.set(time.Time{}) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
