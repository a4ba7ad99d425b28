package netstack

import (
	"fmt"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const nicID tcpip.NICID = 1

// Buffers of one connection in bytes, per direction. They start small and grow with the bandwidth-delay product: 4 MiB fill a
// 200 Mbit/s path at 160 ms.
const (
	bufferMin     = 4 << 10
	bufferDefault = 256 << 10
	bufferMax     = 4 << 20
)

// A silent peer is noticed within about two minutes: idle, then probes times interval.
const (
	keepaliveIdle     = 60 * time.Second
	keepaliveInterval = 15 * time.Second
	keepaliveProbes   = 4
)

func newStack(l *link) (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		HandleLocal:        true,
	})
	if err := setUp(s, l); err != nil {
		s.Close()
		return nil, fmt.Errorf("set up the TCP/IP stack: %w", err)
	}
	return s, nil
}

func setUp(s *stack.Stack, l *link) error {
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	// Both choices are about connections that stand still for good or for seconds. The CUBIC of this gVisor can compute a window of
	// nothing and then never sends again (google/gvisor#13958), and its RACK stalls more and longer after losses than SACK alone.
	control := tcpip.CongestionControlOption("reno")
	recovery := tcpip.TCPRecovery(0)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack,
		&moderate,
		&control,
		&recovery,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax},
		&tcpip.TCPSendBufferSizeRangeOption{Min: bufferMin, Default: bufferDefault, Max: bufferMax},
	} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("%T: %w", o, errno(err))
		}
	}
	if err := s.CreateNIC(nicID, l); err != nil {
		return errno(err)
	}
	s.AddRoute(tcpip.Route{Destination: header.IPv4EmptySubnet, NIC: nicID})
	s.AddRoute(tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nicID})
	return nil
}

func addAddress(s *stack.Stack, a netip.Addr) error {
	p := tcpip.ProtocolAddress{Protocol: protocol(a), AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix()}
	if err := s.AddProtocolAddress(nicID, p, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("add address %v: %w", a, errno(err))
	}
	return nil
}

func removeAddress(s *stack.Stack, a netip.Addr) error {
	if err := s.RemoveAddress(nicID, tcpip.AddrFromSlice(a.AsSlice())); err != nil {
		return fmt.Errorf("remove address %v: %w", a, errno(err))
	}
	return nil
}

// tune sets what every connection has, dialed or accepted.
func tune(ep tcpip.Endpoint) {
	o := ep.SocketOptions()
	o.SetDelayOption(false) // no Nagle, as the net package does
	o.SetKeepAlive(true)
	idle, interval := tcpip.KeepaliveIdleOption(keepaliveIdle), tcpip.KeepaliveIntervalOption(keepaliveInterval)
	// Errors are impossible for a TCP endpoint, and a connection with default timers would still be right.
	_ = ep.SetSockOpt(&idle)
	_ = ep.SetSockOpt(&interval)
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepaliveProbes)
}

func protocol(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}

func addrPort(a tcpip.FullAddress) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(a.Addr.AsSlice())
	return netip.AddrPortFrom(ip, a.Port)
}
