package proxy

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// halfCloser is a connection that can end its own direction alone, as TCP does.
type halfCloser interface{ CloseWrite() error }

// countedConn counts payload bytes in both directions.
type countedConn struct {
	net.Conn
	in, out atomic.Int64
}

// Read counts what arrives.
func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.Add(int64(n))
	return n, err //nolint:wrapcheck // a net.Conn returns its errors as they are
}

// Write counts what leaves.
func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.out.Add(int64(n))
	return n, err //nolint:wrapcheck // a net.Conn returns its errors as they are
}

// withCapabilities returns c with exactly those of CloseWrite and SyscallConn that the connection below has, so that a Handler finds
// them, or their absence, by type assertion.
func (c *countedConn) withCapabilities() net.Conn {
	half, canHalfClose := c.Conn.(halfCloser)
	raw, isRaw := c.Conn.(syscall.Conn)
	switch {
	case canHalfClose && isRaw:
		return struct {
			*countedConn
			halfCloser
			syscall.Conn
		}{c, half, raw}
	case canHalfClose:
		return struct {
			*countedConn
			halfCloser
		}{c, half}
	case isRaw:
		return struct {
			*countedConn
			syscall.Conn
		}{c, raw}
	default:
		return c
	}
}

// closeInOrder ends our direction and waits a moment for the peer to end its own. Closing at once would make the kernel answer unread
// bytes with a reset, which can destroy our last words on their way to the peer.
func closeInOrder(c net.Conn) {
	defer func() { _ = c.Close() }()
	h, ok := c.(halfCloser)
	if !ok || h.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c, lingerBytes)
}

// addrPort returns the address of a peer without zone and IPv4-in-IPv6 form, or the zero value when it has none.
func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	var ap netip.AddrPort
	if t, ok := a.(*net.TCPAddr); ok {
		ap = t.AddrPort()
	} else {
		var err error
		if ap, err = netip.ParseAddrPort(a.String()); err != nil {
			return netip.AddrPort{}
		}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
