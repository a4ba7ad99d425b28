package carrier

import (
	"net"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
)

// inboxSize is how many packets may wait for the device. Whoever has more waits, and TCP tells the other end.
const inboxSize = 256

// inbox is where the connections leave what the device is to receive.
type inbox struct {
	c    chan arrival
	pool sync.Pool

	mu     sync.Mutex
	closed chan struct{} // of the device's current Open; nil before
}

type arrival struct {
	buf *[MaxPacket]byte
	n   int
	at  conn.Endpoint
}

func newInbox() *inbox {
	return &inbox{c: make(chan arrival, inboxSize), pool: sync.Pool{New: func() any { return new([MaxPacket]byte) }}}
}

// put waits until there is room, or until the connection ends.
func (b *inbox) put(p []byte, at conn.Endpoint, done <-chan struct{}) {
	buf, ok := b.pool.Get().(*[MaxPacket]byte)
	if !ok {
		return
	}
	select {
	case b.c <- arrival{buf, copy(buf[:], p), at}:
	case <-done:
	}
}

// open returns what the device receives with until close.
func (b *inbox) open() conn.ReceiveFunc {
	closed := make(chan struct{})
	b.mu.Lock()
	b.closed = closed
	b.mu.Unlock()
	return func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		select {
		case <-closed:
			return 0, net.ErrClosed
		case a := <-b.c:
			for n := 0; ; {
				sizes[n], eps[n] = copy(packets[n], a.buf[:a.n]), a.at
				b.pool.Put(a.buf)
				if n++; n == len(packets) {
					return n, nil
				}
				select {
				case a = <-b.c:
				default:
					return n, nil
				}
			}
		}
	}
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		close(b.closed)
		b.closed = nil
	}
}
