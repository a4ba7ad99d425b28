package fakenet

import (
	"errors"
	"net"
	"net/netip"
	"slices"

	"golang.zx2c4.com/wireguard/conn"
)

// Host is a machine with one UDP socket. It implements conn.Bind; the port is its own, whatever is asked for.
type Host struct {
	net    *Network
	at     netip.AddrPort
	boxes  []*box // the nearest first
	in     chan packet
	closed chan struct{}
}

// Move gives the host another address of its own, as DHCP or another uplink would. Its routers forget nothing.
func (h *Host) Move(at netip.AddrPort) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.at = at
}

// out takes a packet through all routers.
func (h *Host) out(dst netip.AddrPort) (src netip.AddrPort, ok bool) {
	src = h.at
	for _, b := range h.boxes {
		if src, ok = b.out(src, dst); !ok {
			return src, false
		}
	}
	return src, true
}

// reach brings a packet from the internet to the host, if it passes all routers.
func (h *Host) reach(src, dst netip.AddrPort) (netip.AddrPort, bool) {
	for _, b := range slices.Backward(h.boxes) {
		var ok bool
		if dst, ok = b.in(src, dst); !ok {
			return dst, false
		}
	}
	return dst, dst.Addr() == h.at.Addr()
}

// endpoint is an address in the internet.
type endpoint netip.AddrPort

// The methods of conn.Endpoint.
func (e endpoint) ClearSrc()           {}
func (e endpoint) SrcToString() string { return "" }
func (e endpoint) SrcIP() netip.Addr   { return netip.Addr{} }
func (e endpoint) DstIP() netip.Addr   { return netip.AddrPort(e).Addr() }
func (e endpoint) DstToString() string { return netip.AddrPort(e).String() }
func (e endpoint) DstToBytes() []byte {
	b, _ := netip.AddrPort(e).MarshalBinary() // of an address that was parsed
	return b
}

// Open implements conn.Bind.
func (h *Host) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	closed := make(chan struct{})
	h.closed = closed
	return []conn.ReceiveFunc{func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		select {
		case p := <-h.in:
			sizes[0], eps[0] = copy(packets[0], p.data), endpoint(p.src)
			return 1, nil
		case <-closed:
			return 0, net.ErrClosed
		}
	}}, h.at.Port(), nil
}

// Close implements conn.Bind.
func (h *Host) Close() error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.closed != nil {
		close(h.closed)
		h.closed = nil
	}
	return nil
}

// SetMark implements conn.Bind.
func (h *Host) SetMark(uint32) error { return nil }

// BatchSize implements conn.Bind.
func (h *Host) BatchSize() int { return 1 }

// ParseEndpoint implements conn.Bind.
func (h *Host) ParseEndpoint(s string) (conn.Endpoint, error) {
	at, err := netip.ParseAddrPort(s)
	return endpoint(at), err
}

// Send implements conn.Bind.
func (h *Host) Send(packets [][]byte, to conn.Endpoint) error {
	e, ok := to.(endpoint)
	if !ok {
		return errors.New("fakenet: an endpoint of another network")
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	dst := netip.AddrPort(e)
	src, ok := h.out(dst)
	if !ok {
		return nil
	}
	for _, p := range packets {
		h.net.send(packet{slices.Clone(p), src, dst})
	}
	return nil
}
