package lan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrOverlay means that a LAN target is an overlay address, which only the tunnel may reach.
var ErrOverlay = errors.New("the address belongs to the overlay and is not reachable on the LAN")

const (
	dialTimeout = 10 * time.Second
	keepAlive   = 30 * time.Second
)

// Network dials and listens on the LAN. The zero value is ready and bars nothing; it is safe for concurrent use.
type Network struct {
	// Mark is set on every socket if it is not 0, see tunnel.MarkLAN. It needs CAP_NET_ADMIN: without that right nothing works, because what
	// is to be marked must not go unmarked. It is set before the Network is used.
	Mark uint32

	barred atomic.Pointer[[]netip.Prefix]
}

// Bar sets the overlay prefixes that may never be dialed or listened on.
func (n *Network) Bar(prefixes []netip.Prefix) {
	p := slices.Clone(prefixes)
	n.barred.Store(&p)
}

// DialContext connects to host:port. Names are resolved by the system; the address that is really dialed is checked, not the name.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, ControlContext: n.prepare}
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("dial on the LAN: %w", err)
	}
	return tune(c), nil
}

// Listen accepts on a local address.
func (n *Network) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: keepAlive, Control: func(network, address string, c syscall.RawConn) error {
		return n.prepare(ctx, network, address, c)
	}}
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("listen on the LAN: %w", err)
	}
	return listener{l}, nil
}

// prepare marks a socket that is about to be connected or to listen, unless its address is barred.
func (n *Network) prepare(_ context.Context, _, address string, c syscall.RawConn) error {
	if err := n.check(address); err != nil || n.Mark == 0 {
		return err
	}
	return mark(c, n.Mark)
}

func (n *Network) check(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("parse the address: %w", err)
	}
	barred := n.barred.Load()
	if barred == nil {
		return nil
	}
	for _, p := range *barred {
		if p.Contains(ap.Addr().Unmap()) {
			return fmt.Errorf("%w: %s is in %s", ErrOverlay, ap.Addr(), p)
		}
	}
	return nil
}

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // an accept loop matches net.ErrClosed and temporary errors
	}
	return tune(c), nil
}

// conn acknowledges at once. Linux leaves quick-ACK mode by itself, so it is armed again with every read; the cost is one system call
// and the gain is 30 to 70 ms an object with senders that keep Nagle's algorithm on.
type conn struct {
	*net.TCPConn
	raw syscall.RawConn
}

func tune(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	_ = t.SetNoDelay(true)
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	return &conn{TCPConn: t, raw: raw}
}

// Read reads and acknowledges.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if n > 0 {
		quickACK(c.raw)
	}
	return n, err //nolint:wrapcheck // a net.Conn returns its errors as they are
}
