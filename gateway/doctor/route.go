package doctor

import (
	"fmt"
	"net"
	"net/netip"
)

// SystemRoute asks the system how it would send to an address, by a UDP socket that sends nothing.
func SystemRoute(to netip.AddrPort) (Route, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return Route{}, fmt.Errorf("find the way to %s: %w", to, err)
	}
	defer func() { _ = c.Close() }()
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return Route{}, fmt.Errorf("find the way to %s: %w", to, err)
	}
	r := Route{Source: local.Addr().Unmap().WithZone("")}
	list, err := net.Interfaces()
	if err != nil {
		return r, nil // the address alone says much
	}
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == r.Source {
				r.Interface, r.MTU = i.Name, i.MTU
				return r, nil
			}
		}
	}
	return r, nil
}
