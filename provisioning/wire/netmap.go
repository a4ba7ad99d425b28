package wire

import (
	"net/netip"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// TransferPort is where gateways take items from one another, a TCP port on their overlay addresses.
const TransferPort = 7421

// Format is the number of the contract this build speaks.
//
//	1  2026-11  enrolment, watch, report, complete NetMaps; former addresses, further places of a Service, WANs and containers in Facts,
//	            options of HL7 Services, protection of the LAN, bounds of queues and the place of their keys, relays
const Format = 1

// SiteKind says what a Site is for.
type SiteKind string

// The kinds of Site.
const (
	Clinic SiteKind = "clinic"
	Center SiteKind = "center"
)

// NodeKind is what a Node does.
type NodeKind string

// The kinds of Node.
const (
	// Gateway is the box of a clinic or center.
	Gateway NodeKind = "gateway"
	// Relay forwards sealed packets of others.
	Relay NodeKind = "relay"
	// Workstation is a single computer that dials in and uses what its Site may use.
	Workstation NodeKind = "workstation"
	// Unmanaged is a plain WireGuard device, which gets no map and reports nothing.
	Unmanaged NodeKind = "unmanaged"
)

// RotateStep is how far a Node is with the change of its key.
type RotateStep string

// The steps, in their order.
const (
	// RotateMake asks the Node to make a key and tell it, see PathKey.
	RotateMake RotateStep = "make"
	// RotateWait means that the key is known and peers are being told.
	RotateWait RotateStep = "wait"
	// RotateTurn means that all peers know the key: the Node changes to it now.
	RotateTurn RotateStep = "turn"
)

// Protocol is what a Service speaks.
type Protocol string

// The protocols of a Service.
const (
	DICOM Protocol = "dicom"
	HL7   Protocol = "hl7"
)

// Mode says who answers the sender.
type Mode string

// The modes of a Service.
const (
	// Queued means that the near gateway answers as soon as the bytes are synced to its disk, and delivers later.
	Queued Mode = "queued"
	// PassThrough means that the far application itself answers.
	PassThrough Mode = "pass-through"
)

// NetMap is everything one Node has to know and make true. It is complete: nothing outlives it that it does not name.
type NetMap struct {
	Format int `json:"format"`
	// Network identifies the network: the fingerprint of its signing key, see NetworkID.
	Network string `json:"network"`
	// Generation grows with every change of the network's intent. A Node refuses a lower one than it has.
	Generation uint64    `json:"generation"`
	Issued     time.Time `json:"issued"`
	// Expires is when a Node starts to warn. It never stops a running Node.
	Expires time.Time `json:"expires"`
	Self    Self      `json:"self"`
	// Overlay lists all prefixes of the plan, sorted; narrower ones may lie in wider ones. Traffic to them may leave through the tunnel only.
	Overlay []netip.Prefix `json:"overlay"`
	Hub     Hub            `json:"hub"`
	Peers   []Peer         `json:"peers,omitempty"`
	Offers  []Offer        `json:"offers,omitempty"`
	Uses    []Use          `json:"uses,omitempty"`
	// Shared are the centers that have several gateways, sorted by Site.
	Shared []Shared `json:"shared,omitempty"`
	// LANTLS is nil where everything on the LAN is in cleartext.
	LANTLS *LANTLS `json:"lan_tls,omitempty"`
	// Devices are what operators have decided of the Site's devices, sorted by AE title and address.
	Devices []Device `json:"devices,omitempty"`
	// Relays are those that Peers are reached through, besides the hub.
	Relays []RelayServer `json:"relays,omitempty"`
	// Relay is set for a Node of kind relay that is in service.
	Relay *RelayTable `json:"relay,omitempty"`

	// Delegated is set by Signed.Open for a map that the network's key has not signed itself: then only what its Members cover is to be
	// believed, see Restrict.
	Delegated bool `json:"-"`
}

// Self is the Node the NetMap is for.
type Self struct {
	Node string `json:"node"`
	// Kind is left out for a gateway.
	Kind      NodeKind        `json:"kind,omitempty"`
	PublicKey wgkey.PublicKey `json:"public_key"`
	// Rotate is set while the key is being changed, NextKey from RotateWait on.
	Rotate   RotateStep      `json:"rotate,omitempty"`
	NextKey  wgkey.PublicKey `json:"next_key,omitzero"`
	Site     string          `json:"site"`
	SiteKind SiteKind        `json:"site_kind"`
	// Address is the Node's fixed overlay address.
	Address netip.Addr `json:"address"`
	// Former is the address that the Node had and still answers at, while its Site is renumbered; else the zero value. What the Node itself
	// dials comes from Address.
	Former netip.Addr `json:"former,omitzero"`
	// SpoolKey says where the private key of its encrypted queues is kept.
	SpoolKey SpoolKey `json:"spool_key,omitempty"`
	// Member is what the offline key says of this Node, in a network that has one.
	Member *SignedMember `json:"member,omitempty"`
	// PairKeys says whether the Node agrees on preshared keys with its Peers.
	PairKeys PairKeys `json:"pair_keys,omitempty"`
}

// Hub is the coordinator's own WireGuard endpoint.
type Hub struct {
	PublicKey wgkey.PublicKey `json:"public_key"`
	// Endpoints are host:port, names or literals, in order of preference.
	Endpoints []string   `json:"endpoints"`
	Address   netip.Addr `json:"address"`
	// ControlPort is where the control API listens inside the tunnel.
	ControlPort uint16 `json:"control_port"`
	// URLs are where the public API is reached without the tunnel, see PathStanding, and Seal is the key that requests to it are sealed to,
	// see KEM.
	URLs []string `json:"urls,omitempty"`
	Seal []byte   `json:"seal,omitempty"`
}

// Peer is another Node this one may talk to.
type Peer struct {
	Node string `json:"node"`
	// Kind is left out for a gateway.
	Kind      NodeKind        `json:"kind,omitempty"`
	Site      string          `json:"site"`
	PublicKey wgkey.PublicKey `json:"public_key"`
	// NextKey is the key that the peer will change to; the zero value means that it keeps its own.
	NextKey wgkey.PublicKey `json:"next_key,omitzero"`
	// Member is what the offline key says of the peer, in a network that has one.
	Member *SignedMember `json:"member,omitempty"`
	// Endpoints are host:port, names or literals, in order of preference; none means that the peer calls.
	Endpoints []string `json:"endpoints,omitempty"`
	// Relays are host:port of relays, the hub's own among them, in order of preference. They are set if neither end has Endpoints: both meet
	// at the first.
	Relays []string `json:"relays,omitempty"`
	// AllowedIPs are its address, its former one if it has one, and then what else leads to its Site through it: Services' own addresses
	// and mapped prefixes. No two of all Peers overlap.
	AllowedIPs []netip.Prefix `json:"allowed_ips"`
	// Keepalive is in seconds; 0 is none.
	Keepalive int `json:"keepalive,omitempty"`
}

// Offer is a Service at the Node's own Site that others may use: listen on the overlay, forward to Target on the LAN.
type Offer struct {
	Service  string   `json:"service"`
	Protocol Protocol `json:"protocol"`
	// AETitle is the called AE title of a DICOM Service.
	AETitle string `json:"ae_title,omitempty"`
	// Port is the TCP port on the Node's overlay addresses, Self.Address and Self.Former if there is one.
	Port uint16 `json:"port"`
	// Also are further places on the overlay where the Service is: its own fixed address, and what Mappings make of its Target. The first is
	// where new Uses lead. Only the Node that these addresses lead to has them.
	Also []netip.AddrPort `json:"also,omitempty"`
	// Target is host:port on the Site's LAN, or of an HL7 Service FolderTarget and the name of a folder on the Node.
	Target string `json:"target"`
	// Receiver, Mode and HL7 are set for HL7 Services only.
	Receiver string     `json:"receiver,omitempty"`
	Mode     Mode       `json:"mode,omitempty"`
	HL7      HL7Options `json:"hl7,omitzero"`
	// DICOM is set for DICOM Services only.
	DICOM DICOMOptions `json:"dicom,omitzero"`
	// From names who may connect, by overlay prefix. Never empty: no grant, no Offer.
	From []Source `json:"from"`
}

// Source is a Site that may use an Offer.
type Source struct {
	Site   string       `json:"site"`
	Prefix netip.Prefix `json:"prefix"`
}

// Use is a Service of another Site that the Node's own Site may use: listen on the LAN, carry to Address on the overlay.
type Use struct {
	Service  string   `json:"service"`
	Site     string   `json:"site"` // whose Service it is
	Protocol Protocol `json:"protocol"`
	Mode     Mode     `json:"mode"`
	// LANPort is the TCP port on the Node's LAN side. Several Uses may share one; then AETitle, or Receiver and HL7.Types tell them apart.
	LANPort uint16 `json:"lan_port"`
	// AETitle is the called AE title a modality must use.
	AETitle string `json:"ae_title,omitempty"`
	// Receiver is the receiving application (MSH-5) or "application^facility" (MSH-5 and MSH-6); empty takes all messages of the port.
	Receiver string     `json:"receiver,omitempty"`
	HL7      HL7Options `json:"hl7,omitzero"`
	// DICOM are the options of a DICOM Service.
	DICOM DICOMOptions `json:"dicom,omitzero"`
	// Queue is for queued Uses.
	Queue QueueOptions `json:"queue,omitzero"`
	// Address is where the Service is on the overlay: one of its places.
	Address netip.AddrPort `json:"address"`
	// Poll makes the gateway fetch new studies for a queued DICOM Service from an archive of its own Site.
	Poll PollOptions `json:"poll,omitzero"`
}
