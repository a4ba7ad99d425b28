// Package wanbench measures the transfer between two gateways over emulated lines: real WireGuard devices with their in-process stacks on both
// ends, datagrams carried by tunneltest/wan. It needs no privileges and opens no sockets. docs/benchmarks.md says how to run it and what came out.
//
// There is nothing here but tests. They live under cmd because only here may tunnel and proxy meet.
//
// State: that of the benchmark.
package wanbench
