package localapi

import (
	"net/netip"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/standby"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/spool"
)

// Status is all that a gateway says of itself.
type Status struct {
	Version  string `json:"version"`
	Site     string `json:"site"`
	SiteKind string `json:"site_kind"`
	Node     string `json:"node"`
	// Kind is left out for a gateway.
	Kind    string     `json:"kind,omitempty"`
	Address netip.Addr `json:"address"`
	// Former is the address that the box also answers at while its Site is renumbered.
	Former netip.Addr `json:"former,omitzero"`
	// Healthy is false while a Condition of severity warning or error holds.
	Healthy     bool               `json:"healthy"`
	Conditions  []health.Condition `json:"conditions"`
	Coordinator Coordinator        `json:"coordinator"`
	Tunnel      Tunnel             `json:"tunnel"`
	// Carrier is nil where the backend can carry nothing over TCP.
	Carrier *Carrier `json:"carrier,omitempty"`
	// PortMapping is nil where the router is not asked for one.
	PortMapping *PortMapping       `json:"port_mapping,omitempty"`
	Firewall    Firewall           `json:"firewall,omitzero"`
	Services    []Service          `json:"services"`
	Queues      []spool.QueueStats `json:"queues"`
	// Spool is all queues together.
	Spool    spool.Usage `json:"spool"`
	Sessions []Session   `json:"sessions"`
	// Relay is set for a relay.
	Relay *Relay `json:"relay,omitempty"`
	// HL7 counts what was unusual with messages, by service, since the gateway started.
	// DICOM counts what became of the objects of each queue since the gateway began to empty it.
	DICOM []reconcile.DICOMCounts `json:"dicom,omitempty"`
	// Polls are archives that are asked for new studies, with the proof of completeness.
	Polls []reconcile.PollReport `json:"polls,omitempty"`
	HL7   []hl7.Counts           `json:"hl7,omitempty"`
	// Devices are those that have called DICOM services from the LAN.
	Devices []dicom.Device `json:"devices,omitempty"`
	// Commitments are the requests of devices for storage commitment, by queue.
	Commitments []reconcile.CommitmentCounts `json:"commitments,omitempty"`
	// Archives are what the gateway knows of the archives that it answers for, or that are behind its own services.
	Archives []dicom.TwinStatus `json:"archives,omitempty"`
	// Transfers are the ways to other gateways.
	Transfers []reconcile.TransferProgress `json:"transfers,omitempty"`
	// Standby are the centers that have several gateways, and which of them is used.
	Standby []standby.State `json:"standby,omitempty"`
}

// Coordinator is the state of the control channel.
type Coordinator struct {
	Connected  bool      `json:"connected"`
	Since      time.Time `json:"since,omitzero"`
	LastError  string    `json:"last_error,omitempty"`
	Generation uint64    `json:"generation"`
	Applied    uint64    `json:"applied"`
	Expires    time.Time `json:"expires"`
}

// PortMapping is what the router has agreed to, by PCP (RFC 6887) or NAT-PMP (RFC 6886).
type PortMapping struct {
	// External is where it takes packets for the tunnel; zero without a mapping.
	External netip.AddrPort `json:"external,omitzero"`
	Protocol string         `json:"protocol,omitempty"`
	// Public is false where External is no address of the internet: another router translates, too.
	Public  bool      `json:"public"`
	Expires time.Time `json:"expires,omitzero"`
	// Problem says why there is none.
	Problem string `json:"problem,omitempty"`
}

// Tunnel is the state of the WireGuard device.
type Tunnel struct {
	Backend    string `json:"backend"`
	ListenPort uint16 `json:"listen_port"`
	// MTU is the inner one in bytes.
	MTU   int    `json:"mtu,omitempty"`
	Peers []Peer `json:"peers"`
}

// States of a Firewall.
const (
	FirewallOn     = "on"
	FirewallAbsent = "none"
	FirewallFailed = "failed"
)

// Firewall is the state of the box's packet filter, the third lock.
type Firewall struct {
	State string `json:"state"`
	// Detail says why it is not on.
	Detail string `json:"detail,omitempty"`
	// Dropped counts by reason what was dropped since the gateway started.
	Dropped []Dropped `json:"dropped,omitempty"`
}

// Dropped counts packets, and their bytes with IP headers.
type Dropped struct {
	What    string `json:"what"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Peer is one other end of the tunnel.
type Peer struct {
	Site          string         `json:"site"`
	PublicKey     string         `json:"public_key"`
	Endpoint      netip.AddrPort `json:"endpoint,omitzero"`
	LastHandshake time.Time      `json:"last_handshake,omitzero"`
	RxBytes       uint64         `json:"rx_bytes"`
	TxBytes       uint64         `json:"tx_bytes"`
	// Path is there for a relayed peer, where direct ways are looked for.
	Path *Path `json:"path,omitempty"`
	// PostQuantum says whether the tunnel has a preshared key that was agreed by post-quantum means: "yes" or "no" first, and why. Empty for
	// the coordinator and relays.
	PostQuantum string `json:"post_quantum,omitempty"`
}

// Path is the way to a relayed peer.
type Path struct {
	// State is that of package path: relayed, opening, validating, direct, asymmetric or hold-off.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Direct is the address in use; left out while it is the relay.
	Direct netip.AddrPort `json:"direct,omitzero"`
	// RTT is the round trip of the direct way in nanoseconds, and Loss the share of its probes without an answer, 0 to 1.
	RTT  time.Duration `json:"rtt,omitempty"`
	Loss float64       `json:"loss,omitempty"`
}

// Service is one way in: on the LAN side what the clinic's devices are to be set to, on the overlay side what others may reach here.
type Service struct {
	Name     string `json:"name"`
	Side     string `json:"side"`
	Protocol string `json:"protocol"`
	Address  string `json:"address"`
	AETitle  string `json:"ae_title,omitempty"`
	Receiver string `json:"receiver,omitempty"`
	Mode     string `json:"mode"`
	Live     int    `json:"live"`
	// Totals count what happened at the listener, which several services may share.
	Totals proxy.Totals `json:"totals"`
}

// Session is one ended connection, newest first in Status.
type Session struct {
	Listener string         `json:"listener"`
	Remote   netip.AddrPort `json:"remote"`
	Started  time.Time      `json:"started"`
	Ended    time.Time      `json:"ended"`
	Calling  string         `json:"calling,omitempty"`
	Called   string         `json:"called,omitempty"`
	Outcome  string         `json:"outcome"`
	Detail   string         `json:"detail,omitempty"`
	Items    int            `json:"items"`
	BytesIn  int64          `json:"bytes_in"`
	BytesOut int64          `json:"bytes_out"`
}

// ProbeRequest asks the gateway to try an overlay address.
type ProbeRequest struct {
	Address netip.AddrPort `json:"address"`
}

// ProbeResult says what came of it.
type ProbeResult struct {
	Reached bool          `json:"reached"`
	Error   string        `json:"error,omitempty"`
	Took    time.Duration `json:"took_ns"`
}

// Relay is what a relay has carried since its process began.
type Relay struct {
	// Members may meet, of Located it is known where they are, and Sessions are known.
	Members  int    `json:"members"`
	Located  int    `json:"located"`
	Sessions int    `json:"sessions"`
	Packets  uint64 `json:"packets"`
	Bytes    uint64 `json:"bytes"`
	// Dropped are packets by the reason for which they went no further.
	Dropped map[string]uint64 `json:"dropped,omitempty"`
}
