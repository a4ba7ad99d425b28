// Package kernel is a tunnel backend on the WireGuard of the Linux kernel: the fastest, and no key or packet of it passes through this
// process. It needs CAP_NET_ADMIN and a kernel with WireGuard (5.6 or later); Available says whether both are there.
//
// Addresses and routes are package link's business, the sockets of this process package iface's, as in package userspace. The interface is
// recognized as ours by its group number, and held by one process at a time.
//
// It has no part in what carries the encrypted packets: they are the kernel's own UDP packets, with a firewall mark (Options.FwMark).
//
// Between it and an interface that wg(8) and ip(8) made by hand there is no difference in throughput: 4.79 MB/s there and back through one
// TCP connection for either, 1.00 times (BenchmarkThroughput in an emulated machine whose time is a count of instructions, Linux 6.1, MTU 1420).
//
// State: the interface with its keys, peers and sessions is the kernel's and outlives a crash; the next Device of the same name takes it
// over. CleanUp removes it. A Device in order removes it when it is closed. The unreachable routes outlive a crash on purpose.
package kernel
