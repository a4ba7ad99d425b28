package lan

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func quickACK(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
}
