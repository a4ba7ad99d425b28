// Package wan emulates a wide-area line in user space, for labs on kernels that have no netem: a drop-tail queue, a serializing
// line of a given rate, loss, delay and jitter, in each direction.
//
// A Line is the emulation of one direction and knows only byte slices and the clock, so that it can be validated, and used, in a
// testing/synctest bubble. Open puts two Lines behind a TUN device in a router's network namespace, with the policy routes that
// send transit packets through it.
//
// It never shapes by itself what the kernel forwards elsewhere, never looks into packets beyond their addresses, and is not a
// router: ICMP errors, fragmentation and TTL are the kernel's.
//
// State: a Line owns the packets under way; an Emulator owns its device, routes and rules, and removes them when it is closed.
package wan
