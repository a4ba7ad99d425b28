// Package wgkey has one type per role of a WireGuard key, so that a private key can never be printed, compared or passed where a
// public one belongs. The text form is standard base64 of 32 bytes, as wg(8) writes it.
//
// It never stores keys. It imports the standard library only.
package wgkey
