package iface

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/internal/reach"
)

// A silent peer is noticed within about two minutes: idle, then probes times interval.
func keepalive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}
}

// DialContext implements tunnel.Stack for "tcp", "tcp4" and "tcp6". The socket is bound to the interface and an own address, and
// marked (tunnel.MarkInner). An address that no peer has fails at once; one whose peer does not answer fails when ctx ends.
func (s *Sockets) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	a, err := reach.ParseAddress(network, address)
	if err != nil {
		return nil, reach.Error("dial", network, a, err)
	}
	can, err := s.ready(ctx)
	if err == nil {
		err = can.CheckDial(a.Addr())
	}
	if err != nil {
		return nil, reach.Error("dial", network, a, err)
	}
	dialer := net.Dialer{
		LocalAddr:       net.TCPAddrFromAddrPort(netip.AddrPortFrom(can.Source(a.Addr()), 0)),
		KeepAliveConfig: keepalive(),
		Control:         s.bindTo,
	}
	c, err := dialer.DialContext(ctx, network, a.String())
	if err != nil {
		return nil, err
	}
	return s.adopt(c)
}

// Listen implements tunnel.Stack. The address must be one of the device's own; port 0 takes a free one. Connections that come from
// another interface are not accepted.
func (s *Sockets) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	a, err := reach.ParseAddress(network, address)
	if err != nil {
		return nil, reach.Error("listen", network, a, err)
	}
	can, err := s.ready(ctx)
	if err == nil {
		err = can.CheckListen(a.Addr())
	}
	if err != nil {
		return nil, reach.Error("listen", network, a, err)
	}
	config := net.ListenConfig{KeepAliveConfig: keepalive(), Control: s.bindTo}
	ln, err := config.Listen(ctx, network, a.String())
	if err != nil {
		return nil, err
	}
	l := &listener{Listener: ln, owner: s}
	if err := s.open.Add(l); err != nil {
		return nil, errors.Join(reach.Error("listen", network, a, err), ln.Close())
	}
	return l, nil
}

func (s *Sockets) ready(ctx context.Context) (*reach.Reach, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.closed.Load() {
		return nil, reach.ErrClosed
	}
	can := s.reach.Load()
	if can == nil {
		return nil, reach.ErrNotConfigured
	}
	return can, nil
}

// bindTo ties a socket to the interface before it is connected, and marks it so that the firewall knows it by more than its addresses. What a
// listener accepts has its mark.
func (s *Sockets) bindTo(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		if err = unix.BindToDevice(int(fd), s.name); err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, tunnel.MarkInner)
		}
	}); e != nil {
		return e
	}
	return err
}
