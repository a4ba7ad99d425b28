package provisioning

import (
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Typed random ids. Each has a prefix that says what it names, so that one pasted in the wrong place is noticed.
type (
	// SiteID looks like "site_k3f9…".
	SiteID string
	// NodeID looks like "node_…".
	NodeID string
	// TokenID looks like "tok_…".
	TokenID string
	// ServiceID looks like "svc_…".
	ServiceID string
)

// Site is a place with its own network.
type Site struct {
	ID SiteID
	// Name is unique and what operators type: a lower-case slug.
	Name string
	Kind wire.SiteKind
	// Title is free text for people.
	Title string
	// Endpoint is the host:port at which the Site's gateway can be reached from outside; empty for a Site that only calls out.
	Endpoint string
	Created  time.Time
}

// NodeKind is what a Node does.
type NodeKind string

// Gateway is the Node of a clinic's or center's box.
const Gateway NodeKind = "gateway"

// Node is an enrolled identity at a Site.
type Node struct {
	ID        NodeID
	Site      SiteID
	Kind      NodeKind
	PublicKey wgkey.PublicKey
	// Address is the Node's fixed overlay address, within an Allocation of its Site.
	Address  netip.Addr
	Facts    wire.Facts
	Enrolled time.Time
	// LastSeen, Applied, ApplyError and Conditions are the Node's last report; LastSeen is zero before the first.
	LastSeen   time.Time
	Applied    uint64
	ApplyError string
	Conditions []wire.Condition
	Queues     []wire.Queue
}

// Token is a one-time enrolment secret, of which only the hash is kept.
type Token struct {
	ID      TokenID
	Site    SiteID
	Kind    NodeKind
	Hash    [32]byte
	Created time.Time
	Expires time.Time
	// Used is zero until the Token enrolled UsedBy.
	Used   time.Time
	UsedBy NodeID
	// Revoked is zero unless an operator withdrew it.
	Revoked time.Time
}

// Service is something clinical offered at a Site.
type Service struct {
	ID       ServiceID
	Site     SiteID
	Name     string // unique in the network
	Protocol wire.Protocol
	// AETitle is the called AE title of a DICOM Service (PS3.5 §6.2, VR AE).
	AETitle string
	// Receiver routes HL7 messages to this Service where several share a port, see wire.Use.
	Receiver string
	Mode     wire.Mode
	// Target is host:port on the Site's LAN.
	Target string
	// Port is the TCP port on the overlay, unique within the Site.
	Port    uint16
	Created time.Time
}

// Grant permits one Site to use one Service.
type Grant struct {
	Service ServiceID
	Site    SiteID
	// LANPort is where the using Site's gateway listens.
	LANPort uint16
	Created time.Time
}

// Event is one entry of the audit trail: who did what to what, when. Each carries the hash of the one before.
type Event struct {
	Seq     uint64
	At      time.Time
	Actor   string
	Action  string // "site.create"
	Subject string // the id or name acted on
	Detail  string
	Prev    [32]byte
	Hash    [32]byte
}

// RangeKind is what a Range of addresses is.
type RangeKind string

// The kinds of Range. Pools contain allocations; allocations of one pool never overlap; foreign ranges exclude all of them.
const (
	RangePool       RangeKind = "pool"
	RangeAllocation RangeKind = "allocation"
	RangeReserved   RangeKind = "reserved"
	RangeForeign    RangeKind = "foreign"
)

// Range is one row of the address plan.
type Range struct {
	ID     int64
	Kind   RangeKind
	Prefix netip.Prefix
	// Owner is the Site an allocation belongs to, or "hub".
	Owner   string
	Note    string
	Created time.Time
	// Until is when a quarantined allocation becomes free; zero for one in use. While set, the Range still excludes.
	Until time.Time
}
