package netstack

import (
	"fmt"
	"net"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

func Dump(c net.Conn) string {
	tc := c.(*tcpConn)
	ep := tc.ep.(*tcp.Endpoint)
	var ti tcpip.TCPInfoOption
	ep.GetSockOpt(&ti)
	r := ep.Readiness(0xffff)
	q, _ := ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	sq, _ := ep.GetSockOptInt(tcpip.SendQueueSizeOption)
	st := ep.Stats().(*tcp.Stats)
	return fmt.Sprintf("%v->%v state %v rto %v rtt %v cwnd %d ssthresh %d ccstate %v ready %x rcvq %d sndq %d segsRcvd %d sent %d retrans %d timeouts %d fast %d", tc.local, tc.remote, tcp.EndpointState(ep.State()), ti.RTO, ti.RTT, ti.SndCwnd, ti.SndSsthresh, ti.CcState, r, q, sq,
		st.SegmentsReceived.Value(), st.SegmentsSent.Value(), st.SendErrors.Retransmits.Value(), st.SendErrors.Timeouts.Value(), st.SendErrors.FastRetransmit.Value())
}

func DumpStack(d *Device) string {
	r := d.run.Load()
	s := r.stack.Stats()
	return fmt.Sprintf("queue %d nic rx %d tx %d; ip rx %d valid %d malformed %d; tcp valid %d invalid %d csum %d retrans %d resets sent %d rcvd %d txdrop? %d", len(r.queue.outbound),
		s.NICs.Rx.Packets.Value(), s.NICs.Tx.Packets.Value(), s.IP.PacketsReceived.Value(), s.IP.ValidPacketsReceived.Value(), s.IP.MalformedPacketsReceived.Value(), s.TCP.ValidSegmentsReceived.Value(), s.TCP.InvalidSegmentsReceived.Value(), s.TCP.ChecksumErrors.Value(), s.TCP.Retransmits.Value(), s.TCP.ResetsSent.Value(), s.TCP.ResetsReceived.Value(), s.DroppedPackets.Value())
}
