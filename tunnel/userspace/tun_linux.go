package userspace

import (
	"sync"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// quietTun keeps the interface's own events from WireGuard. It would stop all sessions whenever the link is reported down, which also
// happens late, about the time before the link was first set up; and it asks for the MTU in whatever network namespace its goroutine
// is. Up, down and MTU are what the configuration says.
type quietTun struct {
	tun.Device

	mu     sync.Mutex
	mtu    int
	events chan tun.Event
	closed bool
}

func newQuietTun(t tun.Device, mtu int) *quietTun {
	q := &quietTun{Device: t, mtu: min(mtu, device.MaxContentSize), events: make(chan tun.Event, 1)}
	go q.drain()
	return q
}

func (q *quietTun) drain() {
	for range q.Device.Events() {
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	close(q.events)
}

// Events implements tun.Device.
func (q *quietTun) Events() <-chan tun.Event { return q.events }

// MTU implements tun.Device.
func (q *quietTun) MTU() (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mtu, nil
}

// setMTU tells WireGuard the MTU in bytes.
func (q *quietTun) setMTU(mtu int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	mtu = min(mtu, device.MaxContentSize)
	if mtu == q.mtu || q.closed {
		return
	}
	q.mtu = mtu
	select {
	case q.events <- tun.EventMTUUpdate:
	default: // one is waiting already, and its reader asks for the value
	}
}
