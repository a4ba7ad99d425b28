package netstack

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"pgregory.net/rapid"
)

// catcher is the stack's side of a link.
type catcher struct{ packets [][]byte }

func (c *catcher) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, p *stack.PacketBuffer) {
	v := p.ToView()
	c.packets = append(c.packets, bytes.Clone(v.AsSlice()))
	v.Release()
}
func (c *catcher) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

func newCoalescer() (*coalescer, *catcher) {
	c := &catcher{}
	l := &link{queue: newQueue("test", 1280)}
	l.Attach(c)
	return &coalescer{link: l}, c
}

type packetSpec struct {
	v6      bool
	port    uint16 // of the source
	seq     uint32
	ack     uint32
	flags   header.TCPFlags
	options []byte // a multiple of four bytes
	payload []byte
}

// superPacket is what the stack hands to a link that segments: partial checksum, everything in one.
func (s packetSpec) superPacket(mss uint16) *stack.PacketBuffer {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.IPv6MinimumSize + header.TCPMinimumSize + len(s.options),
		Payload:            buffer.MakeWithData(s.payload),
	})
	tcpLen := header.TCPMinimumSize + len(s.options)
	t := header.TCP(p.TransportHeader().Push(tcpLen))
	t.Encode(&header.TCPFields{
		SrcPort: s.port, DstPort: 104, SeqNum: s.seq, AckNum: s.ack, DataOffset: uint8(tcpLen), Flags: s.flags, WindowSize: 1000,
	})
	copy(t[header.TCPMinimumSize:], s.options)
	p.GSOOptions = stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, MSS: mss}
	if s.v6 {
		p.GSOOptions.Type = stack.GSOTCPv6
		ip := header.IPv6(p.NetworkHeader().Push(header.IPv6MinimumSize))
		ip.Encode(&header.IPv6Fields{
			PayloadLength: uint16(tcpLen + len(s.payload)), TransportProtocol: header.TCPProtocolNumber, HopLimit: 64,
			SrcAddr: tcpip.AddrFrom16([16]byte{0xfd, 15: 1}), DstAddr: tcpip.AddrFrom16([16]byte{0xfd, 15: 2}),
		})
	} else {
		ip := header.IPv4(p.NetworkHeader().Push(header.IPv4MinimumSize))
		ip.Encode(&header.IPv4Fields{
			TotalLength: uint16(header.IPv4MinimumSize + tcpLen + len(s.payload)), ID: 7, Flags: header.IPv4FlagDontFragment, TTL: 64,
			Protocol: uint8(header.TCPProtocolNumber),
			SrcAddr:  tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), DstAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2}),
		})
		ip.SetChecksum(^ip.CalculateChecksum())
	}
	return p
}

func segments(t interface{ Fatalf(string, ...any) }, p *stack.PacketBuffer, mtu int) (list [][]byte) {
	var s segmenter
	s.start(p)
	for s.busy() {
		b := make([]byte, 65535)
		n := s.next(b, mtu)
		if n == 0 || n > mtu {
			t.Fatalf("a segment of %d bytes with MTU %d", n, mtu)
		}
		list = append(list, b[:n])
	}
	return list
}

