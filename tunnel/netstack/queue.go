package netstack

import (
	"os"
	"sync"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/towpath/towpath/tunnel/capture"
)

// queueLength is how many packets, each of up to 64 KiB before segmentation, the stack may be ahead of WireGuard before more are
// dropped. TCP's windows keep it far below, and the bytes of its packets are shared with the send buffers, which bound the memory.
const queueLength = 4096

// queue is what the two faces of the virtual cable share: link, which the TCP/IP stack plugs into, and tunDevice, which WireGuard
// does.
type queue struct {
	name     string
	mtu      atomic.Int64
	outbound chan *stack.PacketBuffer
	done     chan struct{}

	mu     sync.Mutex
	closed bool
	events chan tun.Event
}

func newQueue(name string, mtu int) *queue {
	q := &queue{
		name:     name,
		outbound: make(chan *stack.PacketBuffer, queueLength),
		done:     make(chan struct{}),
		events:   make(chan tun.Event, 1),
	}
	q.mtu.Store(int64(min(mtu, device.MaxContentSize)))
	return q
}

// setMTU changes the MTU in bytes for both faces.
func (q *queue) setMTU(mtu int) {
	mtu = min(mtu, device.MaxContentSize)
	if q.mtu.Swap(int64(mtu)) == int64(mtu) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	select {
	case q.events <- tun.EventMTUUpdate:
	default: // one is waiting already, and its reader asks for the value
	}
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.done)
		close(q.events)
	}
}

// tunDevice is the face towards WireGuard.
type tunDevice struct {
	*queue
	out segmenter // used by the one reader only
	in  *coalescer
	tap *capture.Tap // may be nil
}

func (t *tunDevice) File() *os.File           { return nil }
func (t *tunDevice) Name() (string, error)    { return t.name, nil }
func (t *tunDevice) MTU() (int, error)        { return int(t.mtu.Load()), nil }
func (t *tunDevice) Events() <-chan tun.Event { return t.events }
func (t *tunDevice) BatchSize() int           { return conn.IdealBatchSize }

func (t *tunDevice) Close() error {
	t.close()
	return nil
}

// Read hands WireGuard as many packets as are there, and waits if there are none.
func (t *tunDevice) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := t.read(bufs, sizes, offset)
	t.tap.Packets(bufs[:n], sizes, offset)
	return n, err
}

func (t *tunDevice) read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if !t.out.busy() {
		select {
		case p := <-t.outbound:
			t.out.start(p)
		case <-t.done:
			return 0, os.ErrClosed
		}
	}
	n := 0
	for n < len(bufs) {
		if !t.out.busy() {
			select {
			case p := <-t.outbound:
				t.out.start(p)
			default:
				return n, nil
			}
		}
		sizes[n] = t.out.next(bufs[n][offset:], int(t.mtu.Load()))
		n++
	}
	return n, nil
}

// Write takes packets that WireGuard has authenticated. Malformed and unwanted ones are dropped: they are the peer's fault, not a
// failure of the device.
func (t *tunDevice) Write(bufs [][]byte, offset int) (int, error) {
	t.tap.Packets(bufs, nil, offset)
	t.in.deliver(bufs, offset)
	return len(bufs), nil
}
