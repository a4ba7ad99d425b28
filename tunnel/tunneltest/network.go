package tunneltest

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// socketQueue is how many datagrams wait at a socket before more are dropped, as at a real one.
const socketQueue = 4096

// Network is an internet in memory: datagrams go from one address to another in order, or are dropped when the receiver
// does not keep up, when nobody has the address, or when Drop says so.
type Network struct {
	// Drop decides about each datagram, if set before the first one. It runs on the sender's goroutine and must not keep the payload.
	Drop func(from, to netip.AddrPort, payload []byte) bool
	// Delay is how long each datagram is under way, if set before the first socket opens. Time may be that of testing/synctest.
	Delay time.Duration
	// Detour is how much longer a datagram is under way, which others overtake. It may be set before the first datagram, and must not keep
	// the payload.
	Detour func(payload []byte) time.Duration

	mu      sync.RWMutex
	sockets map[netip.AddrPort]*socket
	free    uint16 // next port to try for a socket that does not care
	buffers sync.Pool
}

// NewNetwork returns an empty network.
func NewNetwork() *Network {
	return &Network{sockets: map[netip.AddrPort]*socket{}, free: 49152, buffers: sync.Pool{New: func() any { return new([]byte) }}}
}

// Bind returns a host of the network for one WireGuard device. Different Binds may share an address but not a port.
func (n *Network) Bind(a netip.Addr) *Bind { return &Bind{network: n, addr: a} }

type datagram struct {
	from    netip.AddrPort
	payload *[]byte
	due     time.Time
}

type socket struct {
	local  netip.AddrPort
	line   chan datagram // on the way; the same as in if there is no delay
	in     chan datagram // arrived
	closed chan struct{}
}

// carry moves datagrams from the line into the socket when they are due.
func (s *socket) carry() {
	for {
		select {
		case d := <-s.line:
			time.Sleep(time.Until(d.due))
			select {
			case s.in <- d:
			case <-s.closed:
				return
			}
		case <-s.closed:
			return
		}
	}
}

func (n *Network) open(a netip.Addr, port uint16) (*socket, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := netip.AddrPortFrom(a, port)
	for tries := 0; port == 0; tries++ {
		if tries == 1<<16 {
			return nil, syscall.EADDRNOTAVAIL
		}
		n.free = max(n.free+1, 49152)
		if at = netip.AddrPortFrom(a, n.free); n.sockets[at] == nil {
			port = n.free
		}
	}
	if n.sockets[at] != nil {
		return nil, fmt.Errorf("bind %v: %w", at, syscall.EADDRINUSE)
	}
	s := &socket{local: at, in: make(chan datagram, socketQueue), closed: make(chan struct{})}
	s.line = s.in
	if n.Delay > 0 {
		s.line = make(chan datagram, socketQueue)
		go s.carry()
	}
	n.sockets[at] = s
	return s, nil
}

func (n *Network) close(s *socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sockets[s.local] == s {
		delete(n.sockets, s.local)
	}
	close(s.closed)
}

func (n *Network) send(from, to netip.AddrPort, payload []byte) {
	if n.Drop != nil && n.Drop(from, to, payload) {
		return
	}
	n.mu.RLock()
	s := n.sockets[to]
	n.mu.RUnlock()
	if s == nil {
		return
	}
	b := n.buffers.Get().(*[]byte)
	*b = append((*b)[:0], payload...)
	queue := func() {
		select {
		case s.line <- datagram{from, b, time.Now().Add(n.Delay)}:
		default:
			n.buffers.Put(b)
		}
	}
	if n.Detour != nil {
		if d := n.Detour(payload); d > 0 {
			time.AfterFunc(d, queue)
			return
		}
	}
	queue()
}

// Bind is a conn.Bind on a Network.
type Bind struct {
	network *Network

	mu     sync.Mutex
	addr   netip.Addr
	socket *socket
}

var _ conn.Bind = (*Bind)(nil)

// Move gives the host another address; the port stays. WireGuard is not told, as when a NAT forgets a mapping.
func (b *Bind) Move(a netip.Addr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addr = a
	if b.socket == nil {
		return nil
	}
	n, s := b.network, b.socket
	n.mu.Lock()
	defer n.mu.Unlock()
	to := netip.AddrPortFrom(a, s.local.Port())
	if n.sockets[to] != nil {
		return fmt.Errorf("move to %v: %w", to, syscall.EADDRINUSE)
	}
	delete(n.sockets, s.local)
	s.local = to
	n.sockets[to] = s
	return nil
}

// Open implements conn.Bind.
func (b *Bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.socket != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	s, err := b.network.open(b.addr, port)
	if err != nil {
		return nil, 0, err
	}
	b.socket = s
	return []conn.ReceiveFunc{func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		return b.network.receive(s, bufs, sizes, eps)
	}}, s.local.Port(), nil
}

func (n *Network) receive(s *socket, bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	put := func(i int, d datagram) {
		sizes[i] = copy(bufs[i], *d.payload)
		eps[i] = Endpoint(d.from)
		n.buffers.Put(d.payload)
	}
	select {
	case d := <-s.in:
		put(0, d)
	case <-s.closed:
		return 0, net.ErrClosed
	}
	for i := 1; i < len(bufs); i++ {
		select {
		case d := <-s.in:
			put(i, d)
		default:
			return i, nil
		}
	}
	return len(bufs), nil
}

// Close implements conn.Bind.
func (b *Bind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.socket != nil {
		b.network.close(b.socket)
		b.socket = nil
	}
	return nil
}

// Send implements conn.Bind.
func (b *Bind) Send(bufs [][]byte, to conn.Endpoint) error {
	b.mu.Lock()
	if b.socket == nil {
		b.mu.Unlock()
		return net.ErrClosed
	}
	from := netip.AddrPortFrom(b.addr, b.socket.local.Port())
	b.mu.Unlock()
	e, ok := to.(Endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	for _, p := range bufs {
		b.network.send(from, netip.AddrPort(e), p)
	}
	return nil
}

// ParseEndpoint implements conn.Bind.
func (b *Bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	a, err := netip.ParseAddrPort(s)
	return Endpoint(a), err
}

// SetMark implements conn.Bind; there is no routing here that could heed it.
func (b *Bind) SetMark(uint32) error { return nil }

// BatchSize implements conn.Bind.
func (b *Bind) BatchSize() int { return conn.IdealBatchSize }

// Endpoint is an address on a Network.
type Endpoint netip.AddrPort

var _ conn.Endpoint = Endpoint{}

// ClearSrc implements conn.Endpoint; source addresses are not remembered.
func (e Endpoint) ClearSrc() {}

// SrcToString implements conn.Endpoint.
func (e Endpoint) SrcToString() string { return "" }

// SrcIP implements conn.Endpoint.
func (e Endpoint) SrcIP() netip.Addr { return netip.Addr{} }

// DstToString implements conn.Endpoint.
func (e Endpoint) DstToString() string { return netip.AddrPort(e).String() }

// DstIP implements conn.Endpoint.
func (e Endpoint) DstIP() netip.Addr { return netip.AddrPort(e).Addr() }

// DstToBytes implements conn.Endpoint.
func (e Endpoint) DstToBytes() []byte {
	b, _ := netip.AddrPort(e).MarshalBinary() // always nil
	return b
}
