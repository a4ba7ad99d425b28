// Package portmap asks the router of a Site to pass a UDP port on to this machine: by PCP (RFC 6887), and by NAT-PMP (RFC 6886) where the router
// knows only that. IPv4 only. Whatever a router says is checked for size, sender, nonce and port, and decides nothing but one more address to try.
package portmap
