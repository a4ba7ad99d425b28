package netstack

import (
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// segmenter cuts packets of the stack to the size of the link, straight into WireGuard's buffers. TCP data arrives in pieces of up to
// 64 KiB with the maximum segment size beside it (what a network card would do in hardware); everything else passes whole.
type segmenter struct {
	packet  *stack.PacketBuffer // nil: nothing to do
	headers []byte              // network and transport header, copied
	ipLen   int                 // length of the network header in headers
	data    [][]byte            // the payload
	first   int                 // index of the first piece of data that is not used up
	sent    int                 // payload bytes already cut off
	total   int                 // payload bytes
	index   uint16              // number of the next segment
	tcp     bool                // segment, and fill in the TCP checksum
}

func (s *segmenter) busy() bool { return s.packet != nil }

// start takes over a reference to p.
func (s *segmenter) start(p *stack.PacketBuffer) {
	s.packet, s.sent, s.index = p, 0, 0
	s.tcp = p.GSOOptions.Type != stack.GSONone && p.GSOOptions.NeedsCsum
	s.headers = append(append(s.headers[:0], p.NetworkHeader().Slice()...), p.TransportHeader().Slice()...)
	s.ipLen = len(p.NetworkHeader().Slice())
	s.data, s.first, s.total = s.data[:0], 0, 0
	skip := len(s.headers)
	for _, b := range p.AsSlices() {
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		s.data = append(s.data, b[skip:])
		s.total += len(b) - skip
		skip = 0
	}
}

// next writes the next packet into out, which must hold mtu bytes, and returns its length; 0 means that it was dropped.
func (s *segmenter) next(out []byte, mtu int) int {
	size := s.total - s.sent
	if s.tcp {
		// A connection made before the MTU was lowered still asks for larger segments than fit.
		size = min(size, mtu-len(s.headers))
		if mss := int(s.packet.GSOOptions.MSS); mss > 0 {
			size = min(size, mss)
		}
	}
	if n := len(s.headers) + size; n > len(out) || size < 0 {
		s.finish()
		return 0
	}
	n := copy(out, s.headers)
	for left := size; left > 0; {
		piece := &s.data[s.first]
		c := copy(out[n:n+left], *piece)
		n += c
		left -= c
		if *piece = (*piece)[c:]; len(*piece) == 0 {
			s.first++
		}
	}
	last := s.sent+size == s.total
	if s.tcp {
		s.fix(out[:n], last)
	}
	s.sent += size
	s.index++
	if last {
		s.finish()
	}
	return n
}

// fix makes the copied headers true for this segment.
func (s *segmenter) fix(b []byte, last bool) {
	tcp := header.TCP(b[s.ipLen:])
	var pseudo uint16
	if header.IPVersion(b) == header.IPv4Version {
		ip := header.IPv4(b)
		if !last || s.index > 0 {
			ip.SetTotalLength(uint16(len(b)))
			ip.SetID(ip.ID() + s.index)
			ip.SetChecksum(0)
			ip.SetChecksum(^ip.CalculateChecksum())
		}
		pseudo = header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(tcp)))
	} else {
		ip := header.IPv6(b)
		ip.SetPayloadLength(uint16(len(b) - header.IPv6MinimumSize))
		pseudo = header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(tcp)))
	}
	if s.index > 0 {
		tcp.SetSequenceNumber(tcp.SequenceNumber() + uint32(s.sent))
		tcp.SetFlags(uint8(tcp.Flags() &^ header.TCPFlagCwr))
	}
	if !last {
		tcp.SetFlags(uint8(tcp.Flags() &^ (header.TCPFlagFin | header.TCPFlagPsh)))
	}
	tcp.SetChecksum(0)
	tcp.SetChecksum(^checksum.Checksum(tcp, pseudo))
}

func (s *segmenter) finish() {
	s.packet.DecRef()
	s.packet = nil
	clear(s.data)
}
