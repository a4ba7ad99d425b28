package netstack

import "golang.org/x/sys/unix"

// mayMark reports whether this process may mark its packets. WireGuard's bind would fail as a whole otherwise, and wrapped it would lose its
// notice of changed routes.
func mayMark() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1) == nil
}
