package netstack

import (
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/towpath/towpath/tunnel/internal/reach"
)

// backlog is how many connections may wait for Accept; the stack answers more with SYN cookies.
const backlog = 128

type listener struct {
	ep    tcpip.Endpoint
	wq    *waiter.Queue
	owner *reach.Set
	local netip.AddrPort

	mu     sync.Mutex
	err    error
	closed chan struct{}
}

func listen(s *stack.Stack, a netip.AddrPort, owner *reach.Set) (*listener, error) {
	l := &listener{wq: new(waiter.Queue), owner: owner, local: a, closed: make(chan struct{})}
	var err tcpip.Error
	if l.ep, err = s.NewEndpoint(tcp.ProtocolNumber, protocol(a.Addr()), l.wq); err != nil {
		return nil, errno(err)
	}
	l.ep.SocketOptions().SetReuseAddress(true) // connections of an earlier listener may still linger in TIME-WAIT
	if err = l.ep.Bind(fullAddress(a)); err == nil {
		err = l.ep.Listen(backlog)
	}
	if err == nil {
		var f tcpip.FullAddress
		if f, err = l.ep.GetLocalAddress(); err == nil {
			l.local = addrPort(f)
		}
	}
	if err != nil {
		l.ep.Close()
		return nil, errno(err)
	}
	if err := owner.Add(l); err != nil {
		l.ep.Close()
		return nil, err
	}
	return l, nil
}

func (l *listener) Accept() (net.Conn, error) {
	var ready <-chan struct{}
	for {
		if err := l.failure(); err != nil {
			return nil, l.opError("accept", err)
		}
		ep, wq, err := l.ep.Accept(nil)
		switch err.(type) {
		case nil:
			c, err := newConn(ep, wq, l.owner)
			if err != nil {
				return nil, l.opError("accept", err)
			}
			return c, nil
		case *tcpip.ErrWouldBlock:
		default:
			if failed := l.failure(); failed != nil {
				return nil, l.opError("accept", failed)
			}
			return nil, l.opError("accept", errno(err))
		}
		if ready == nil {
			entry, ch := waiter.NewChannelEntry(waiter.ReadableEvents)
			l.wq.EventRegister(&entry)
			defer l.wq.EventUnregister(&entry)
			ready = ch
			continue
		}
		select {
		case <-ready:
		case <-l.closed:
		}
	}
}

// Close stops listening; accepted connections stay.
func (l *listener) Close() error {
	l.owner.Remove(l)
	if !l.end(net.ErrClosed) {
		return l.opError("close", net.ErrClosed)
	}
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.local) }

// LocalIP, RemoteIP and Abort implement reach.Open.

func (l *listener) LocalIP() netip.Addr  { return l.local.Addr() }
func (l *listener) RemoteIP() netip.Addr { return netip.Addr{} }
func (l *listener) Abort(err error)      { l.end(err) }

func (l *listener) end(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return false
	}
	l.err = err
	close(l.closed)
	l.ep.Close()
	return true
}

func (l *listener) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *listener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: l.Addr(), Err: err}
}
