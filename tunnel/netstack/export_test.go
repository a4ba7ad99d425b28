package netstack

import (
	"net"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// StealError takes the reason of a failure from the stack's connection, as a concurrent call could.
func StealError(c net.Conn) { _ = c.(*tcpConn).ep.LastError() }

// InError reports whether the stack's connection has failed.
func InError(c net.Conn) bool {
	return tcp.EndpointState(c.(*tcpConn).ep.State()) == tcp.StateError
}
