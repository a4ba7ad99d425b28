// Package link gives a network interface its addresses, MTU and routes, and the overlay its unreachable routes, so that traffic for it
// never leaves by another interface.
//
// It never creates WireGuard or TUN interfaces, never touches interfaces, routes or rules it did not make, and knows nothing of
// peers. It owns every address of the interface it is given, and in the main routing table every route with its own protocol number
// (Protocol). State lives in the kernel only: whatever a crashed run left behind is found there and corrected.
package link
