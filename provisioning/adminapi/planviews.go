package adminapi

import (
	"net/netip"
	"time"
)

// Plan is the whole address plan.
type Plan struct {
	Pools             []Pool  `json:"pools" nullable:"false" doc:"by prefix, a pool before those in it"`
	Ranges            []Range `json:"ranges" nullable:"false" doc:"all but the pools, by prefix"`
	QuarantineSeconds int64   `json:"quarantine_seconds" doc:"how long what is released stays unused"`
}

// Pool is what addresses are allocated from.
type Pool struct {
	ID      int64        `json:"id"`
	Prefix  netip.Prefix `json:"prefix"`
	Label   string       `json:"label,omitempty"`
	Note    string       `json:"note,omitempty"`
	Created time.Time    `json:"created"`
	Parent  netip.Prefix `json:"parent,omitzero" doc:"the next wider pool around it"`
	Depth   int          `json:"depth" doc:"how many pools are around it"`
	Taken   float64      `json:"taken" doc:"fraction of the addresses that is taken, reserved or given to narrower pools, 0 to 1"`
	// LargestFree is the zero Prefix when nothing is free.
	LargestFree   netip.Prefix `json:"largest_free,omitzero"`
	FreeBlocks    int          `json:"free_blocks"`
	Fragmentation float64      `json:"fragmentation" doc:"fraction of the free addresses outside the largest free block"`
	Strip         []float64    `json:"strip" nullable:"false" doc:"64 equal parts of the pool from the lowest address on, each with the fraction that is taken"`
}

// The states of a Range.
const (
	StateActive      = "active"
	StateEnding      = "ending"
	StateQuarantined = "quarantined"
)

// Range is one row of the plan.
type Range struct {
	ID      int64        `json:"id"`
	Kind    string       `json:"kind" enum:"pool,allocation,reserved,foreign,lan,reported"`
	Prefix  netip.Prefix `json:"prefix"`
	Purpose string       `json:"purpose,omitempty" doc:"of an allocation: overlay, mapped, workstation or services; of a reported range: lan, wan or container"`
	Owner   string       `json:"owner,omitempty" doc:"name of the site, or hub"`
	Label   string       `json:"label,omitempty"`
	Maps    netip.Prefix `json:"maps,omitzero" doc:"the part of the site's LAN that a mapped allocation stands for"`
	Pool    netip.Prefix `json:"pool,omitzero" doc:"the narrowest pool around it"`
	State   string       `json:"state" enum:"active,ending,quarantined"`
	Note    string       `json:"note,omitempty"`
	Created time.Time    `json:"created"`
	Until   time.Time    `json:"until,omitzero" doc:"end of a quarantine, or of the use by its owner"`
}

// NewRange describes a range to be added.
type NewRange struct {
	Kind   string `json:"kind" enum:"pool,reserved,foreign,lan"`
	Prefix string `json:"prefix" example:"10.201.0.0/16"`
	Site   string `json:"site,omitempty" doc:"name or id of the site whose LAN it is; for kind lan"`
	Label  string `json:"label,omitempty" doc:"short name, for pools and reservations"`
	Note   string `json:"note,omitempty"`
	Force  bool   `json:"force,omitempty" doc:"add a pool that is advised against"`
}

// SitePlan is what the plan has of one Site.
type SitePlan struct {
	Site     string    `json:"site"`
	Kind     string    `json:"kind" enum:"clinic,center"`
	Title    string    `json:"title,omitempty"`
	Ranges   []Range   `json:"ranges" nullable:"false"`
	Nodes    []Place   `json:"nodes" nullable:"false"`
	Services []Service `json:"services" nullable:"false" doc:"those that the site offers"`
	Mappings []Mapping `json:"mappings" nullable:"false"`
	Findings []Finding `json:"findings" nullable:"false"`
}

// Place is a Node and its addresses.
type Place struct {
	Node     string     `json:"node"`
	Hostname string     `json:"hostname,omitempty"`
	Address  netip.Addr `json:"address"`
	Former   netip.Addr `json:"former,omitzero" doc:"address before the site was renumbered, at which it still answers"`
}

