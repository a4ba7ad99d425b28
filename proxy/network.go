package proxy

import (
	"context"
	"net"
)

// Network is the only door of proxy code to the world. Two values exist on a box: the LAN one and the overlay one, which can reach
// nothing but the tunnel. Tests use memory ones from proxytest.
type Network interface {
	// DialContext connects to a host and port. Network is always "tcp". The LAN resolves names with the box's resolver; the overlay takes
	// literal addresses only.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	Listen(ctx context.Context, network, address string) (net.Listener, error)
}
