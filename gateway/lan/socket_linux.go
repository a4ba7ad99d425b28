package lan

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

func quickACK(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
}

// mark sets the firewall mark of what the socket sends, and of what a listener accepts.
func mark(c syscall.RawConn, value uint32) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(value)) }); e != nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("mark the socket (this needs the capability NET_ADMIN): %w", err)
	}
	return nil
}