// Mapping is a part of a Site's LAN and where it appears on the overlay.
type Mapping struct {
	LAN    netip.Prefix `json:"lan"`
	Mapped netip.Prefix `json:"mapped"`
	Text   string       `json:"text" doc:"the mapping in one line" example:"192.168.178.0/24 appears as 10.201.7.0/24: .20 is 10.201.7.20"`
}

// NewMapping describes a Mapping to be made.
type NewMapping struct {
	LAN  string `json:"lan" doc:"the part of the site's LAN that shall be reachable" example:"192.168.178.0/24"`
	To   string `json:"to,omitempty" doc:"the range it shall appear as, of the same length; chosen if absent"`
	Pool string `json:"pool,omitempty" doc:"prefix, label or number of the pool to choose it from"`
	Note string `json:"note,omitempty"`
}

// Finding is something about the plan that a person should know.
type Finding struct {
	Code     string       `json:"code" example:"lan-in-pool"`
	Severity string       `json:"severity" enum:"info,warning,error"`
	Site     string       `json:"site,omitempty"`
	Node     string       `json:"node,omitempty"`
	Prefix   netip.Prefix `json:"prefix,omitzero" doc:"what it is about"`
	With     netip.Prefix `json:"with,omitzero" doc:"the range it meets"`
	Message  string       `json:"message"`
	Proposal string       `json:"proposal" doc:"a command that would settle it, or what to do"`
}

// FreeQuery asks what is free.
type FreeQuery struct {
	// Pool is a prefix, label or number; empty for all.
	Pool string
	// Hosts or Bits ask for room of a size; both zero list free blocks alone.
	Hosts, Bits int
}

// Free is what is free in one pool.
type Free struct {
	Pool   netip.Prefix   `json:"pool"`
	Blocks []netip.Prefix `json:"blocks" nullable:"false" doc:"free blocks by address, the first 1000 of total"`
	Total  int            `json:"total" doc:"number of free blocks"`
	Bits   int            `json:"bits,omitempty" doc:"the prefix length that was asked for"`
	Next   netip.Prefix   `json:"next,omitzero" doc:"where the next range of that length goes; absent when none fits"`
	Fits   uint64         `json:"fits" doc:"how many of that length fit"`
}

// NewAllocation describes a further range of a Site.
type NewAllocation struct {
	Site    string `json:"site" doc:"name or id"`
	Purpose string `json:"purpose" doc:"overlay, workstation or services" example:"overlay"`
	Prefix  string `json:"prefix,omitempty" doc:"a certain range; chosen if absent" example:"10.201.8.0/28"`
	Hosts   int    `json:"hosts,omitempty" doc:"room to choose a range for"`
	Bits    int    `json:"bits,omitempty" doc:"prefix length of the range to choose"`
	Pool    string `json:"pool,omitempty" doc:"prefix, label or number of the pool to choose it from"`
	Label   string `json:"label,omitempty"`
	Note    string `json:"note,omitempty"`
}

// NewReservation describes a range to be kept from being allocated.
type NewReservation struct {
	Prefix string `json:"prefix,omitempty" doc:"a certain range; chosen if absent" example:"10.201.64.0/20"`
	Hosts  int    `json:"hosts,omitempty" doc:"room to choose a range for"`
	Bits   int    `json:"bits,omitempty" doc:"prefix length of the range to choose"`
	Pool   string `json:"pool,omitempty" doc:"prefix, label or number of the pool to choose it from"`
	Site   string `json:"site,omitempty" doc:"name or id of the site that it is kept for"`
	Label  string `json:"label,omitempty"`
	Note   string `json:"note,omitempty"`
}

// Release names a range that its owner gives back.
type Release struct {
	Range string `json:"range" doc:"number, prefix or label" example:"10.201.7.0/28"`
	Now   bool   `json:"now,omitempty" doc:"leave out the quarantine"`
}

