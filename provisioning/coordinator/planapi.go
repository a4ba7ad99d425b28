package coordinator

import (
	"net/netip"
	"time"

	"github.com/towpath/towpath/ipam"
	"github.com/towpath/towpath/ipam/plandoc"
	"github.com/towpath/towpath/provisioning"
)

// Plan is the whole address plan.
type Plan struct {
	// Pools are in the order of a tree: by prefix, a pool before those in it.
	Pools []PoolInfo
	// Ranges are all but the pools, by prefix.
	Ranges []RangeInfo
	// Quarantine is how long what is released stays unused.
	Quarantine time.Duration
}

// PoolInfo is a pool and how full it is.
type PoolInfo struct {
	provisioning.Range
	// Parent is the next wider pool around it, the zero Prefix for none, and Depth how many there are.
	Parent netip.Prefix
	Depth  int
	// Usage counts what is allocated, reserved or given to narrower pools as taken.
	Usage ipam.Usage
	// Strip is a picture of the pool: 64 equal parts from the lowest address on, each with the fraction from 0 to 1 that is taken. A pool of
	// fewer than 64 addresses has a part for each.
	Strip []float64
}

// RangeInfo is a range, the name of its owner and where it lies.
type RangeInfo struct {
	provisioning.Range
	// OwnerName is the name of the Site, or "hub".
	OwnerName string
	// Pool is the narrowest pool around it, the zero Prefix for none.
	Pool netip.Prefix
}

// SitePlan is what the plan has of one Site.
type SitePlan struct {
	Site   provisioning.Site
	Ranges []RangeInfo
	Nodes  []provisioning.Node
	// Services are those that the Site offers, with where they are on the overlay.
	Services []ServiceInfo
	// Mappings are those in use.
	Mappings []ipam.Mapping
	Findings []Finding
}

// Size says how large a range shall be: Hosts or Bits, one of them not zero.
type Size struct {
	// Hosts is the number of addresses needed.
	Hosts int
	// Bits is the prefix length. It implies the family only with a pool.
	Bits int
}

// NewAllocation describes a further allocation of a Site.
type NewAllocation struct {
	// Site is the name or id.
	Site string
	// Purpose is overlay, workstation or services; mapped ones are made by Map.
	Purpose provisioning.RangePurpose
	// Prefix asks for a certain range; the zero Prefix lets the coordinator choose one of Size in Pool, or in any pool if Pool is empty.
	Prefix netip.Prefix
	Size   Size
	// Pool is a prefix, label or number.
	Pool        string
	Label, Note string
}

// NewReservation describes a range to be kept: by Prefix, or one of Size in Pool that the coordinator chooses. For a Site it is chosen
// beside the Site's own range if it can be, so that this can grow, and only that Site may later be given addresses of it.
type NewReservation struct {
	Prefix netip.Prefix
	Size   Size
	// Pool is a prefix, label or number; empty for any pool.
	Pool string
	// Site is a name or id, empty for none.
	Site        string
	Label, Note string
}

// Grown is an allocation before and after.
type Grown struct{ Before, After RangeInfo }

// FreeQuery asks what is free.
type FreeQuery struct {
	// Pool is a prefix, label or number; empty for all pools.
	Pool string
	// Size may be zero: then all free blocks are listed and nothing is counted.
	Size Size
}

// FreeSpace is what is free in one pool.
type FreeSpace struct {
	Pool netip.Prefix
	// Blocks are the largest free blocks, by address, MaxFreeBlocks at most of Total.
	Blocks []netip.Prefix
	Total  int
	// Bits is the length that was asked for, 0 for none. Next is where the next one goes, the zero Prefix if none fits; Fits is how many
	// fit, as many as can be counted.
	Bits int
	Next netip.Prefix
	Fits uint64
}

// MaxFreeBlocks is how many blocks a FreeSpace lists.
const MaxFreeBlocks = 1000

// RenumberRequest asks for new addresses for a Site.
type RenumberRequest struct {
	Site string
	// Prefix asks for a certain range; the zero Prefix lets the coordinator choose one as large as the old, or of Size, in Pool.
	Prefix netip.Prefix
	Size   Size
	Pool   string
	// Keep is how long old and new addresses both work.
	Keep time.Duration
	// DryRun makes the preview and changes nothing.
	DryRun bool
}

// Renumbering is what changes when a Site gets new addresses.
type Renumbering struct {
	Site string
	// Old and New are the Site's allocations of purpose overlay.
	Old []netip.Prefix
	New netip.Prefix
	// Until is when the old addresses end.
	Until time.Time
	Nodes []MovedNode
	// Services are those of the Site whose place on the overlay changes.
	Services []MovedService
	// Done is false for a dry run.
	Done bool
}

// MovedNode is a box and its addresses.
type MovedNode struct {
	Node     provisioning.NodeID
	Hostname string
	Old, New netip.Addr
}

// MovedService is a Service and its place on the overlay.
type MovedService struct {
	Service  string
	Protocol string
	// AETitle is set for DICOM: who has the old place in an AE table edits the line of this title.
	AETitle  string
	Old, New netip.AddrPort
	// Users are the names of the Sites that may use it.
	Users []string
}

// ImportOptions say how a document is taken over.
type ImportOptions struct {
	// DryRun lists what would change and changes nothing.
	DryRun bool
	// CreateSites makes a clinic of every owner that is no Site yet.
	CreateSites bool
	// Force takes pools that ipam.CheckPool advises against.
	Force bool
}

// ImportResult is what an import did, or would do.
type ImportResult struct {
	// Problems keep the document from being taken over; then nothing was changed.
	Problems []plandoc.Problem
	// Changes are all additions. What the plan has already is none.
	Changes []plandoc.Change
	// Sites are those that are made, by name.
	Sites []string
	// Done is true when it was taken over.
	Done bool
}

// LayoutRequest asks for pools.
type LayoutRequest struct {
	// Pools are certain ones; none lets the coordinator choose for Sites sites of Hosts addresses, with as much again to spare.
	Pools []netip.Prefix
	Sites int
	Hosts int
	// Regions are labels of narrower pools of equal size that are made in each IPv4 pool.
	Regions []string
	// ULA adds a random unique local /48 (RFC 4193) for IPv6.
	ULA bool
	// Force takes pools that ipam.CheckPool advises against.
	Force  bool
	DryRun bool
}

// Layout is what pools were, or would be, added.
type Layout struct {
	Pools []provisioning.Range
	// Capacity is how many sites of the asked size have room.
	Capacity uint64
	Done     bool
}
