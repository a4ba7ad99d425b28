//go:build !linux

package portmap

import (
	"net/netip"
	"syscall"
)

func mark(syscall.RawConn) {}

// DefaultRouter is not known on this system.
func DefaultRouter() netip.AddrPort { return netip.AddrPort{} }
