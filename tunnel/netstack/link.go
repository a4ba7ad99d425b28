package netstack

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// maxSuperPacket is the largest packet the stack may hand over for segmentation, headers included, in bytes.
const maxSuperPacket = 65535

// link is the face towards the TCP/IP stack: a point-to-point link without headers that segments TCP itself.
type link struct {
	*queue
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

func (l *link) MTU() uint32                             { return uint32(l.mtu.Load()) }
func (l *link) SetMTU(uint32)                           {}
func (l *link) MaxHeaderLength() uint16                 { return 0 }
func (l *link) LinkAddress() tcpip.LinkAddress          { return "" }
func (l *link) SetLinkAddress(tcpip.LinkAddress)        {}
func (l *link) Wait()                                   {}
func (l *link) Close()                                  {}
func (l *link) SetOnCloseAction(func())                 {}
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (l *link) AddHeader(*stack.PacketBuffer)           {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (l *link) GSOMaxSize() uint32                      { return maxSuperPacket }
func (l *link) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }

// Capabilities says that checksums of what arrives were verified: the coalescer does so for every packet it lets through.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

func (l *link) IsAttached() bool { return l.dispatcher.Load() != nil }

// WritePackets queues packets for WireGuard. It never waits: it also runs on the goroutine that delivers what WireGuard received, and
// WireGuard waits for that one while it changes its port, with its senders held up.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	for n, p := range list.AsSlice() {
		select {
		case <-l.done:
			return n, &tcpip.ErrClosedForSend{}
		default:
		}
		select {
		case l.outbound <- p.IncRef():
		default:
			p.DecRef()
			return n, &tcpip.ErrNoBufferSpace{}
		}
	}
	return list.Len(), nil
}

// deliver passes one packet up the stack and takes over its reference.
func (l *link) deliver(p *stack.PacketBuffer) {
	if d := l.dispatcher.Load(); d != nil {
		(*d).DeliverNetworkPacket(p.NetworkProtocolNumber, p)
	}
	p.DecRef()
}
