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
	// LANTLS is how its LAN is protected; nil for cleartext only.
	LANTLS *wire.LANTLS
	// Devices are what operators have decided of its devices, sorted by AE title and address; nil for nothing.
	Devices []wire.Device
	// SpoolKey says where the private key of its encrypted queues is kept.
	SpoolKey wire.SpoolKey
	Created  time.Time
}

// PairMail is a message of one Node to another about their preshared key, which only they can read.
type PairMail struct {
	From, To NodeID
	// ID tells a Node's messages apart.
	ID     string
	Body   []byte
	Posted time.Time
}

// SpoolKey is the private key of a Node's queues, kept for it.
type SpoolKey struct {
	Node NodeID
	// ID tells the Node's keys apart.
	ID string
	// Sealed is the key, sealed to the coordinator's own.
	Sealed  []byte
	Created time.Time
}

// NodeState says whether a Node takes part in the network. Only active ones are in maps and may talk to the hub.
type NodeState string

// The states of a Node.
const (
	// NodeActive takes part. It is the zero value.
	NodeActive NodeState = ""
	// NodeWaiting has shown a good token and waits for an operator: to approve it, or to sign it with the network's offline key.
	NodeWaiting NodeState = "waiting"
	// NodeQuarantined was shut out, by an operator or because its key was seen in two places. Its row and addresses stay.
	NodeQuarantined NodeState = "quarantined"
)

// String returns the state's name.
func (s NodeState) String() string {
	if s == NodeActive {
		return "active"
	}
	return string(s)
}

// Node is an enrolled identity at a Site.
type Node struct {
	ID   NodeID
	Site SiteID
	Kind wire.NodeKind
	// Name is what an operator calls an unmanaged Node, unique within the Site; empty for others.
	Name      string
	PublicKey wgkey.PublicKey
	// State is why and since when it is what it is.
	State  NodeState
	Reason string
	Since  time.Time
	// Rotate is how far a change of PublicKey to NextKey is; NextKey is zero before RotateWait.
	Rotate  wire.RotateStep
	NextKey wgkey.PublicKey
	// Member is what the network's offline key has signed of the Node; nil where there is no such key, or no signature yet.
	Member *wire.SignedMember
	// Origin is the address from which it enrolled, as the coordinator saw it; the zero value if unknown.
	Origin netip.Addr
	// Address is the Node's fixed overlay address, within an Allocation of its Site.
	Address netip.Addr
	// Former is the address it had before its Site was renumbered and still answers at; the zero value outside of that time.
	Former netip.Addr
	// Rank is which gateway of its Site is preferred: 1 before 2, and all those before 0, which is none. Equal ones go by Address.
	Rank int
	// Endpoint is host:port at which a gateway is reached from outside where its Site's Endpoint is another one's; empty for none.
	Endpoint string
	Facts    wire.Facts
	Enrolled time.Time
	// LastSeen, Applied, ApplyError and Conditions are the Node's last report; LastSeen is zero before the first.
	LastSeen   time.Time
	Applied    uint64
	ApplyError string
	Conditions []wire.Condition
	Queues     []wire.Queue
}

// TokenUse is one enrolment with a Token.
type TokenUse struct {
	Node NodeID    `json:"node"`
	At   time.Time `json:"at"`
	// Key is the one that the box came with; the zero value where that was not noted. A box that asks again is known by it, also when its
	// Node is gone or has another key now.
	Key wgkey.PublicKey `json:"key,omitzero"`
}

// Token is an enrolment secret, of which only the hash is kept.
type Token struct {
	ID   TokenID
	Site SiteID
	Kind wire.NodeKind
	Hash [32]byte
	// Limit is how many Nodes it enrolls, at least 1; Uses are those it has, oldest first.
	Limit int
	Uses  []TokenUse
	// Approval means that an operator has to approve each Node that it enrolls.
	Approval bool
	// Replaces is the Node whose place the box takes: its id, Site and addresses, with a key of its own. Empty for others.
	Replaces NodeID
	// Address is what the Node will have; the zero value lets the coordinator choose.
	Address netip.Addr
	Created time.Time
	Expires time.Time
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
	// HL7 are the options of an HL7 Service.
	HL7 wire.HL7Options
	// DICOM are the options of a DICOM Service.
	DICOM wire.DICOMOptions
	// Queue bounds the queues of a queued Service.
	Queue wire.QueueOptions
	// Target is host:port on the Site's LAN, or for HL7 a folder on its gateway, see wire.FolderTarget.
	Target string
	// Port is the TCP port on the overlay, unique within the Site.
	Port uint16
	// Address is a fixed overlay address of the Service's own, in an allocation of its Site for services; the zero value means that it is
	// at the address of the Site's box.
	Address netip.Addr
	Created time.Time
}

