package iface

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/internal/reach"
	"github.com/towpath/towpath/tunnel/link"
)

// Name checks the name of an interface; empty means fallback.
func Name(name, fallback string) (string, error) {
	if name == "" {
		name = fallback
	}
	if len(name) >= syscall.IFNAMSIZ {
		return "", fmt.Errorf("interface name %q is longer than %d bytes", name, syscall.IFNAMSIZ-1)
	}
	return name, nil
}

// Link is what a valid Config, whose reach is can, asks of addresses and routes. A default route is refused with tunnel.ErrInvalid.
func Link(name string, c tunnel.Config, can *reach.Reach) (link.Config, error) {
	l := link.Config{Interface: name, MTU: c.MTU, Addresses: c.Addresses, Blackhole: c.Blackhole}
	if l.MTU == 0 {
		l.MTU = tunnel.DefaultMTU
	}
	l.Sources = can.Sources() // for other programs on this machine as for this one
	for _, p := range c.Peers {
		l.Routes = append(l.Routes, p.AllowedIPs...)
	}
	if i := slices.IndexFunc(l.Routes, func(p netip.Prefix) bool { return p.Bits() == 0 }); i >= 0 {
		return l, fmt.Errorf("%w: a default route (%v) cannot lead through the interface %s: list the networks of the peer instead",
			tunnel.ErrInvalid, l.Routes[i], name)
	}
	return l, nil
}
