package steer

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/towpath/towpath/tunnel/path"
)

var errRelayUnknown = errors.New("no relay is known for the peer")

// alias is the endpoint of a steered peer as its device knows it.
type alias struct{ *peer }

// The methods of conn.Endpoint. What is shown is the way in use.
func (a alias) ClearSrc()           {}
func (a alias) SrcToString() string { return "" }
func (a alias) SrcIP() netip.Addr   { return netip.Addr{} }
func (a alias) DstIP() netip.Addr   { return a.address().Addr() }
func (a alias) DstToString() string { return a.address().String() }
func (a alias) DstToBytes() []byte {
	b, _ := a.address().MarshalBinary() // of an address that was parsed
	return b
}

func (a alias) address() netip.AddrPort {
	if w := a.way.Load(); w != nil {
		return w.address
	}
	return a.name
}

// ParseEndpoint implements conn.Bind.
func (b *Bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	if at, err := netip.ParseAddrPort(s); err == nil && IsAlias(at) {
		b.mu.Lock()
		p := b.byAlias[at]
		b.mu.Unlock()
		if p == nil {
			return nil, fmt.Errorf("endpoint %s: no steered peer has this alias", s)
		}
		return alias{p}, nil
	}
	return b.Bind.ParseEndpoint(s)
}

// Send implements conn.Bind.
func (b *Bind) Send(packets [][]byte, to conn.Endpoint) error {
	a, ok := to.(alias)
	if !ok {
		return b.Bind.Send(packets, to)
	}
	w := a.way.Load()
	if w == nil {
		return errRelayUnknown
	}
	return b.Bind.Send(packets, w.endpoint)
}

// Open implements conn.Bind. The device never sees a probe: a size of 0 tells it to skip.
func (b *Bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	receive, actual, err := b.Bind.Open(port)
	for i, fn := range receive {
		receive[i] = func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			n, err := fn(packets, sizes, eps)
			for i := range n {
				if p := packets[i][:sizes[i]]; path.IsProbe(p) {
					b.probe(p, eps[i])
					sizes[i] = 0
				}
			}
			return n, err
		}
	}
	return receive, actual, err
}
