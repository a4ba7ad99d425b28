// Package sitecert is a Site's own certificate authority for its LAN, on the box itself: it keeps the box's own certificate fresh without
// anybody's help, issues certificates for the Site's devices, and knows when they end and which are revoked.
//
// The keys of the authority and of the box are secrets of the state directory, in its key store if there is one; they leave the box only
// in the backup that an operator asks for, under a passphrase. Keys of devices are made here, handed over once and not kept.
//
// State: lan-ca.json, lan-server.json (secrets), lan-certs.json (certificates, no secrets). All are written by an Authority.
package sitecert
