// Package tunneltest has what the tests of all tunnel backends share: the contract suite Device, which every backend must pass, and
// Network, an internet in memory on which real WireGuard runs without sockets, also inside testing/synctest.
//
// It imports testing and belongs into tests only.
package tunneltest
