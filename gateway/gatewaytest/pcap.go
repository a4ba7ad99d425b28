package gatewaytest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
)

// Traffic is what a capture holds, by kind.
type Traffic struct {
	Packets int
	Bytes   int64
	// WireGuard counts UDP packets that begin as WireGuard messages do: a type of 1 to 4 and three zero bytes.
	WireGuard [5]int
	// HTTP counts TCP packets from or to the coordinator's enrolment port.
	HTTP int
	// Neighbors counts what a line needs by itself: ARP, and ICMP, ICMPv6 and IGMP between addresses of the line.
	Neighbors int
	// Mapping counts questions to the router for a port: PCP's and NAT-PMP's, of exactly their lengths.
	Mapping int
	// Other lists everything else, at most 20 of them in words.
	OtherCount int
	Other      []string
}

// Tunnel is the number of WireGuard packets.
func (t *Traffic) Tunnel() int {
	return t.WireGuard[1] + t.WireGuard[2] + t.WireGuard[3] + t.WireGuard[4]
}

func (t *Traffic) other(format string, args ...any) {
	t.OtherCount++
	if len(t.Other) < 20 {
		t.Other = append(t.Other, fmt.Sprintf(format, args...))
	}
}

// ReadCapture classifies the packets of a classic pcap file of an Ethernet link. The last packet may be cut off.
func ReadCapture(name string, httpPort uint16) (Traffic, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return Traffic{}, err
	}
	t, err := parseCapture(data, httpPort)
	if err != nil {
		return t, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

func parseCapture(data []byte, httpPort uint16) (Traffic, error) {
	var t Traffic
	if len(data) < 24 {
		return t, errors.New("not a capture: no header")
	}
	if magic := binary.LittleEndian.Uint32(data); magic != 0xa1b2c3d4 && magic != 0xa1b23c4d {
		return t, fmt.Errorf("not a little-endian pcap file: magic %#x", magic)
	}
	if link := binary.LittleEndian.Uint32(data[20:]); link != 1 {
		return t, fmt.Errorf("link type %d is not Ethernet", link)
	}
	data = data[24:]
	for len(data) >= 16 {
		n, whole := int(binary.LittleEndian.Uint32(data[8:])), binary.LittleEndian.Uint32(data[12:])
		if n > len(data)-16 {
			break
		}
		if uint32(n) != whole {
			return t, fmt.Errorf("packet %d was captured in part: %d of %d bytes", t.Packets, n, whole)
		}
		t.Packets++
		t.Bytes += int64(n)
		t.frame(data[16:16+n], httpPort)
		data = data[16+n:]
	}
	return t, nil
}

// frame classifies one Ethernet frame.
func (t *Traffic) frame(b []byte, httpPort uint16) {
	if len(b) < 14 {
		t.other("a frame of %d bytes", len(b))
		return
	}
	payload := b[14:]
	switch kind := binary.BigEndian.Uint16(b[12:]); kind {
	case 0x0806:
		t.Neighbors++
	case 0x0800:
		if len(payload) < 20 || len(payload) < int(payload[0]&15)*4 {
			t.other("a short IPv4 packet")
			return
		}
		src, dst := netip.AddrFrom4([4]byte(payload[12:16])), netip.AddrFrom4([4]byte(payload[16:20]))
		if binary.BigEndian.Uint16(payload[6:])&0x1fff != 0 {
			t.other("a later fragment from %v to %v", src, dst)
			return
		}
		t.transport(payload[9], src, dst, payload[int(payload[0]&15)*4:], httpPort)
	case 0x86dd:
		if len(payload) < 40 {
			t.other("a short IPv6 packet")
			return
		}
		next, body := payload[6], payload[40:]
		if next == 0 && len(body) >= 8 { // hop-by-hop options, as multicast listener reports have
			next, body = body[0], body[min(len(body), 8+8*int(body[1])):]
		}
		t.transport(next, netip.AddrFrom16([16]byte(payload[8:24])), netip.AddrFrom16([16]byte(payload[24:40])), body, httpPort)
	default:
		t.other("ethertype %#04x", kind)
	}
}

// ofLine reports whether an address may be seen outside: those of the lab's internet, and what IPv6 and multicast use on a cable.
func ofLine(a netip.Addr) bool {
	return netip.MustParsePrefix("198.18.0.0/15").Contains(a) || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified()
}

// asksForPort reports whether a UDP datagram is a question of PCP (RFC 6887, MAP) or NAT-PMP (RFC 6886, address or UDP mapping) to their port.
func asksForPort(b []byte) bool {
	if len(b) < 10 || binary.BigEndian.Uint16(b[2:]) != 5351 {
		return false
	}
	switch b = b[8:]; len(b) {
	case 60:
		return b[0] == 2 && b[1] == 1
	case 2:
		return b[0] == 0 && b[1] == 0
	case 12:
		return b[0] == 0 && b[1] == 1
	}
	return false
}

// transport classifies the payload of an IP packet.
func (t *Traffic) transport(protocol byte, src, dst netip.Addr, b []byte, httpPort uint16) {
	switch {
	case (protocol == 1 || protocol == 2 || protocol == 58) && ofLine(src) && ofLine(dst):
		t.Neighbors++
	case protocol == 17 && ofLine(src) && ofLine(dst) && len(b) >= 12 && b[8] >= 1 && b[8] <= 4 && b[9] == 0 && b[10] == 0 && b[11] == 0:
		t.WireGuard[b[8]]++
	case protocol == 17 && ofLine(src) && ofLine(dst) && asksForPort(b):
		t.Mapping++
	case (protocol == 6 || protocol == 17) && len(b) >= 8:
		sp, dp := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if protocol == 6 && ofLine(src) && ofLine(dst) && (sp == httpPort || dp == httpPort) {
			t.HTTP++
			return
		}
		t.other("protocol %d from %v to %v", protocol, netip.AddrPortFrom(src, sp), netip.AddrPortFrom(dst, dp))
	default:
		t.other("protocol %d from %v to %v", protocol, src, dst)
	}
}
