package carrier

import (
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// clientBind sends by UDP, or as its Client says.
type clientBind struct {
	conn.Bind
	c *Client
}

// Bind wraps the Bind of the device; nil means UDP sockets of the host. It is called once.
func (c *Client) Bind(inner conn.Bind) conn.Bind {
	if inner == nil {
		inner = conn.NewDefaultBind()
	}
	c.mu.Lock()
	c.bind = inner
	c.mu.Unlock()
	return &clientBind{Bind: inner, c: c}
}

// Open implements conn.Bind.
func (b *clientBind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	fns, actual, err := b.Bind.Open(port)
	if err != nil {
		return fns, actual, err
	}
	for i, fn := range fns {
		fns[i] = func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			n, err := fn(packets, sizes, eps)
			for j := range n {
				if sizes[j] > 0 {
					// WireGuard does not watch routes for a Bind that is wrapped: a source address that it remembers would stay when the route
					// has gone. Whoever calls others needs none.
					eps[j].ClearSrc()
					b.c.look(packets[j][:sizes[j]], &sizes[j], eps[j])
				}
			}
			return n, err
		}
	}
	return append(fns, b.c.inbox.open()), actual, nil
}

// Close implements conn.Bind.
func (b *clientBind) Close() error {
	b.c.inbox.close()
	return b.Bind.Close()
}

// look sees what has come by UDP: answers to probes, which are not the device's, and signs that the hub is heard.
func (c *Client) look(p []byte, size *int, from conn.Endpoint) {
	if isAnswer(p) {
		*size = 0
		c.noteAnswer(p)
		return
	}
	if k := kindOf(p); k != response && k != transport {
		return
	}
	now := c.clock()
	// Once a second is enough, and costs the fast path nothing.
	if c.asked.Load() == 0 && now-c.heard.Load() < int64(time.Second) && c.out.Load() == nil && c.heard.Load() != 0 {
		return
	}
	c.mu.Lock()
	hub := c.target.Hub
	c.mu.Unlock()
	if addressOf(from) == hub {
		c.heard.Store(now)
		c.asked.Store(0)
	}
}

func addressOf(e conn.Endpoint) netip.AddrPort {
	var a netip.AddrPort
	if s, ok := e.(*conn.StdNetEndpoint); ok {
		a = s.AddrPort
	} else {
		a, _ = netip.ParseAddrPort(e.DstToString()) // the zero value is nowhere
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Send implements conn.Bind.
func (b *clientBind) Send(packets [][]byte, to conn.Endpoint) error {
	c := b.c
	out := c.out.Load()
	for _, p := range packets {
		if k := kindOf(p); k == initiation || k == response {
			c.noteOwn(p, to, out == nil)
		}
	}
	if out == nil {
		return b.Bind.Send(packets, to)
	}
	for _, p := range packets {
		out.send(p)
	}
	return nil
}

// noteOwn remembers whom an index of the device is for, so that what comes back over TCP seems to come from where the peer is called: its
// place by UDP stays as it was. Calls of the hub by UDP begin the wait for an answer.
func (c *Client) noteOwn(p []byte, to conn.Endpoint, udp bool) {
	at := addressOf(to)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.indexes.note(sender(p), at, time.Now())
	if udp && kindOf(p) == initiation && at == c.target.Hub {
		c.asked.CompareAndSwap(0, c.clock())
	}
}

// take gives the device a packet that came over TCP.
func (c *Client) take(p []byte, done <-chan struct{}) {
	c.mu.Lock()
	e := c.hubEndpoint()
	if kindOf(p) != initiation {
		if at, ok := c.indexes.find(receiver(p)); ok {
			e = c.indexes.endpoint(c.bind, at)
		}
	}
	c.mu.Unlock()
	if e != nil {
		c.inbox.put(p, e, done)
	}
}

// indexes are those of the device's sessions, each with the place of its peer. They are forgotten after one to two lifetimes of a session.
type indexes struct {
	now, old  map[uint32]netip.AddrPort
	turn      time.Time
	endpoints map[netip.AddrPort]conn.Endpoint
}

const (
	// indexLife is REJECT_AFTER_TIME, 180 s (WireGuard paper §6.1), and some room.
	indexLife  = 200 * time.Second
	maxIndexes = 1 << 16
)

func newIndexes() *indexes {
	return &indexes{now: map[uint32]netip.AddrPort{}, endpoints: map[netip.AddrPort]conn.Endpoint{}}
}

func (x *indexes) note(index uint32, at netip.AddrPort, now time.Time) {
	if now.After(x.turn) || len(x.now) >= maxIndexes {
		x.now, x.old, x.turn = map[uint32]netip.AddrPort{}, x.now, now.Add(indexLife)
		clear(x.endpoints)
	}
	x.now[index] = at
}

func (x *indexes) find(index uint32) (netip.AddrPort, bool) {
	if at, ok := x.now[index]; ok {
		return at, true
	}
	at, ok := x.old[index]
	return at, ok
}

// endpoint has no source address, so that nobody changes it and many may have it.
func (x *indexes) endpoint(b conn.Bind, at netip.AddrPort) conn.Endpoint {
	if e := x.endpoints[at]; e != nil {
		return e
	}
	e, err := b.ParseEndpoint(at.String())
	if err != nil {
		return nil
	}
	x.endpoints[at] = e
	return e
}