// What the stack sends in one piece arrives in one piece, with every segment in between valid by itself.
func TestSegmentAndJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := packetSpec{
			v6: rapid.Bool().Draw(t, "IPv6"), port: 40000, seq: rapid.Uint32().Draw(t, "sequence"), ack: 5,
			flags: header.TCPFlagAck | rapid.SampledFrom([]header.TCPFlags{
				0, header.TCPFlagPsh, header.TCPFlagFin | header.TCPFlagPsh,
			}).Draw(t, "flags"),
			options: make([]byte, 4*rapid.IntRange(0, 10).Draw(t, "options")),
			payload: make([]byte, rapid.IntRange(1, 60000).Draw(t, "payload")),
		}
		for i := range spec.options {
			spec.options[i] = header.TCPOptionNOP
		}
		if _, err := rand.NewChaCha8([32]byte{byte(len(spec.payload))}).Read(spec.payload); err != nil {
			t.Fatal(err)
		}
		mtu := rapid.IntRange(576, 9000).Draw(t, "MTU")
		list := segments(t, spec.superPacket(uint16(rapid.IntRange(400, 9000).Draw(t, "MSS"))), mtu)
		var payload []byte
		for i, b := range list {
			s, ok := parse(b)
			if !ok {
				t.Fatalf("segment %d of %d is not valid", i, len(list))
			}
			tcp := header.TCP(b[s.ipLen:])
			if want := spec.seq + uint32(len(payload)); tcp.SequenceNumber() != want {
				t.Fatalf("segment %d has sequence number %d, want %d", i, tcp.SequenceNumber(), want)
			}
			if last := i == len(list)-1; (tcp.Flags() == spec.flags) != (last || spec.flags == header.TCPFlagAck) {
				t.Fatalf("segment %d of %d has flags %v", i, len(list), tcp.Flags())
			}
			payload = append(payload, b[s.hdrLen:]...)
		}
		if !bytes.Equal(payload, spec.payload) {
			t.Fatal("the payload changed")
		}

		in, out := newCoalescer()
		const offset = 16
		var batch [][]byte
		for _, b := range list {
			batch = append(batch, append(make([]byte, offset), b...))
		}
		in.deliver(batch, offset)
		want := 1
		if len(list) > 1 {
			// The joined packet ends at 64 KiB or at the last, shorter segment.
			want = (len(list)*len(list[0]) + maxCoalesced) / maxCoalesced
		}
		if len(out.packets) > want {
			t.Fatalf("%d segments arrive as %d packets, want %d", len(list), len(out.packets), want)
		}
		payload = payload[:0]
		for _, p := range out.packets {
			payload = append(payload, p[len(list[0])-payloadLen(list[0]):]...)
		}
		if !bytes.Equal(payload, spec.payload) {
			t.Fatal("the payload changed while it was joined")
		}
	})
}

func payloadLen(b []byte) int {
	s, _ := parse(b)
	return len(b) - s.hdrLen
}

// Any mix of flows in one batch, with gaps: each flow's segments arrive all, in order, and nothing is kept back for later.
func TestJoinKeepsOrderPerFlow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, out := newCoalescer()
		seq := map[uint16]uint32{}
		sent := map[uint16][]packetSpec{}
		var batch [][]byte
		for i := range rapid.IntRange(1, 128).Draw(t, "packets") {
			port := uint16(rapid.IntRange(1, 12).Draw(t, "flow"))
			seq[port] += uint32(rapid.SampledFrom([]int{0, 0, 0, 0, 1000}).Draw(t, "gap"))
			spec := packetSpec{
				v6: port%2 == 0, port: port, seq: seq[port], ack: uint32(rapid.IntRange(0, 9).Draw(t, "ack") / 9),
				flags:   header.TCPFlagAck | rapid.SampledFrom([]header.TCPFlags{0, 0, 0, header.TCPFlagPsh}).Draw(t, "flags"),
				payload: bytes.Repeat([]byte{byte(i)}, rapid.SampledFrom([]int{0, 100, 1000, 1000, 1000}).Draw(t, "payload")),
			}
			seq[port] += uint32(len(spec.payload))
			sent[port] = append(sent[port], spec)
			batch = append(batch, segments(t, spec.superPacket(1000), 1280)[0])
		}
		in.deliver(batch, 0)
		for _, p := range out.packets {
			ip := header.IPv4MinimumSize
			if header.IPVersion(p) == header.IPv6Version {
				ip = header.IPv6MinimumSize
			} else if int(header.IPv4(p).TotalLength()) != len(p) {
				t.Fatalf("total length %d of %d bytes", header.IPv4(p).TotalLength(), len(p))
			}
			tcp := header.TCP(p[ip:])
			port, at, data := tcp.SourcePort(), tcp.SequenceNumber(), tcp.Payload()
			for first := true; first || len(data) > 0; first = false {
				if len(sent[port]) == 0 {
					t.Fatalf("flow %d: more arrives than was sent", port)
				}
				s := sent[port][0]
				if s.seq != at || s.ack != tcp.AckNumber() || !bytes.HasPrefix(data, s.payload) {
					t.Fatalf("flow %d: %d bytes at %d arrive where %d bytes at %d were sent", port, len(data), at, len(s.payload), s.seq)
				}
				sent[port], at, data = sent[port][1:], at+uint32(len(s.payload)), data[len(s.payload):]
			}
		}
		for port, rest := range sent {
			if len(rest) > 0 {
				t.Fatalf("flow %d: %d segments are missing", port, len(rest))
			}
		}
		if in.n != 0 {
			t.Fatalf("%d flows are kept back", in.n)
		}
	})
}

