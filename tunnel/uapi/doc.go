// Package uapi writes and reads WireGuard's cross-platform configuration protocol, the text that wireguard-go is configured with
// (https://www.wireguard.com/xplatform/#configuration-protocol).
//
// It never talks to a device and owns no state. The text it writes contains secrets: callers must not log or keep it.
package uapi
