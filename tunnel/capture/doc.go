// Package capture looks into a tunnel without seeing what is in it: it writes the IP and transport headers of the packets, and never a byte
// that follows them, in the file format of tcpdump and Wireshark.
//
// Backends on wireguard-go call a Tap for every packet between the tunnel and the stack above it. While nobody captures, that costs one
// atomic load.
//
// State: a Tap holds the captures that run. Nothing is kept of a packet but its headers, for as long as they are on their way to the writer.
package capture
