package iface

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/towpath/towpath/tunnel/internal/reach"
)

// tunConn is a TCP connection through the interface that its owner can end.
type tunConn struct {
	*net.TCPConn
	owner         *Sockets
	local, remote netip.AddrPort
}

// adopt takes over a new connection.
func (s *Sockets) adopt(c net.Conn) (net.Conn, error) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("unexpected kind of connection %T", c), c.Close())
	}
	tc := &tunConn{TCPConn: t, owner: s, local: addrPort(t.LocalAddr()), remote: addrPort(t.RemoteAddr())}
	if err := s.open.Add(tc); err != nil {
		tc.Abort(err)
		return nil, err
	}
	return tc, nil
}

// Close implements net.Conn.
func (c *tunConn) Close() error {
	c.owner.open.Remove(c)
	return c.TCPConn.Close()
}

// LocalIP, RemoteIP and Abort implement reach.Open. Calls fail with net.ErrClosed, whatever the reason was.

func (c *tunConn) LocalIP() netip.Addr  { return c.local.Addr() }
func (c *tunConn) RemoteIP() netip.Addr { return c.remote.Addr() }

func (c *tunConn) Abort(error) {
	_ = c.SetLinger(0) // a reset instead of an orderly end, which would look complete to the other side
	_ = c.TCPConn.Close()
}

type listener struct {
	net.Listener
	owner  *Sockets
	reason atomic.Pointer[error] // set by Abort
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			if r := l.reason.Load(); r != nil {
				err = reach.Error("accept", "tcp", addrPort(l.Addr()), *r)
			}
			return nil, err
		}
		if c, err = l.owner.adopt(c); err == nil {
			return c, nil
		}
		// Not allowed (any more): its end is no reason to stop accepting others. If its owner was closed, so is the listener.
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.owner.open.Remove(l)
	return l.Listener.Close()
}

// LocalIP, RemoteIP and Abort implement reach.Open.

func (l *listener) LocalIP() netip.Addr  { return addrPort(l.Addr()).Addr() }
func (l *listener) RemoteIP() netip.Addr { return netip.Addr{} }

func (l *listener) Abort(err error) {
	l.reason.Store(&err)
	_ = l.Listener.Close()
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}
