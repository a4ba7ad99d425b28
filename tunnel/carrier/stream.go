package carrier

import (
	"bufio"
	"net"
	"sync"
	"time"
)

// Times of a connection.
const (
	// beatEvery is how often a client gives a sign of life; networks forget what is silent for a minute.
	beatEvery = 15 * time.Second
	// silentAfter is how long nothing may come until a connection is given up.
	silentAfter = 50 * time.Second
	// writeTimeout is how long one write may take.
	writeTimeout = 10 * time.Second
)

// chunk is about how many octets are written at a time: one record of TLS (RFC 8446 §5.1).
const chunk = 15 << 10

// stream is one upgraded connection.
type stream struct {
	conn   net.Conn
	r      *bufio.Reader
	queue  *queue
	client bool
	beat   chan struct{}
	done   chan struct{}
	once   sync.Once
}

func newStream(c net.Conn, r *bufio.Reader, q *queue, client bool) *stream {
	return &stream{conn: c, r: r, queue: q, client: client, beat: make(chan struct{}, 1), done: make(chan struct{})}
}

// end closes the connection; read and write return.
func (s *stream) end() {
	s.once.Do(func() {
		close(s.done)
		_ = s.conn.Close()
	})
}

// read hands every packet to take, which must not keep it, until the connection ends.
func (s *stream) read(take func([]byte)) {
	defer s.end()
	p := make([]byte, MaxPacket)
	for {
		if s.r.Buffered() < headerSize {
			if s.conn.SetReadDeadline(time.Now().Add(silentAfter)) != nil {
				return
			}
		}
		n, err := readFrame(s.r, p)
		if err != nil {
			return
		}
		if n > 0 {
			take(p[:n])
			continue
		}
		if !s.client { // one for one at most
			select {
			case s.beat <- struct{}{}:
			default:
			}
		}
	}
}

// write sends what is queued until the connection ends.
func (s *stream) write() {
	defer s.end()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	b := make([]byte, 0, chunk+headerSize+MaxPacket)
	for {
		b = b[:0]
		select {
		case <-s.done:
			return
		case <-s.queue.ready:
		case <-s.beat:
			b = appendFrame(b, nil)
		case <-tick.C:
			if s.client {
				b = appendFrame(b, nil)
			}
		}
		for b = s.queue.take(b, chunk, time.Now()); len(b) > 0; b = s.queue.take(b[:0], chunk, time.Now()) {
			if s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
				return
			}
			if _, err := s.conn.Write(b); err != nil {
				return
			}
		}
	}
}

// netConn finds the TCP connection under TLS.
func netConn(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return netConn(t.NetConn())
	}
	return c
}