// Grant permits one Site to use one Service.
type Grant struct {
	Service ServiceID
	Site    SiteID
	// LANPort is where the using Site's gateway listens.
	LANPort uint16
	// Poll makes that gateway fetch new studies from an archive of the Site.
	Poll    wire.PollOptions
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

// The kinds of Range. The database holds what excludes what, see store.Ranges.
const (
	// RangePool is what allocations are taken from. Pools nest: a narrower one is a part of the wider that is given out on its own.
	RangePool RangeKind = "pool"
	// RangeAllocation belongs to its owner alone.
	RangeAllocation RangeKind = "allocation"
	// RangeReserved is kept from being allocated, perhaps for one Site.
	RangeReserved RangeKind = "reserved"
	// RangeForeign is a network of others, entered by an operator.
	RangeForeign RangeKind = "foreign"
	// RangeLAN is a Site's real local network, entered by an operator. LANs of several Sites may be the same.
	RangeLAN RangeKind = "lan"
	// RangeReported is what a Site's box says it is connected to. It comes and goes with the reports.
	RangeReported RangeKind = "reported"
)

// RangePurpose says what an allocation is for, or what a reported range is.
type RangePurpose string

// The purposes.
const (
	// PurposeOverlay holds the addresses of boxes. It is what an allocation has if nothing else is asked for.
	PurposeOverlay RangePurpose = "overlay"
	// PurposeMapped stands for a part of the Site's LAN, see Range.Maps.
	PurposeMapped RangePurpose = "mapped"
	// PurposeWorkstation holds the addresses of single computers that dial in.
	PurposeWorkstation RangePurpose = "workstation"
	// PurposeServices holds the fixed addresses of Services, which stay when boxes change.
	PurposeServices RangePurpose = "services"

	// PurposeLAN, PurposeWAN and PurposeContainer are what a box reports.
	PurposeLAN       RangePurpose = "lan"
	PurposeWAN       RangePurpose = "wan"
	PurposeContainer RangePurpose = "container"
)

// Range is one row of the address plan.
type Range struct {
	ID     int64
	Kind   RangeKind
	Prefix netip.Prefix
	// Owner is the id of the Site an allocation, LAN or reported range belongs to or a reservation is kept for, or "hub". Pools, foreign
	// ranges and what is quarantined have none.
	Owner string
	// Purpose is set for allocations and reported ranges.
	Purpose RangePurpose
	// Label is a short name that operators may use for the Range, unique among all that have one; optional for pools, allocations and
	// reservations.
	Label string
	// Maps is set exactly for allocations of purpose mapped: the part of the Site's LAN that Prefix stands for, of the same family and length.
	Maps    netip.Prefix
	Note    string
	Created time.Time
	// Until is set for what ends: with an Owner the Range is in use until then (its Site was renumbered), without one it is quarantined and
	// becomes free then. The Range excludes in either case.
	Until time.Time
}

// Quarantined reports whether nobody has r any more and nobody may have it yet.
func (r Range) Quarantined() bool { return r.Owner == "" && !r.Until.IsZero() }

// Ending reports whether r has an owner that will lose it.
func (r Range) Ending() bool { return r.Owner != "" && !r.Until.IsZero() }

// RangeAction is what happened to a Range.
type RangeAction string

// The actions.
const (
	RangeCreated RangeAction = "created"
	// RangeGrown means that the Range took the place of a narrower one.
	RangeGrown RangeAction = "grown"
	// RangeEnding means that its owner loses it at Until.
	RangeEnding RangeAction = "ending"
	// RangeReleased means that it lost its owner and was quarantined.
	RangeReleased RangeAction = "released"
	// RangeRemoved means that an operator removed it.
	RangeRemoved RangeAction = "removed"
	// RangeFreed means that its quarantine ended.
	RangeFreed RangeAction = "freed"
)

// RangeEvent is one entry of the history of addresses.
type RangeEvent struct {
	Seq    uint64
	At     time.Time
	Actor  string
	Action RangeAction
	// Range is as it was after the action, or before if it is gone.
	Range Range
	// OwnerName is the name that the owner had then.
	OwnerName string
}
