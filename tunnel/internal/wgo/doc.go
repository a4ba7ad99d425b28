// Package wgo drives one wireguard-go device: it applies a whole tunnel.Config as a difference to what the device itself reports,
// reads the status back and bridges the log. The backends on wireguard-go (netstack, userspace) differ only in the TUN device they
// put under it. It bounds the memory of wireguard-go, whose queues and pools have no bound of their own, by giving it more packets only while it
// holds few.
//
// It never touches interfaces, addresses or routes. A Device owns the wireguard-go device it was given.
package wgo
