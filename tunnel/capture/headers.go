package capture

import (
	"encoding/binary"
	"net/netip"
)

// MaxHeaders bounds what is kept of a packet, in bytes: the longest IPv4 and TCP headers, or IPv6 with some extensions and TCP. What is longer
// is cut off, never what follows kept.
const MaxHeaders = 160

// Lengths of headers in bytes (RFC 791 §3.1, RFC 8200 §3, RFC 9293 §3.1, RFC 768, RFC 792, RFC 4443 §2.1).
const (
	ip4Min = 20
	ip6Min = 40
	tcpMin = 20
	udpLen = 8
	icmp   = 8 // type, code, checksum and identifier; what an error quotes of another packet stays out
)

// IP protocol numbers (RFC 791, RFC 8200 §4).
const (
	hopByHop = 0
	protoICM = 1
	protoTCP = 6
	protoUDP = 17
	routing  = 43
	fragment = 44
	protoIC6 = 58
	options  = 60
)

// maxExtensions is how many IPv6 extension headers are followed.
const maxExtensions = 8

// Headers returns how many bytes of an IP packet are headers, up to the end of the transport header. Of what it does not know, or what is not
// whole, only the part before counts; 0 means that it is no IP packet.
func Headers(b []byte) int {
	return min(headers(b), MaxHeaders, len(b))
}

func headers(b []byte) int {
	switch {
	case len(b) >= ip4Min && b[0]>>4 == 4:
		n := int(b[0]&15) * 4
		if n < ip4Min || n > len(b) {
			return ip4Min
		}
		if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 { // a later fragment: what follows is payload
			return n
		}
		return n + transport(b[9], b[n:])
	case len(b) >= ip6Min && b[0]>>4 == 6:
		return headers6(b)
	}
	return 0
}

func headers6(b []byte) int {
	next, n := b[6], ip6Min
	for range maxExtensions {
		if next == protoTCP || next == protoUDP || next == protoIC6 {
			return n + transport(next, b[n:])
		}
		size := 8
		switch {
		case len(b) < n+size:
			return n
		case next == fragment:
			if binary.BigEndian.Uint16(b[n+2:])>>3 != 0 {
				return n + size
			}
		case next == hopByHop, next == routing, next == options:
			if size += int(b[n+1]) * 8; len(b) < n+size {
				return n
			}
		default:
			return n
		}
		next, n = b[n], n+size
	}
	return n
}

// transport is the length of the header that b begins with, 0 if it is none that is known and whole.
func transport(protocol byte, b []byte) int {
	n := 0
	switch protocol {
	case protoTCP:
		if len(b) < tcpMin {
			return 0
		}
		if n = int(b[12]>>4) * 4; n < tcpMin {
			n = tcpMin
		}
	case protoUDP:
		n = udpLen
	case protoICM, protoIC6:
		n = icmp
	}
	if n > len(b) {
		return 0
	}
	return n
}

// addresses returns the source and destination of an IP packet.
func addresses(b []byte) (source, destination netip.Addr) {
	switch {
	case len(b) >= ip4Min && b[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	case len(b) >= ip6Min && b[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	}
	return netip.Addr{}, netip.Addr{}
}
