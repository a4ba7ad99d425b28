package prove

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// HubOwner owns the range of the hub's own address.
const HubOwner = "hub"

// Input is what is proven, or a part of it. Order carries no meaning. Sites go by their names everywhere.
type Input struct {
	Hub *Hub `json:"hub,omitempty"`
	// Plan has the ranges. An allocation belongs to its owner, a site's name or HubOwner, until its end if it has one; without an owner
	// it is quarantined, belongs to nobody and still excludes.
	Plan     plandoc.Document `json:"plan"`
	Sites    []Site           `json:"sites,omitempty"`
	Nodes    []Node           `json:"nodes,omitempty"`
	Services []Service        `json:"services,omitempty"`
	Grants   []Grant          `json:"grants,omitempty"`
	// HubPeers are what the hub's own WireGuard device is told.
	HubPeers []HubPeer `json:"hub_peers,omitempty"`
	// Maps has one for each Node.
	Maps []wire.NetMap `json:"maps,omitempty"`
}

// Hub is the coordinator's own endpoint.
type Hub struct {
	// Network is the fingerprint of the network's signing key.
	Network     string          `json:"network"`
	PublicKey   wgkey.PublicKey `json:"public_key"`
	Address     netip.Addr      `json:"address"`
	ControlPort uint16          `json:"control_port"`
	// Endpoints, URLs and Seal are not part of the proof, but they are in the maps, see Affected.
	Endpoints []string `json:"endpoints,omitempty"`
	URLs      []string `json:"urls,omitempty"`
	Seal      []byte   `json:"seal,omitempty"`
}

func (h Hub) equal(o Hub) bool {
	return h.Network == o.Network && h.PublicKey == o.PublicKey && h.Address == o.Address && h.ControlPort == o.ControlPort &&
		slices.Equal(h.Endpoints, o.Endpoints) && slices.Equal(h.URLs, o.URLs) && bytes.Equal(h.Seal, o.Seal)
}

// HubPeer is one peer of the hub.
type HubPeer struct {
	PublicKey wgkey.PublicKey `json:"public_key"`
	// NextKey is what the Node will change to.
	NextKey    wgkey.PublicKey `json:"next_key,omitzero"`
	AllowedIPs []netip.Prefix  `json:"allowed_ips"`
}

func (h HubPeer) equal(o HubPeer) bool {
	return h.PublicKey == o.PublicKey && h.NextKey == o.NextKey && slices.Equal(h.AllowedIPs, o.AllowedIPs)
}

// Site is a place with its own network.
type Site struct {
	Name string        `json:"name"`
	Kind wire.SiteKind `json:"kind"`
	// Endpoint and SpoolKey are as Hub.Endpoints.
	Endpoint string        `json:"endpoint,omitempty"`
	SpoolKey wire.SpoolKey `json:"spool_key,omitempty"`
}

// Node is one that takes part in the network. Who waits or is quarantined is none.
type Node struct {
	ID string `json:"id"`
	// Kind is empty for a gateway.
	Kind      wire.NodeKind   `json:"kind,omitempty"`
	Site      string          `json:"site"`
	PublicKey wgkey.PublicKey `json:"public_key"`
	// Rotate and NextKey are how far a change of PublicKey is.
	Rotate  wire.RotateStep `json:"rotate,omitempty"`
	NextKey wgkey.PublicKey `json:"next_key,omitzero"`
	// Member is not part of the proof, because it has a proof of its own: a signature. See Affected.
	Member  *wire.SignedMember `json:"member,omitempty"`
	Address netip.Addr         `json:"address"`
	// Former is a second address while the Site is renumbered.
	Former netip.Addr `json:"former,omitzero"`
	// Mapped are prefixes that lead to the Site's LAN through this Node, see ipam.Mapping: the mapped allocations of the Site, all at its
	// front, the preferred one of its gateways that the hub holds. The others of a center answer for them, too, see wire.Shared.
	Mapped []netip.Prefix `json:"mapped,omitempty"`
	// Rank is the place of a gateway among those of its Site, 0 behind all others. Endpoint is as Hub.Endpoints.
	Rank     int    `json:"rank,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
}

func (n Node) equal(o Node) bool {
	return n.ID == o.ID && n.Kind == o.Kind && n.Site == o.Site && n.PublicKey == o.PublicKey && n.Rotate == o.Rotate && n.NextKey == o.NextKey &&
		n.Address == o.Address && n.Former == o.Former && n.Rank == o.Rank && n.Endpoint == o.Endpoint && slices.Equal(n.Mapped, o.Mapped) && sameMember(n.Member, o.Member)
}

func sameMember(a, b *wire.SignedMember) bool {
	return a == b || a != nil && b != nil && bytes.Equal(a.Payload, b.Payload) && bytes.Equal(a.Signature, b.Signature)
}

// own are the addresses that n has for itself, as prefixes.
func (n Node) own() []netip.Prefix { return hosts(n.Address, n.Former) }

// Service is what a Site offers.
type Service struct {
	Name     string            `json:"name"`
	Site     string            `json:"site"`
	Protocol wire.Protocol     `json:"protocol"`
	Mode     wire.Mode         `json:"mode"`
	AETitle  string            `json:"ae_title,omitempty"`
	Receiver string            `json:"receiver,omitempty"`
	HL7      wire.HL7Options   `json:"hl7,omitzero"`
	DICOM    wire.DICOMOptions `json:"dicom,omitzero"`
	Target   string            `json:"target"`
	Port     uint16            `json:"port"`
	// Address is the Service's own, at its Site's front; the zero value for none.
	Address netip.Addr `json:"address,omitzero"`
	// Created decides who of two gets what only one can have. It is not part of the proof, see Affected.
	Created time.Time `json:"created,omitzero"`
}

// Grant permits a Site to use a Service.
type Grant struct {
	Service string `json:"service"`
	Site    string `json:"site"`
	LANPort uint16 `json:"lan_port"`
	// Created is as Service.Created.
	Created time.Time `json:"created,omitzero"`
}
