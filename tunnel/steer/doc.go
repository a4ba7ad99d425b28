// Package steer takes the packets of a wireguard-go device by the way that package path decides, and carries that package's probes on the
// device's own UDP socket, so that what a probe finds open is open for WireGuard.
//
// A Bind stands between the device and its socket. To the device, a peer that is steered has one endpoint for ever, its Alias; the Bind
// alone knows where that leads now. So a change of way loses nothing: packets under way by the former one still arrive and cannot turn
// the endpoint back, which is what defeats every attempt to steer by configuration. For this the device must not follow its
// peers to where their packets come from: see NoRoaming. Where a peer has gone is learned from its probes instead.
//
// The kernel's WireGuard has no such place to stand; there a way stays as it is configured.
package steer
