// Package reach has what the backends with a tunnel.Stack share: which addresses a configuration lets a device talk to, the set of
// connections and listeners that must end when it no longer does, and the strict parsing of addresses.
//
// It opens nothing itself.
package reach
