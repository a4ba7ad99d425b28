package proxytest

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// bufferSize is what one direction of a Conn holds before Write blocks, about that of a socket.
const bufferSize = 64 << 10

// Conn is one end of a connection in memory. It keeps the promises of a TCP connection: deadlines, half-close, bytes that were written
// before Close still arrive, reset.
type Conn struct {
	in, out       *stream
	local, remote netip.AddrPort
}

// Pipe returns two connected ends.
func Pipe(a, b netip.AddrPort) (*Conn, *Conn) {
	ab, ba := newStream(), newStream()
	return &Conn{in: ba, out: ab, local: a, remote: b}, &Conn{in: ab, out: ba, local: b, remote: a}
}

// Read reads what the other end has written, and io.EOF after its CloseWrite or Close.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.wrap("read", err)
}

// Write hands b to the other end and blocks while its buffer is full.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	return n, c.wrap("write", err)
}

func (c *Conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // io.EOF is returned as it is, as net does
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// CloseWrite ends this direction; the other end reads io.EOF after what is buffered.
func (c *Conn) CloseWrite() error {
	c.out.update(func(s *stream) { s.ended = true })
	return nil
}

// Close ends both directions.
func (c *Conn) Close() error {
	c.out.update(func(s *stream) { s.ended, s.writerGone = true, true })
	c.in.update(func(s *stream) { s.readerGone = true })
	return nil
}

// Reset breaks both directions at once, as a power cut or a firewall does: what is buffered is lost.
func (c *Conn) Reset() {
	for _, s := range []*stream{c.in, c.out} {
		s.update(func(s *stream) { s.broken, s.buf = true, nil })
	}
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline makes reads fail with os.ErrDeadlineExceeded from t on. Zero means never.
func (c *Conn) SetReadDeadline(t time.Time) error { c.in.setDeadline(&c.in.readLimit, t); return nil }

// SetWriteDeadline makes writes fail with os.ErrDeadlineExceeded from t on. Zero means never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeLimit, t)
	return nil
}

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr returns the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// stream is one direction.
type stream struct {
	mu   sync.Mutex
	cond *sync.Cond
	buf  []byte
	// ended is set by the writer's CloseWrite; readerGone and writerGone by Close; broken by Reset.
	ended, readerGone, writerGone, broken bool

	readLimit, writeLimit limit
}

// limit is a deadline. Generation tells a stale timer from the current one.
type limit struct {
	expired    bool
	generation int
	timer      *time.Timer
}

func newStream() *stream {
	s := &stream{}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *stream) update(f func(*stream)) {
	s.mu.Lock()
	f(s)
	s.mu.Unlock()
	s.cond.Broadcast()
}

func (s *stream) setDeadline(l *limit, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.generation++
	l.expired = false
	if t.IsZero() {
		return
	}
	d := time.Until(t)
	if d <= 0 {
		l.expired = true
		s.cond.Broadcast()
		return
	}
	generation := l.generation
	l.timer = time.AfterFunc(d, func() {
		s.update(func(*stream) {
			if l.generation == generation {
				l.expired = true
			}
		})
	})
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readerGone:
			return 0, net.ErrClosed
		case s.readLimit.expired:
			return 0, os.ErrDeadlineExceeded
		case s.broken:
			return 0, syscall.ECONNRESET
		case len(b) == 0:
			return 0, nil
		case len(s.buf) > 0:
			n := copy(b, s.buf)
			s.buf = s.buf[n:]
			if len(s.buf) == 0 {
				s.buf = nil
			}
			s.cond.Broadcast()
			return n, nil
		case s.ended:
			return 0, io.EOF
		}
		s.cond.Wait()
	}
}

func (s *stream) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := 0
	for {
		switch {
		case s.writerGone:
			return done, net.ErrClosed
		case s.writeLimit.expired:
			return done, os.ErrDeadlineExceeded
		case s.broken, s.readerGone:
			return done, syscall.ECONNRESET
		case s.ended:
			return done, syscall.EPIPE
		case done == len(b):
			return done, nil
		}
		if room := bufferSize - len(s.buf); room > 0 {
			n := min(room, len(b)-done)
			s.buf = append(s.buf, b[done:done+n]...)
			done += n
			s.cond.Broadcast()
			continue
		}
		s.cond.Wait()
	}
}
