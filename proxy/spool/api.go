package spool

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors that callers match.
var (
	// ErrFull means that the high-water mark is reached: refuse new work in the protocol's own words, before the disk is full.
	ErrFull = errors.New("the queue is full")
	// ErrClosed means that the Spool is shutting down.
	ErrClosed = errors.New("the queue is closed")
	// ErrLocked means that another process has the directory open.
	ErrLocked = errors.New("the queue directory is in use by another process")
)

// ID names an Item. IDs sort in the order of Create within one Spool, also across restarts.
type ID string

// Meta is what the producer says of an Item. Attributes may identify patients' objects (UIDs): they stay inside the spool directory
// and are never logged.
type Meta struct {
	// Queue is the name of the queue (a service and destination), [a-z0-9.-]{1,96}.
	Queue string `json:"queue"`
	// Attributes are what the Sink needs besides the payload. Keys and values together are limited to 16 KiB.
	Attributes map[string]string `json:"attributes,omitempty"`
	// Priority is 0 for routine up to MaxPriority for the most urgent: the highest come first, and within one priority the oldest. From
	// Urgent on an item passes others also when it is carried to another gateway.
	Priority int `json:"priority,omitempty"`
}

// State is where an Item stands.
type State string

// The states of an Item. Done items are gone and have no state.
const (
	StateQueued State = "queued" // synced, waiting or being tried
	StateParked State = "parked" // refused for good by the far end; waits for an operator
	// StateCarried is an item that the far gateway has, synced, and whose receiver has not been heard of yet. It is kept until Resolve.
	StateCarried State = "carried"
)

// Item is one unit in the queue.
type Item struct {
	ID   ID
	Meta Meta
	// Size and SHA256 describe the payload alone.
	Size   int64
	SHA256 [32]byte
	// Created is when Commit returned.
	Created time.Time
	State   State
	// Leased means that somebody works on it: it is being delivered, or is in the hands of what sends it.
	Leased bool
	// Locked means that Attributes and SHA256 are encrypted and the key is not there.
	Locked bool
	// Attempts counts deliveries tried; LastError is why the last one failed and NotBefore when the next may start.
	Attempts  int
	LastError string
	NotBefore time.Time
}

// Writer takes one payload. Exactly one of Commit and Abort ends it; Abort after Commit does nothing.
type Writer interface {
	io.Writer
	// Commit returns after payload, description and directory entry are synced to disk. On error the Item does not exist.
	Commit() (Item, error)
	// Abort forgets what was written.
	Abort()
}

// Receipt is what the far end said when it took an Item.
type Receipt struct {
	// At is when the far end's answer arrived.
	At time.Time
	// Code is the protocol's own status ("0000", "AA"), and Peer the name of who gave it.
	Code, Peer string
	// Signed is the far gateway's signed word, in a form that only transfer knows; nil for none.
	Signed []byte
}

// Lease is the right to deliver one Item. Exactly one of Done, Carried, Retry and Park ends it. Any number of Items of a queue that is not
// ordered may be leased at a time.
type Lease interface {
	Item() Item
	// Open reads the payload from its start. The caller closes it. Content is checked against SHA256 by the reader, which returns an
	// error instead of io.EOF on a mismatch.
	Open() (io.ReadCloser, error)
	// Done forgets the Item, synced.
	Done(r Receipt) error
	// Carried keeps the Item as StateCarried, synced: the far gateway has it and will say what its receiver answers. Next does not give
	// it out again; Spool.Resolve ends that state.
	Carried(r Receipt) error
	// Retry makes the Item available again after a jittered back-off that grows with Attempts. When cause is ErrCalledOff the attempt
	// does not count and there is no back-off. When it is an UnreachableError, the back-off is at most a tenth of its maximum, and ends with
	// the queue's next Done.
	Retry(cause error) error
	// Park keeps the Item until an operator decides. The cause must not hold patient data.
	Park(cause error) error
}

// QueueStats are exact counts of one queue.
type QueueStats struct {
	Queue  string `json:"queue"`
	Queued int    `json:"queued"`
	Parked int    `json:"parked"`
	// Carried is how many of CarriedBytes the far gateway has, see StateCarried. Bytes counts them, too.
	Carried      int   `json:"carried,omitempty"`
	CarriedBytes int64 `json:"carried_bytes,omitempty"`
	Bytes        int64 `json:"bytes"`
	// Locked is how many of all these are encrypted and wait for a key, see Spool.Unlock.
	Locked int `json:"locked,omitempty"`
	// Urgent is how many of the Queued are.
	Urgent int `json:"urgent,omitempty"`
	// QueuedBytes are those of the Queued alone.
	QueuedBytes int64  `json:"queued_bytes"`
	Delivered   uint64 `json:"delivered"` // since the Spool was opened
	// DeliveredBytes are those of the Delivered.
	DeliveredBytes int64 `json:"delivered_bytes"`
	// Retried counts attempts that failed and were followed by another, Overtook items delivered although an older one of their ordered
	// queue was parked; both since the Spool was opened.
	Retried  uint64 `json:"retried"`
	Overtook uint64 `json:"overtook"`
	// Used is what the queue takes on disk, in bytes. MaxBytes and MaxItems are its Limits, zero for none, and Full is "bytes" or "items"
	// while one of them keeps new items out.
	Used     int64  `json:"used"`
	MaxBytes int64  `json:"max_bytes,omitempty"`
	MaxItems int    `json:"max_items,omitempty"`
	Full     string `json:"full,omitempty"`
	// Halted means that a parked item holds up those behind it, see Spool.Halt.
	Halted        bool      `json:"halted,omitempty"`
	OldestCreated time.Time `json:"oldest_created,omitzero"`
	// LastError is why the last delivery failed; empty after one that did not. ParkedError is why the oldest of the parked was refused.
	LastError   string `json:"last_error,omitempty"`
	ParkedError string `json:"parked_error,omitempty"`
}

// Queue is the face that producers and consumers see. *Spool implements it; so does a memory fake for tests.
type Queue interface {
	// Create starts an Item. It returns ErrFull or ErrClosed at once; it never blocks.
	Create(m Meta) (Writer, error)
	// Next waits for the most urgent deliverable Item of one queue, of these the oldest, and leases it. After 16 urgent ones in a row a routine
	// one has its turn, if it can go. In an ordered queue (see Options.Ordered) the Item at the head blocks all others until it is done or
	// parked, and only one lease exists at a time: there a priority makes sense only for what may pass others.
	Next(ctx context.Context, queue string) (Lease, error)
	Stats() []QueueStats
}

// Sink delivers Items to the far end. A Sink is used by one goroutine at a time and may keep a connection between calls.
type Sink interface {
	// Deliver returns a Receipt when the far end has taken the Item. An error made by Permanent parks the Item; any other is retried.
	Deliver(ctx context.Context, l Item, payload io.Reader) (Receipt, error)
	// Idle is called when nothing was delivered for a while, and before the Sink is dropped: close what is open.
	Idle()
}

// PermanentError marks a refusal that trying again cannot change.
type PermanentError struct{ Err error }

// Permanent wraps err as a PermanentError.
func Permanent(err error) error { return &PermanentError{Err: err} }

func (e *PermanentError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *PermanentError) Unwrap() error { return e.Err }

// UnreachableError marks an attempt that failed before the far end saw the item: it says nothing about the item. The first delivery of the queue
// that succeeds afterwards ends the back-off of all such items.
type UnreachableError struct{ Err error }

// Unreachable wraps err as an UnreachableError.
func Unreachable(err error) error { return &UnreachableError{Err: err} }

func (e *UnreachableError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }
