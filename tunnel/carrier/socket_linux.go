package carrier

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unsentMax is how many octets the kernel may hold that were not sent yet (TCP_NOTSENT_LOWAT, tcp(7)): what waits is to wait where it can be dropped.
const unsentMax = 32 << 10

// tune makes a connection quick. That the system refuses costs only time.
func tune(c net.Conn) {
	t, ok := netConn(c).(*net.TCPConn)
	if !ok {
		return
	}
	_ = t.SetNoDelay(true)
	if raw, err := t.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentMax) })
	}
}

// mark sets the mark of a socket, if this process may.
func mark(c syscall.RawConn, m uint32) {
	_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(m)) })
}
