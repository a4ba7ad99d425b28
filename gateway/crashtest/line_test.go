package crashtest

import (
	"net"
	"sync"
)

// line carries the connections between the boxes, and can be cut.
type line struct {
	l net.Listener

	mu    sync.Mutex
	to    string // where the center listens now
	pairs map[net.Conn]net.Conn
	gate  *sync.RWMutex // held for writing while nothing passes
	wg    sync.WaitGroup
}

func newLine() (*line, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &line{l: l, pairs: map[net.Conn]net.Conn{}, gate: &sync.RWMutex{}}
	n.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.wg.Go(func() { n.carry(c) })
		}
	})
	return n, nil
}

func (n *line) lead(to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.to = to
}

func (n *line) carry(c net.Conn) {
	defer c.Close()
	n.mu.Lock()
	to := n.to
	n.mu.Unlock()
	d, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer d.Close()
	n.mu.Lock()
	n.pairs[c] = d
	n.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { n.copy(d, c) })
	wg.Go(func() { n.copy(c, d) })
	wg.Wait()
	n.mu.Lock()
	delete(n.pairs, c)
	n.mu.Unlock()
}

func (n *line) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		k, err := from.Read(buf)
		n.gate.RLock()
		n.gate.RUnlock() //nolint:staticcheck // waits while the line is stalled
		if k > 0 {
			if _, err := to.Write(buf[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// stall lets nothing pass until the returned function is called; neither end is told.
func (n *line) stall() (release func()) {
	n.gate.Lock()
	return n.gate.Unlock
}

// reset breaks all connections.
func (n *line) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c, d := range n.pairs {
		for _, x := range []net.Conn{c, d} {
			if t, ok := x.(*net.TCPConn); ok {
				_ = t.SetLinger(0)
			}
			_ = x.Close()
		}
	}
}

func (n *line) close() {
	_ = n.l.Close()
	n.reset()
	n.wg.Wait()
}
