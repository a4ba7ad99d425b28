// Package nodeapi serves boxes over HTTP: Public to anybody, for enrolment, whose content is sealed and needs no TLS; Control inside
// WireGuard, where the overlay address of a caller is its proven identity.
//
// It holds no rule of the network: it bounds, decodes, calls the coordinator and encodes.
//
// State: none but the count of enrolments in flight.
package nodeapi
