package store

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/towpath/towpath/provisioning"
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
	// ErrInUse means that other rows still refer to the one to be removed.
	ErrInUse = errors.New("still in use")
)

// Store is the coordinator's database.
type Store interface {
	// View runs fn in a read transaction with one consistent picture.
	View(ctx context.Context, fn func(Tx) error) error
	// Update runs fn in a write transaction, which is rolled back if fn or the commit fails. When fn succeeded and has called
	// Bump, watchers are woken after the commit. fn may be run again after a conflict and must have no other effects.
	Update(ctx context.Context, fn func(Tx) error) error
	// Watch returns as soon as the generation is above have, with the generation there is.
	Watch(ctx context.Context, have uint64) (uint64, error)
	Close() error
}

// Tx groups the queries by noun. It is valid only inside View or Update; writing inside View fails.
type Tx interface {
	Meta
	Sites() Sites
	Nodes() Nodes
	Tokens() Tokens
	Services() Services
	Grants() Grants
	Ranges() Ranges
	Events() Events
}

// Meta is the network's own row.
type Meta interface {
	Generation() (uint64, error)
	// Bump raises the generation by one for this transaction, once however often it is called, and returns it.
	Bump() (uint64, error)
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
	Remove(provisioning.SiteID) error // ErrInUse while nodes, services or grants refer to it
}

// Nodes are found by ID, key or address.
type Nodes interface {
	Create(provisioning.Node) error // ErrExists for a known key or address
	ByID(provisioning.NodeID) (provisioning.Node, error)
	ByKey(wgkey.PublicKey) (provisioning.Node, error)
	ByAddress(netip.Addr) (provisioning.Node, error)
	List() ([]provisioning.Node, error) // by site name, then address
	// Report writes the fields of the last report only.
	Report(provisioning.Node) error
	Remove(provisioning.NodeID) error
}

// Tokens are found by ID.
type Tokens interface {
	Create(provisioning.Token) error
	ByID(provisioning.TokenID) (provisioning.Token, error)
	List() ([]provisioning.Token, error) // newest first
	// Use marks a token used; ErrExists if it is used or revoked already.
	Use(id provisioning.TokenID, by provisioning.NodeID, at time.Time) error
	Revoke(id provisioning.TokenID, at time.Time) error
	RemoveOf(provisioning.SiteID) error
}

// Services are found by ID or name.
type Services interface {
	Create(provisioning.Service) error // ErrExists for a name, or a port within the site
	ByID(provisioning.ServiceID) (provisioning.Service, error)
	ByName(string) (provisioning.Service, error)
	List() ([]provisioning.Service, error) // by name
	Remove(provisioning.ServiceID) error   // ErrInUse while granted
}

// Grants have no id: service and site name one.
type Grants interface {
	Create(provisioning.Grant) error // ErrExists
	List() ([]provisioning.Grant, error)
	Remove(provisioning.ServiceID, provisioning.SiteID) error
}

// Ranges is the address plan. Prefixes are immutable: a change is a Remove and a Create.
type Ranges interface {
	// Create returns the row with its ID, or ErrOverlap.
	Create(provisioning.Range) (provisioning.Range, error)
	List() ([]provisioning.Range, error) // by prefix, pools before what is in them
	// Quarantine keeps a range excluded until the given time, without an owner.
	Quarantine(id int64, until time.Time) error
	Remove(id int64) error
	// Sweep removes what was quarantined until before now and returns how many.
	Sweep(now time.Time) (int, error)
}

// Events is the audit trail: append only.
type Events interface {
	// Append fills Seq, Prev and Hash.
	Append(provisioning.Event) (provisioning.Event, error)
	// List returns up to limit events with Seq above after, oldest first.
	List(after uint64, limit int) ([]provisioning.Event, error)
	// Verify walks the chain and returns the Seq of the first broken entry, or 0.
	Verify() (uint64, error)
}
