// Package tunneltest has what the tests of all tunnel backends share: the contract suite Device, which every backend must pass, and
// Network, an internet in memory on which real WireGuard runs without sockets. Inside testing/synctest that works for a WireGuard
// device with a TUN of channels, but not for package netstack: gVisor's goroutines wait in ways that fake time does not see.
//
// It imports testing and belongs into tests only.
package tunneltest
