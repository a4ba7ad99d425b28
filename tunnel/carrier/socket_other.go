//go:build !linux

package carrier

import (
	"net"
	"syscall"
)

// tune makes a connection quick. That the system refuses costs only time.
func tune(c net.Conn) {
	if t, ok := netConn(c).(*net.TCPConn); ok {
		_ = t.SetNoDelay(true)
	}
}

// mark does nothing: marks are of Linux.
func mark(syscall.RawConn, uint32) {}
