// Package userspace is a tunnel backend on wireguard-go with a TUN interface of the Linux kernel: other programs and routed networks
// can use the tunnel, and it needs no WireGuard in the kernel. It needs root (CAP_NET_ADMIN) and /dev/net/tun.
//
// Addresses and routes are package link's business. Connections that this process makes are bound to the interface, so that they
// cannot leave any other way even if routes are wrong.
//
// Every encrypted packet carries a firewall mark (Options.FwMark). By itself the mark does nothing; it lets a routing rule or the
// firewall tell them apart, so that the tunnel is never routed into itself: an outer packet that carries the mark must never be sent
// to an overlay prefix.
//
// State: a Device owns its interface, which the kernel removes with the process, its sessions and what it opened. The unreachable
// routes are in the kernel and outlive a crash on purpose.
package userspace
