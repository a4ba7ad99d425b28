// Package tunnel holds the nouns of a WireGuard device as this product uses one: a complete desired Config, its Peers, the
// Status read back, and the Device interface that the backends implement (netstack, userspace, kernel).
//
// It never knows about sites, grants, DICOM, persistence or how addresses are chosen; a caller hands it a whole Config and it
// works out the difference, because replacing all peers drops their live sessions.
//
// State: a Device owns its WireGuard sessions. Nothing here is persisted.
package tunnel
