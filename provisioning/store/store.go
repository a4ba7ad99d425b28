package store

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Errors that callers match.
var (
	// ErrNotFound means that no row answers.
	ErrNotFound = errors.New("not found")
	// ErrExists means that a unique name or key is taken.
	ErrExists = errors.New("exists already")
	// ErrOverlap means that the database refused a Range because it overlaps another.
	ErrOverlap = errors.New("the range overlaps another")
	// ErrOutside means that the database refused an allocation because it lies in no pool.
	ErrOutside = errors.New("the range lies in no pool")
	// ErrInUse means that other rows still refer to the one to be removed.
	ErrInUse = errors.New("still in use")
	// ErrClosed means that the Store was closed, before the call or during it.
	ErrClosed = errors.New("the store is closed")
)

// Store is the coordinator's database. Times come back in UTC with the nanoseconds they had; a zero time stays zero.
type Store interface {
	// View runs fn in a read transaction with one consistent picture.
	View(ctx context.Context, fn func(Tx) error) error
	// Update runs fn in a write transaction, which is rolled back if fn or the commit fails. When fn succeeded and has called
	// Bump, watchers are woken after the commit. fn may be run again after a conflict and must have no other effects. After an error
	// of a write, fn must return one: whether the transaction is still usable differs by engine. Update does not nest.
	Update(ctx context.Context, fn func(Tx) error) error
	// Watch returns as soon as the generation is above have, with the generation there is; ErrClosed after Close.
	Watch(ctx context.Context, have uint64) (uint64, error)
	Close() error
}

// Tx groups the queries by noun. It is valid only inside View or Update; writing inside View fails. What refers to a row that does not
// exist, such as a Node of an unknown Site, is refused with ErrNotFound, and so is changing or removing such a row.
type Tx interface { //nolint:interfacebloat // one method for each noun
	Meta
	Sites() Sites
	Nodes() Nodes
	Tokens() Tokens
	SpoolKeys() SpoolKeys
	PairMail() PairMail
	Services() Services
	Grants() Grants
	Ranges() Ranges
	History() History
	Events() Events
}

// Meta is the network's own row.
type Meta interface {
	Generation() (uint64, error)
	// Bump raises the generation by one for this transaction, once however often it is called, and returns it.
	Bump() (uint64, error)
	// Rise is Bump that leads above another generation, which is below 2^62.
	Rise(above uint64) (uint64, error)
	// Setting reads a value; ErrNotFound if it was never set.
	Setting(key string) (string, error)
	SetSetting(key, value string) error
}

// Sites are found by ID or name.
type Sites interface {
	Create(provisioning.Site) error // ErrExists
	ByID(provisioning.SiteID) (provisioning.Site, error)
	ByName(string) (provisioning.Site, error)
	List() ([]provisioning.Site, error) // by name
	Update(provisioning.Site) error
	// Remove takes the site's tokens along; ErrInUse while nodes, services or grants refer to it.
	Remove(provisioning.SiteID) error
}

// Nodes are found by ID, key or address.
type Nodes interface { //nolint:interfacebloat // a noun with a life of its own; halves of it would be used together everywhere
	Create(provisioning.Node) error // ErrExists for a known key, next key, address, or name within the site
	ByID(provisioning.NodeID) (provisioning.Node, error)
	ByKey(wgkey.PublicKey) (provisioning.Node, error)
	// ByAddress finds by Address or Former.
	ByAddress(netip.Addr) (provisioning.Node, error)
	List() ([]provisioning.Node, error) // by site name, then address
	// Report writes the fields of the last report only: Facts, LastSeen, Applied, ApplyError, Conditions and Queues.
	Report(provisioning.Node) error
	// Readdress writes Address and Former only; ErrExists if another Node has either, in either role. The zero Former is none.
	Readdress(id provisioning.NodeID, address, former netip.Addr) error
	// Place writes Rank and Endpoint only.
	Place(id provisioning.NodeID, rank int, endpoint string) error
	// SetState writes State, Reason and Since only.
	SetState(id provisioning.NodeID, s provisioning.NodeState, reason string, since time.Time) error
	// Rekey writes PublicKey, NextKey and Rotate only; ErrExists for a key that another Node has in the same role.
	Rekey(id provisioning.NodeID, key, next wgkey.PublicKey, step wire.RotateStep) error
	// Reenroll writes what another box brings that takes the place of the Node: PublicKey, Facts, Origin, Enrolled, State, Reason and Since.
	// NextKey, Rotate, Member and the report are cleared. ErrExists for a known key.
	Reenroll(provisioning.Node) error
	// SetMember writes Member only; nil is none.
	SetMember(provisioning.NodeID, *wire.SignedMember) error
	Remove(provisioning.NodeID) error
}

// Tokens are found by ID.
type Tokens interface {
	Create(provisioning.Token) error
	ByID(provisioning.TokenID) (provisioning.Token, error)
	List() ([]provisioning.Token, error) // newest first
	// Use adds to the uses of a token; ErrExists if it has reached its limit or was revoked.
	Use(provisioning.TokenID, provisioning.TokenUse) error
	// Revoke withdraws a token; the first time stays.
	Revoke(id provisioning.TokenID, at time.Time) error
	RemoveOf(provisioning.SiteID) error
}

