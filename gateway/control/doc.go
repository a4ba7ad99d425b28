// Package control is the box's side of the coordinator: sealed enrolment over plain HTTP, then watching for NetMaps and reporting,
// both through the tunnel.
//
// It never decides anything and never applies a map: it hands what comes to its caller, which verifies it, asks for the whole map when a
// change did not fit, and carries heartbeats and reports up. A coordinator that cannot be reached is normal; the caller goes on with the
// last good map.
//
// State: none. The maps are kept by gateway/state.
package control
