package carrier

import (
	"fmt"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// probePause is the least time between two answers to probes of one session.
const probePause = 200 * time.Millisecond

// serverBind adds carried sources to those of another Bind.
type serverBind struct {
	conn.Bind
	s *Server
}

// Bind wraps the Bind of the device that has the port; nil means UDP sockets of the host. It is called once.
func (s *Server) Bind(inner conn.Bind) conn.Bind {
	if inner == nil {
		inner = conn.NewDefaultBind()
	}
	return &serverBind{Bind: inner, s: s}
}

// Open implements conn.Bind.
func (b *serverBind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	fns, actual, err := b.Bind.Open(port)
	if err != nil {
		return fns, actual, err
	}
	for i, fn := range fns {
		fns[i] = func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			n, err := fn(packets, sizes, eps)
			if n > 0 && b.s.count.Load() > 0 {
				b.filter(packets[:n], sizes[:n], eps[:n])
			}
			return n, err
		}
	}
	return append(fns, b.s.inbox.open()), actual, nil
}

// Close implements conn.Bind. Carried sessions stay for the next Open.
func (b *serverBind) Close() error {
	b.s.inbox.close()
	return b.Bind.Close()
}

// filter answers probes, and takes out what says over UDP that it is carried.
func (b *serverBind) filter(packets [][]byte, sizes []int, eps []conn.Endpoint) {
	for i, p := range packets {
		if sizes[i] == 0 {
			continue
		}
		if IsAddress(eps[i].DstIP()) {
			sizes[i] = 0
			continue
		}
		if k, ok := keyOf(p[:sizes[i]]); ok {
			if a := b.s.answer(k, p[:sizes[i]]); a != nil {
				_ = b.Bind.Send([][]byte{a}, eps[i]) // an answer that is lost is as good as none
			}
			sizes[i] = 0
		}
	}
}

// answer is that to a probe; nil for one of nobody, or too soon.
func (s *Server) answer(k probeKey, probe []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, now := s.probes[k], time.Now()
	if x == nil || !x.proven.Load() || now.Sub(x.probed) < probePause {
		return nil
	}
	x.probed = now
	return x.id.answer(probe)
}

// Send implements conn.Bind.
func (b *serverBind) Send(packets [][]byte, to conn.Endpoint) error {
	e, ok := to.(*endpoint)
	if !ok {
		return b.Bind.Send(packets, to)
	}
	for _, p := range packets {
		e.session.send(p)
	}
	return nil
}

// ParseEndpoint implements conn.Bind.
func (b *serverBind) ParseEndpoint(text string) (conn.Endpoint, error) {
	a, err := netip.ParseAddrPort(text)
	if err != nil || !IsAddress(a.Addr()) {
		return b.Bind.ParseEndpoint(text)
	}
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if x := b.s.at[a.Addr()]; x != nil && x.endpoint.at == a {
		return x.endpoint, nil
	}
	return nil, fmt.Errorf("%v is not carried any more", a)
}