// The gate: only intact, unfragmented TCP and ICMP pass.
func TestGate(t *testing.T) {
	good := func(v6 bool) []byte {
		return segments(t, packetSpec{v6: v6, port: 1, flags: header.TCPFlagAck, payload: []byte("hello!")}.superPacket(1000), 1280)[0]
	}
	fix4 := func(b []byte) {
		ip := header.IPv4(b)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
	}
	for name, c := range map[string]struct {
		v6    bool
		spoil func([]byte) []byte
	}{
		"nothing":          {false, func([]byte) []byte { return nil }},
		"version":          {false, func(b []byte) []byte { b[0] = 0x55; return b }},
		"cut":              {false, func(b []byte) []byte { return b[:len(b)-1] }},
		"cut 6":            {true, func(b []byte) []byte { return b[:len(b)-1] }},
		"longer":           {false, func(b []byte) []byte { return append(b, 0) }},
		"longer 6":         {true, func(b []byte) []byte { return append(b, 0) }},
		"header":           {false, func(b []byte) []byte { b[8]++; return b }},
		"payload":          {false, func(b []byte) []byte { b[len(b)-1]++; return b }},
		"payload 6":        {true, func(b []byte) []byte { b[len(b)-1]++; return b }},
		"address 6":        {true, func(b []byte) []byte { b[9]++; return b }},
		"more fragments":   {false, func(b []byte) []byte { b[6] |= 0x20; fix4(b); return b }},
		"fragment offset":  {false, func(b []byte) []byte { b[7] = 1; fix4(b); return b }},
		"UDP":              {false, func(b []byte) []byte { b[9] = 17; fix4(b); return b }},
		"fragment 6":       {true, func(b []byte) []byte { b[6] = 44; return b }},
		"hop by hop":       {true, func(b []byte) []byte { b[6] = 0; return b }},
		"ICMPv6 in IPv4":   {false, func(b []byte) []byte { b[9] = 58; fix4(b); return b }},
		"ICMP in IPv6":     {true, func(b []byte) []byte { b[6] = 1; return b }},
		"short TCP header": {false, func(b []byte) []byte { return resum(b, 0x40) }},
		"long TCP header":  {false, func(b []byte) []byte { return resum(b, 0xf0) }},
	} {
		in, out := newCoalescer()
		in.deliver([][]byte{c.spoil(good(c.v6)), good(c.v6)}, 0)
		if len(out.packets) != 1 {
			t.Errorf("%s: %d packets passed, want the good one only", name, len(out.packets))
		}
	}
}

// resum sets the data offset of a TCP packet and corrects the checksum.
func resum(b []byte, offset byte) []byte {
	ip, tcp := header.IPv4(b), header.TCP(b[header.IPv4MinimumSize:])
	tcp[12] = offset
	sum(ip, tcp)
	return b
}

func FuzzDeliver(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		for _, b := range segments(f, packetSpec{v6: v6, port: 1, flags: header.TCPFlagAck, payload: make([]byte, 1500)}.superPacket(600), 1280) {
			f.Add(b, b, true)
		}
	}
	f.Add([]byte{0x45}, []byte{0x60}, false)
	f.Fuzz(func(t *testing.T, a, b []byte, repair bool) {
		if repair { // or no mutation would ever get past the checksums
			a, b = repaired(a), repaired(b)
		}
		in, out := newCoalescer()
		in.deliver([][]byte{a, b, a}, 0)
		total := 0
		for _, p := range out.packets {
			total += len(p)
		}
		if total > 2*len(a)+len(b) || in.n != 0 {
			t.Errorf("%d bytes out of %d, %d flows kept", total, 2*len(a)+len(b), in.n)
		}
	})
}

func repaired(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) < header.IPv4MinimumSize || header.IPVersion(b) != header.IPv4Version {
		return b
	}
	ip := header.IPv4(b)
	ip.SetTotalLength(uint16(len(b)))
	if n := int(ip.HeaderLength()); n >= header.IPv4MinimumSize && n+header.TCPMinimumSize <= len(b) {
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		sum(ip, b[n:])
	}
	return b
}

func sum(ip header.IPv4, tcp header.TCP) {
	pseudo := header.PseudoHeaderChecksum(ip.TransportProtocol(), ip.SourceAddress(), ip.DestinationAddress(), uint16(len(tcp)))
	tcp.SetChecksum(0)
	tcp.SetChecksum(^checksum.Checksum(tcp, pseudo))
}
