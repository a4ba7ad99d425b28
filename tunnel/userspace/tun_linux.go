package userspace

import (
	"sync"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/towpath/towpath/tunnel/capture"
)

// quietTun keeps the interface's own events from WireGuard. It would stop all sessions whenever the link is reported down, which also
// happens late, about the time before the link was first set up; and it asks for the MTU in whatever network namespace its goroutine
// is. Up, down and MTU are what the configuration says.
type quietTun struct {
	tun.Device
	tap *capture.Tap

	mu     sync.Mutex
	mtu    int
	events chan tun.Event
	closed bool
}

func newQuietTun(t tun.Device, mtu int, tap *capture.Tap) *quietTun {
	q := &quietTun{Device: t, tap: tap, mtu: min(mtu, device.MaxContentSize), events: make(chan tun.Event, 1)}
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

// Read implements tun.Device.
func (q *quietTun) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := q.Device.Read(bufs, sizes, offset)
	q.tap.Packets(bufs[:n], sizes, offset)
	return n, err
}

// Write implements tun.Device. The packets are shown before: the interface may join them in place.
func (q *quietTun) Write(bufs [][]byte, offset int) (int, error) {
	q.tap.Packets(bufs, nil, offset)
	return q.Device.Write(bufs, offset)
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
