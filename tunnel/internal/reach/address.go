package reach

import (
	"fmt"
	"net"
	"net/netip"
)

// ParseAddress reads the arguments of a Dial or Listen: network is "tcp", "tcp4" or "tcp6", address is literal and has a port.
func ParseAddress(network, address string) (netip.AddrPort, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return netip.AddrPort{}, fmt.Errorf("%w: the tunnel carries tcp only", net.UnknownNetworkError(network))
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not a literal address with a port; names are never resolved here", address)
	}
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	if (network == "tcp4" && !a.Addr().Is4()) || (network == "tcp6" && !a.Addr().Is6()) {
		return netip.AddrPort{}, fmt.Errorf("%v is not an address for %s", a.Addr(), network)
	}
	return a, nil
}

// Error wraps err like package net does. An invalid address is left out.
func Error(op, network string, a netip.AddrPort, err error) error {
	e := &net.OpError{Op: op, Net: network, Err: err}
	if a.IsValid() {
		e.Addr = net.TCPAddrFromAddrPort(a)
	}
	return e
}