// SpoolKeys are found by Node, and go with it.
type SpoolKeys interface {
	Create(provisioning.SpoolKey) error // ErrExists for an ID that the Node has
	// Of returns those of a Node, oldest first.
	Of(provisioning.NodeID) ([]provisioning.SpoolKey, error)
	Remove(node provisioning.NodeID, id string) error
}

// PairMail is what Nodes leave for one another. It goes with either of the two.
type PairMail interface {
	// Put keeps a message in place of the one from the same Node to the same other, if any.
	Put(provisioning.PairMail) error // ErrNotFound without one of the Nodes
	// For returns at most limit messages for a Node, oldest first.
	For(to provisioning.NodeID, limit int) ([]provisioning.PairMail, error)
	// Remove takes away a message that is still the newest from its Node; it is no error if it is not.
	Remove(to provisioning.NodeID, id string) error
	// RemoveBefore takes away what was posted before a time.
	RemoveBefore(time.Time) error
}

// Services are found by ID or name.
type Services interface {
	// Create returns ErrExists for a name, a port within the site, or an Address of another Service or of a Node.
	Create(provisioning.Service) error
	ByID(provisioning.ServiceID) (provisioning.Service, error)
	ByName(string) (provisioning.Service, error)
	List() ([]provisioning.Service, error) // by name
	// Readdress writes Address only, as Create.
	Readdress(provisioning.ServiceID, netip.Addr) error
	// Configure writes HL7 and DICOM only.
	Configure(provisioning.Service) error
	Remove(provisioning.ServiceID) error // ErrInUse while granted
}

// Grants have no id: service and site name one.
type Grants interface {
	Create(provisioning.Grant) error     // ErrExists
	List() ([]provisioning.Grant, error) // by service, then site
	// Of returns what a Site may use, by service.
	Of(provisioning.SiteID) ([]provisioning.Grant, error)
	Remove(provisioning.ServiceID, provisioning.SiteID) error
}

// Ranges is the address plan. Prefixes are immutable: a change is a Remove and a Create. The database holds these rules by itself:
//
//   - no two pools are equal: they nest or are disjoint;
//   - allocations and reservations, quarantined and ending ones included, are disjoint;
//   - an allocation lies in a pool, and holds none but its own equal, whichever comes second;
//   - allocations are disjoint from foreign, LAN and reported ranges, and pools from LAN and reported ones, whichever comes second;
//   - of LAN and reported ranges, one prefix, owner and purpose is there once;
//   - a label is there once;
//   - Maps is set exactly for allocations of purpose mapped, with the family and length of the prefix;
//   - allocations have a purpose of theirs and reported ranges one of theirs, LAN and reported ranges have an owner, pools and foreign ones
//     none, and only allocations and reservations have an end.
//
// Foreign, LAN and reported ranges may overlap each other and reservations, and foreign ones pools: a network that is there is a fact.
type Ranges interface { //nolint:interfacebloat // a noun with a life of its own; halves of it would be used together everywhere
	// Create returns the row with its ID, or ErrOverlap with the range in the way, or ErrOutside, or ErrExists for a label or a LAN or
	// reported range that is there.
	Create(provisioning.Range) (provisioning.Range, error)
	ByID(int64) (provisioning.Range, error)
	ByLabel(string) (provisioning.Range, error)
	List() ([]provisioning.Range, error) // by family, prefix and length, pools before what is in them
	// Of returns the ranges of one owner, in the order of List.
	Of(owner string) ([]provisioning.Range, error)
	// Overlapping returns the ranges that share an address with p, in the order of List.
	Overlapping(p netip.Prefix) ([]provisioning.Range, error)
	// Revision is a number that changes with every Create, Remove and Sweep that had an effect: an index of the prefixes of the plan
	// built at one revision is true for as long as it stands.
	Revision() (uint64, error)
	// Describe writes Label and Note; ErrExists for a label that another Range has.
	Describe(id int64, label, note string) error
	// End says until when an allocation stays with its owner; the zero time means for good again.
	End(id int64, until time.Time) error
	// Quarantine keeps an allocation or reservation excluded until the given time, without owner and label; Maps stays.
	Quarantine(id int64, until time.Time) error
	// Ended returns the allocations with an owner whose end is now or earlier, in the order of List.
	Ended(now time.Time) ([]provisioning.Range, error)
	// Remove returns ErrInUse for a pool with allocations that would lie in none.
	Remove(id int64) error
	// Sweep removes what was quarantined until now or earlier and returns it, in the order of List.
	Sweep(now time.Time) ([]provisioning.Range, error)
}

// History is what happened to addresses: append only.
type History interface {
	// Append fills Seq.
	Append(provisioning.RangeEvent) (provisioning.RangeEvent, error)
	// Overlapping returns the newest limit events of ranges that share an address with p, oldest first.
	Overlapping(p netip.Prefix, limit int) ([]provisioning.RangeEvent, error)
}

// Events is the audit trail: append only.
type Events interface {
	// Append fills Seq, Prev and Hash, see Seal.
	Append(provisioning.Event) (provisioning.Event, error)
	// List returns up to limit events with Seq above after, oldest first.
	List(after uint64, limit int) ([]provisioning.Event, error)
	// Verify walks the chain and returns the Seq of the first broken entry, or 0. It cannot see that the newest entries were cut
	// off; who wants to know keeps the last Hash elsewhere.
	Verify() (uint64, error)
}
