// Package hub keeps the coordinator's own WireGuard device true to the list of nodes, and serves the control API inside it.
//
// It never forwards between nodes, chooses no address and has no rule of its own. Nodes call it; it calls nobody.
//
// State: the device's sessions, through the tunnel.Device it is given and does not close.
package hub
