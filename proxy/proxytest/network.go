package proxytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

const (
	firstPort = 49152
	backlog   = 128
)

// Network is a proxy.Network in memory. Make it with NewNetwork. It is safe for concurrent use.
type Network struct {
	world  *world
	source netip.Addr
}

type world struct {
	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
	nextPort  uint16
	down      map[netip.AddrPort]error
	onDial    func(address string, c net.Conn) net.Conn
}

// NewNetwork returns an empty network seen from 127.0.0.1.
func NewNetwork() *Network {
	return &Network{
		world:  &world{listeners: map[netip.AddrPort]*listener{}, nextPort: firstPort, down: map[netip.AddrPort]error{}},
		source: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
	}
}

// From returns the same network seen from another host: connections dialed through it come from that address.
func (n *Network) From(source netip.Addr) *Network { return &Network{world: n.world, source: source} }

// SetDown makes dialing address fail with err, or work again when err is nil. Open connections stay.
func (n *Network) SetDown(address string, err error) {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	if err == nil {
		delete(n.world.down, netip.MustParseAddrPort(address))
		return
	}
	n.world.down[netip.MustParseAddrPort(address)] = err
}

// OnDial has every dialed connection wrapped by f, for instance with Faults. Nil ends that.
func (n *Network) OnDial(f func(address string, c net.Conn) net.Conn) {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.world.onDial = f
}

// DialContext connects to a listener of the same network.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fail(fmt.Errorf("parse the address: %w", err))
	}
	n.world.mu.Lock()
	l, down, wrap := n.world.findLocked(to), n.world.down[to], n.world.onDial
	from := netip.AddrPortFrom(n.source, n.world.portLocked())
	n.world.mu.Unlock()
	if down != nil {
		return fail(down)
	}
	if l == nil {
		return fail(syscall.ECONNREFUSED)
	}
	near, far := Pipe(from, to)
	select {
	case <-ctx.Done():
		return fail(context.Cause(ctx))
	case <-l.done:
		return fail(syscall.ECONNREFUSED)
	case l.queue <- far:
		select {
		case <-l.done: // Close may have emptied the queue before
			_ = far.Close()
		default:
		}
	}
	if wrap != nil {
		return wrap(address, near), nil
	}
	return near, nil
}

// Listen accepts on address. Port 0 picks a free one, an unspecified or empty host accepts for every host.
func (n *Network) Listen(_ context.Context, network, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err == nil && host == "" {
		address = net.JoinHostPort("0.0.0.0", port)
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: fmt.Errorf("parse the address: %w", err)}
	}
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	if at.Port() == 0 {
		at = netip.AddrPortFrom(at.Addr(), n.world.portLocked())
	}
	if n.world.listeners[at] != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: syscall.EADDRINUSE}
	}
	l := &listener{world: n.world, at: at, queue: make(chan net.Conn, backlog), done: make(chan struct{})}
	n.world.listeners[at] = l
	return l, nil
}

func (w *world) findLocked(to netip.AddrPort) *listener {
	if l := w.listeners[to]; l != nil {
		return l
	}
	if l := w.listeners[netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port())]; l != nil {
		return l
	}
	return w.listeners[netip.AddrPortFrom(netip.IPv6Unspecified(), to.Port())]
}

func (w *world) portLocked() uint16 {
	p := w.nextPort
	if w.nextPort++; w.nextPort == 0 {
		w.nextPort = firstPort
	}
	return p
}

type listener struct {
	world *world
	at    netip.AddrPort
	queue chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Accept waits for a connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, l.closed()
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, l.closed()
	}
}

func (l *listener) closed() error {
	return &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
}

// Close ends the listener and resets connections that nobody accepted.
func (l *listener) Close() error {
	err := errors.New("already closed")
	l.once.Do(func() {
		l.world.mu.Lock()
		delete(l.world.listeners, l.at)
		l.world.mu.Unlock()
		close(l.done)
		for len(l.queue) > 0 {
			_ = (<-l.queue).Close()
		}
		err = nil
	})
	return err
}

// Addr returns the address that can be dialed.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }
