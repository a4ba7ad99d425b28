package netstack

import (
	"bytes"
	"encoding/binary"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// maxFlows is how many TCP flows of one batch are joined at a time; more than that are passed on earlier, not later.
const maxFlows = 8

// maxCoalesced is the largest joined packet in bytes: the length field of IPv4 has 16 bits.
const maxCoalesced = 65535

// coalescer joins consecutive segments of a TCP flow that arrive in one batch, so that the stack runs once for many (what network
// cards and kernels call GRO). It holds nothing between batches. It also is the gate of the stack: what is not well-formed,
// unfragmented TCP or ICMP with right checksums is dropped here.
//
// gVisor has such an engine, but its Flush forgets all but the first flow of each of its buckets until more packets come, and it takes
// IPv6 packets apart by copying them.
type coalescer struct {
	link *link

	mu    sync.Mutex
	flows [maxFlows]flow
	n     int
}

// flow is a joined packet in the making.
type flow struct {
	proto   tcpip.NetworkProtocolNumber
	head    *buffer.View // headers and payload of the first segment
	ipLen   int
	hdrLen  int
	payload buffer.Buffer // payload of the others
	size    int           // length of the whole packet
	segment int           // payload length of all segments but the last
	next    uint32        // sequence number that would continue it
}

// segment is a received packet, taken apart.
type segment struct {
	proto     tcpip.NetworkProtocolNumber
	packet    []byte
	ipLen     int
	hdrLen    int // network and TCP header; 0 if this is not TCP
	joinable  bool
	pushOrFin bool
}

// deliver passes a batch up the stack. WireGuard calls it from one goroutine per peer.
func (c *coalescer) deliver(bufs [][]byte, offset int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range bufs {
		if s, ok := parse(b[offset:]); ok {
			c.add(s)
		}
	}
	for c.n > 0 {
		c.flush(0)
	}
}

func (c *coalescer) add(s segment) {
	if s.hdrLen == 0 {
		c.link.deliver(newPacket(s.proto, buffer.MakeWithData(s.packet)))
		return
	}
	for i := range c.n {
		f := &c.flows[i]
		if !f.same(s) {
			continue
		}
		if !f.continuedBy(s) {
			c.flush(i)
			break
		}
		payload := s.packet[s.hdrLen:]
		if err := f.payload.Append(buffer.NewViewWithData(payload)); err != nil {
			c.flush(i) // cannot happen: the view is new
			break
		}
		f.size += len(payload)
		f.next += uint32(len(payload))
		if s.pushOrFin {
			tcp := header.TCP(f.head.AsSlice()[f.ipLen:])
			tcp.SetFlags(uint8(tcp.Flags() | header.TCP(s.packet[s.ipLen:]).Flags()))
		}
		if s.pushOrFin || len(payload) < f.segment {
			c.flush(i)
		}
		return
	}
	if !s.joinable || s.pushOrFin {
		c.link.deliver(newPacket(s.proto, buffer.MakeWithData(s.packet)))
		return
	}
	if c.n == maxFlows {
		c.flush(0)
	}
	payload := len(s.packet) - s.hdrLen
	c.flows[c.n] = flow{
		proto: s.proto, head: buffer.NewViewWithData(s.packet), ipLen: s.ipLen, hdrLen: s.hdrLen, size: len(s.packet),
		segment: payload, next: header.TCP(s.packet[s.ipLen:]).SequenceNumber() + uint32(payload),
	}
	c.n++
}

// flush passes on flow i; the order of the others stays.
func (c *coalescer) flush(i int) {
	f := c.flows[i]
	copy(c.flows[i:], c.flows[i+1:c.n])
	c.n--
	c.flows[c.n] = flow{}
	b := f.head.AsSlice()
	if f.proto == header.IPv4ProtocolNumber {
		header.IPv4(b).SetTotalLength(uint16(f.size))
	} else {
		header.IPv6(b).SetPayloadLength(uint16(f.size - header.IPv6MinimumSize))
	}
	all := buffer.MakeWithView(f.head)
	all.Merge(&f.payload)
	c.link.deliver(newPacket(f.proto, all))
}

// same reports whether s belongs to the flow: same addresses and ports.
func (f *flow) same(s segment) bool {
	b := f.head.AsSlice()
	if f.proto != s.proto || f.ipLen != s.ipLen || !bytes.Equal(b[f.ipLen:f.ipLen+4], s.packet[s.ipLen:s.ipLen+4]) {
		return false
	}
	if f.proto == header.IPv4ProtocolNumber {
		return bytes.Equal(b[12:20], s.packet[12:20])
	}
	return bytes.Equal(b[8:40], s.packet[8:40])
}

// continuedBy reports whether s may become part of the joined packet: it comes next and differs in nothing that matters.
func (f *flow) continuedBy(s segment) bool {
	payload := len(s.packet) - s.hdrLen
	if !s.joinable || s.hdrLen != f.hdrLen || payload > f.segment || f.size+payload > maxCoalesced {
		return false
	}
	b := f.head.AsSlice()
	if f.proto == header.IPv4ProtocolNumber {
		if b[1] != s.packet[1] || b[8] != s.packet[8] || !bytes.Equal(b[20:f.ipLen], s.packet[20:f.ipLen]) { // TOS, TTL, options
			return false
		}
	} else if !bytes.Equal(b[0:4], s.packet[0:4]) || b[7] != s.packet[7] { // class and flow label, hop limit
		return false
	}
	was, tcp := b[f.ipLen:], s.packet[s.ipLen:]
	return binary.BigEndian.Uint32(tcp[4:]) == f.next && // sequence number
		bytes.Equal(was[8:12], tcp[8:12]) && // acknowledgment
		bytes.Equal(was[14:16], tcp[14:16]) && // window
		bytes.Equal(was[20:f.hdrLen-f.ipLen], tcp[20:s.hdrLen-s.ipLen]) // options
}

func newPacket(proto tcpip.NetworkProtocolNumber, b buffer.Buffer) *stack.PacketBuffer {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: b})
	p.NetworkProtocolNumber = proto
	return p
}

// parse takes one packet apart and reports whether the stack may see it.
func parse(b []byte) (s segment, ok bool) {
	s.packet = b
	var transport tcpip.TransportProtocolNumber
	var pseudo uint16
	switch header.IPVersion(b) {
	case header.IPv4Version:
		ip := header.IPv4(b)
		if !ip.IsValid(len(b)) || int(ip.TotalLength()) != len(b) || !ip.IsChecksumValid() || ip.More() || ip.FragmentOffset() != 0 {
			return s, false
		}
		s.proto, s.ipLen, transport = header.IPv4ProtocolNumber, int(ip.HeaderLength()), ip.TransportProtocol()
		pseudo = header.PseudoHeaderChecksum(transport, ip.SourceAddress(), ip.DestinationAddress(), ip.PayloadLength())
	case header.IPv6Version:
		ip := header.IPv6(b)
		if !ip.IsValid(len(b)) || int(ip.PayloadLength())+header.IPv6MinimumSize != len(b) {
			return s, false
		}
		s.proto, s.ipLen, transport = header.IPv6ProtocolNumber, header.IPv6MinimumSize, ip.TransportProtocol()
		pseudo = header.PseudoHeaderChecksum(transport, ip.SourceAddress(), ip.DestinationAddress(), ip.PayloadLength())
	default:
		return s, false
	}
	switch transport {
	case header.ICMPv4ProtocolNumber, header.ICMPv6ProtocolNumber:
		return s, (transport == header.ICMPv4ProtocolNumber) == (s.proto == header.IPv4ProtocolNumber)
	case header.TCPProtocolNumber:
	default:
		return s, false
	}
	tcp := header.TCP(b[s.ipLen:])
	if len(tcp) < header.TCPMinimumSize || int(tcp.DataOffset()) < header.TCPMinimumSize || int(tcp.DataOffset()) > len(tcp) ||
		checksum.Checksum(tcp, pseudo) != 0xffff {
		return s, false
	}
	s.hdrLen = s.ipLen + int(tcp.DataOffset())
	s.pushOrFin = tcp.Flags()&(header.TCPFlagPsh|header.TCPFlagFin) != 0
	s.joinable = len(b) > s.hdrLen && tcp.Flags()&^(header.TCPFlagPsh|header.TCPFlagFin) == header.TCPFlagAck
	return s, true
}
