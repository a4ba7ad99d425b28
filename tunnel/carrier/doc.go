// Package carrier takes WireGuard packets, unmodified, over TCP where a network lets no UDP out. A Client and a Server open HTTP/1.1
// connections, plain or in TLS, ask for an upgrade (RFC 9110 §7.8), and send frames from then on: two octets of length, most significant
// first, and a packet. A length of 0 is a sign of life, which the server returns.
//
// A Client has two connections: one for data, one for handshakes and keepalives, so that a transfer does not end the session it is in. What
// waits in front of either is bounded in octets and in age, and the oldest goes first: a packet that is late is worth less than one that is lost,
// because whoever sent it believes that it is lost.
//
// Nobody is authenticated here: the packets are, by WireGuard. To the device that has the port a carried source is one more address, in a
// network that has no host (RFC 6666), so that WireGuard and package relay work as over UDP, with all their rules. Connections over which the
// device has answered nobody end soon.
//
// State: a Server owns the connections that it took over, a Client those that it opened; both end with Run or Close.
package carrier
