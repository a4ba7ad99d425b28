// Package ipam answers which addresses are free: it keeps an index of everything that is taken in a pool, or in a tree of pools, and picks
// the place of the next prefix, deterministically and with little fragmentation.
//
// Owners, lifetimes and storage are unknown to it. It never reads a clock, a file or a network, and never logs; randomness is passed in.
// Prefixes are masked netip.Prefix values of IPv4 or IPv6; IPv4 addresses mapped into IPv6 are refused everywhere.
//
// State: a Space, a Plan or a Set belongs to its caller. Reading one from several goroutines is fine, changing a Space or a Plan is not.
package ipam
