package carrier

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"

	"golang.zx2c4.com/wireguard/conn"
)

// IsAddress reports whether an address stands for a carried source. No packet of a network comes from there: it is the discard prefix (RFC 6666).
func IsAddress(a netip.Addr) bool { return discard().Contains(a) }

func discard() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x01}), 64)
}

// newAddress is one that nobody can guess, and that means nothing after a restart.
func newAddress() netip.AddrPort {
	b := discard().Addr().As16()
	_, _ = rand.Read(b[8:]) // never fails
	return netip.AddrPortFrom(netip.AddrFrom16(b), 1)
}

// endpoint is a carried source as WireGuard sees it. It never changes.
type endpoint struct {
	at      netip.AddrPort
	text    string
	session *session
}

var _ conn.Endpoint = (*endpoint)(nil)

func (*endpoint) ClearSrc()             {}
func (*endpoint) SrcToString() string   { return "" }
func (*endpoint) SrcIP() netip.Addr     { return netip.Addr{} }
func (e *endpoint) DstToString() string { return e.text }
func (e *endpoint) DstIP() netip.Addr   { return e.at.Addr() }

// DstToBytes is what cookies are made of (WireGuard paper §5.4.7).
func (e *endpoint) DstToBytes() []byte {
	b, _ := e.at.MarshalBinary() // never fails
	return b
}

// sessionID ties the connections of one client to each other. Whoever sees it may do what whoever is on the way may do: carry and lose packets.
type sessionID [16]byte

func newID() (id sessionID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

func (id sessionID) text() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func parseID(s string) (id sessionID, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("a session has %d octets in base64url", len(id))
	}
	return sessionID(b), nil
}
