// Package gateway is the daemon on a box: it follows the coordinator, remembers the last good NetMap, keeps the box as the map says,
// and reports how it goes.
//
// It parses no protocol and decides no address. The work is in its subpackages; here is the order in which they run and what flows
// between them: maps down, Conditions and reports up.
//
// State: one goroutine (the loop) owns the desired state and applies it; everything others may see is a snapshot. The files are
// gateway/state's, the queue is proxy/spool's.
package gateway
