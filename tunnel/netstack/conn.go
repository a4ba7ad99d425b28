package netstack

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/towpath/towpath/tunnel/internal/reach"
)

// tcpConn is a TCP connection inside the tunnel. Its errors are those of a kernel socket. In particular it reports the end of the
// stream only if the other end said so: gVisor gives the reason of a reset once, and "closed" to whoever asks next, which a reader
// would take for a complete transfer.
type tcpConn struct {
	ep     tcpip.Endpoint
	wq     *waiter.Queue
	owner  *reach.Set
	local  netip.AddrPort
	remote netip.AddrPort

	readMu, writeMu             sync.Mutex
	readDeadline, writeDeadline deadline

	mu     sync.Mutex
	err    error // why all calls fail from now on: closed here, or by the stack
	closed chan struct{}
}

var _ net.Conn = (*tcpConn)(nil)

// newConn takes over ep, which must be connected.
func newConn(ep tcpip.Endpoint, wq *waiter.Queue, owner *reach.Set) (*tcpConn, error) {
	c := &tcpConn{ep: ep, wq: wq, owner: owner, closed: make(chan struct{})}
	tune(ep)
	if a, err := ep.GetLocalAddress(); err == nil {
		c.local = addrPort(a)
	}
	if a, err := ep.GetRemoteAddress(); err == nil {
		c.remote = addrPort(a)
	}
	if err := owner.Add(c); err != nil {
		ep.Abort()
		return nil, err
	}
	return c, nil
}

func (c *tcpConn) Read(b []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	expired := c.readDeadline.wait()
	if isClosed(expired) {
		return 0, c.opError("read", os.ErrDeadlineExceeded)
	}
	var ready <-chan struct{}
	for {
		if err := c.failure(); err != nil {
			return 0, c.opError("read", err)
		}
		if len(b) == 0 {
			return 0, nil
		}
		w := tcpip.SliceWriter(b)
		r, err := c.ep.Read(&w, tcpip.ReadOptions{})
		switch err.(type) {
		case nil:
			c.ep.ModerateRecvBuf(r.Count)
			return r.Count, nil
		case *tcpip.ErrWouldBlock:
		case *tcpip.ErrClosedForReceive:
			if tcp.EndpointState(c.ep.State()) != tcp.StateError {
				if c.failure() == nil {
					return 0, io.EOF
				}
				continue
			}
			return 0, c.opError("read", c.fail(errno(&tcpip.ErrConnectionReset{})))
		default:
			return 0, c.opError("read", c.fail(errno(err)))
		}
		if ready == nil { // and look once more: data may have come before the registration
			entry, ch := waiter.NewChannelEntry(waiter.ReadableEvents)
			c.wq.EventRegister(&entry)
			defer c.wq.EventUnregister(&entry)
			ready = ch
			continue
		}
		select {
		case <-ready:
		case <-c.closed:
		case <-expired:
			return 0, c.opError("read", os.ErrDeadlineExceeded)
		}
	}
}

func (c *tcpConn) Write(b []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	expired := c.writeDeadline.wait()
	if isClosed(expired) {
		return 0, c.opError("write", os.ErrDeadlineExceeded)
	}
	var ready <-chan struct{}
	var r bytes.Reader
	for n := 0; ; {
		if err := c.failure(); err != nil {
			return n, c.opError("write", err)
		}
		if n == len(b) {
			return n, nil
		}
		r.Reset(b[n:])
		w, err := c.ep.Write(&r, tcpip.WriteOptions{})
		n += int(w)
		switch err.(type) {
		case nil:
			continue
		case *tcpip.ErrWouldBlock:
		case *tcpip.ErrClosedForSend: // after CloseWrite or a reset; reading may still work
			return n, c.opError("write", errno(err))
		default:
			return n, c.opError("write", c.fail(errno(err)))
		}
		if ready == nil {
			entry, ch := waiter.NewChannelEntry(waiter.WritableEvents)
			c.wq.EventRegister(&entry)
			defer c.wq.EventUnregister(&entry)
			ready = ch
			continue
		}
		select {
		case <-ready:
		case <-c.closed:
		case <-expired:
			return n, c.opError("write", os.ErrDeadlineExceeded)
		}
	}
}

// Close sends what was written and ends the connection in the background.
func (c *tcpConn) Close() error {
	c.owner.Remove(c)
	if !c.end(net.ErrClosed) {
		return c.opError("close", net.ErrClosed)
	}
	c.ep.Close()
	return nil
}

// CloseWrite tells the other end that nothing more will come; reading goes on.
func (c *tcpConn) CloseWrite() error { return c.shutdown(tcpip.ShutdownWrite) }

// CloseRead ends reading; writing goes on.
func (c *tcpConn) CloseRead() error { return c.shutdown(tcpip.ShutdownRead) }

func (c *tcpConn) shutdown(how tcpip.ShutdownFlags) error {
	if err := c.failure(); err != nil {
		return c.opError("shutdown", err)
	}
	if err := c.ep.Shutdown(how); err != nil {
		return c.opError("shutdown", errno(err))
	}
	return nil
}

func (c *tcpConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *tcpConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *tcpConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *tcpConn) SetReadDeadline(t time.Time) error  { return c.setDeadline(&c.readDeadline, t) }
func (c *tcpConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writeDeadline, t) }

func (c *tcpConn) setDeadline(d *deadline, t time.Time) error {
	if isClosed(c.closed) {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t)
	return nil
}

// Abort implements reach.Open: it resets the connection.
func (c *tcpConn) Abort(err error) {
	if c.end(err) {
		c.ep.Abort()
	}
}

// LocalIP and RemoteIP implement reach.Open.

func (c *tcpConn) LocalIP() netip.Addr  { return c.local.Addr() }
func (c *tcpConn) RemoteIP() netip.Addr { return c.remote.Addr() }

// end marks the connection as closed on this side and reports whether it was not before.
func (c *tcpConn) end(err error) bool {
	c.mu.Lock()
	if isClosed(c.closed) {
		c.mu.Unlock()
		return false
	}
	c.err = err
	close(c.closed)
	c.mu.Unlock()
	c.readDeadline.stop()
	c.writeDeadline.stop()
	return true
}

// fail remembers the first error of the stack and returns what calls fail with.
func (c *tcpConn) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	return c.err
}

func (c *tcpConn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *tcpConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