// Growth asks for a wider range in place.
type Growth struct {
	Range string `json:"range" doc:"number, prefix or label of an allocation, or a site with one overlay range"`
	Hosts int    `json:"hosts,omitempty"`
	Bits  int    `json:"bits,omitempty" doc:"new prefix length"`
}

// Grown is an allocation before and after.
type Grown struct {
	Before Range `json:"before"`
	After  Range `json:"after"`
}

// NewRenumbering asks for new addresses for a Site.
type NewRenumbering struct {
	Site        string `json:"site" doc:"name or id"`
	Prefix      string `json:"prefix,omitempty" doc:"a certain new range; chosen if absent"`
	Hosts       int    `json:"hosts,omitempty" doc:"room to choose a range for; as large as the old one if absent"`
	Bits        int    `json:"bits,omitempty"`
	Pool        string `json:"pool,omitempty" doc:"prefix, label or number of the pool to choose it from"`
	KeepSeconds int64  `json:"keep_seconds,omitempty" doc:"how long old and new addresses both work"`
	DryRun      bool   `json:"dry_run,omitempty"`
}

// Renumbering is what changes when a Site gets new addresses.
type Renumbering struct {
	Site     string         `json:"site"`
	Old      []netip.Prefix `json:"old" nullable:"false"`
	New      netip.Prefix   `json:"new,omitzero"`
	Until    time.Time      `json:"until,omitzero" doc:"when the old addresses end"`
	Nodes    []MovedNode    `json:"nodes" nullable:"false"`
	Services []MovedService `json:"services" nullable:"false"`
	Done     bool           `json:"done" doc:"false for a dry run"`
}

// MovedNode is a box and its addresses.
type MovedNode struct {
	Node     string     `json:"node"`
	Hostname string     `json:"hostname,omitempty"`
	Old      netip.Addr `json:"old,omitzero"`
	New      netip.Addr `json:"new,omitzero"`
}

// MovedService is a Service and its place on the overlay.
type MovedService struct {
	Service  string         `json:"service"`
	Protocol string         `json:"protocol" enum:"dicom,hl7"`
	AETitle  string         `json:"ae_title,omitempty" doc:"whoever has the old place in an AE table edits the line of this title"`
	Old      netip.AddrPort `json:"old,omitzero"`
	New      netip.AddrPort `json:"new,omitzero"`
	Users    []string       `json:"users" nullable:"false" doc:"names of the sites that may use it"`
}

// NewLayout asks for pools.
type NewLayout struct {
	Pools   []string `json:"pools,omitempty" nullable:"false" doc:"certain ones; chosen for sites of hosts addresses if absent" example:"[\"10.201.0.0/16\"]"`
	Sites   int      `json:"sites,omitempty"`
	Hosts   int      `json:"hosts,omitempty" doc:"addresses of one site"`
	Regions []string `json:"regions,omitempty" nullable:"false" doc:"labels of equal narrower pools to make in each IPv4 pool"`
	ULA     bool     `json:"ula,omitempty" doc:"add a random unique local /48 (RFC 4193)"`
	Force   bool     `json:"force,omitempty" doc:"take pools that are advised against"`
	DryRun  bool     `json:"dry_run,omitempty"`
}

// Layout is what pools were, or would be, added.
type Layout struct {
	Pools    []Range `json:"pools" nullable:"false"`
	Capacity uint64  `json:"capacity" doc:"how many sites of the asked size have room"`
	Done     bool    `json:"done" doc:"false for a dry run"`
}

// Quarantine is how long what is released stays unused.
type Quarantine struct {
	Seconds int64 `json:"seconds"`
}

// RangeEvent is one entry of the history of addresses.
type RangeEvent struct {
	Seq    uint64    `json:"seq"`
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Action string    `json:"action" enum:"created,grown,ending,released,removed,freed"`
	Range  Range     `json:"range" doc:"as it was after the action, or before if it is gone; the owner has the name it had then"`
}
