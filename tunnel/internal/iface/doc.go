// Package iface has what the backends with a network interface of the Linux kernel share: how a configuration becomes addresses and
// routes, and the connections and listeners of this process. Each socket is bound to the interface and to an own address, so that what it
// says cannot leave any other way even if routes are wrong, and ends when the configuration no longer allows it.
//
// It makes no interface.
//
// State: a Sockets owns what was opened through it.
package iface
