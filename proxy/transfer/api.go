package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// Limits on what one side may say to the other.
const (
	// MaxName bounds names of nodes, services and items, in bytes.
	MaxName = 128
	// MaxAttributes bounds keys and values of attributes together, in bytes; maxAttributeCount their number.
	MaxAttributes     = 16 << 10
	maxAttributeCount = 64
	// MaxText bounds codes, peers and reasons in receipts and refusals, in bytes.
	MaxText = 500
	// MaxItem is the longest payload, in bytes.
	MaxItem = 1 << 40
	// MaxPriority is the highest priority. From Urgent on an item uses the lane that is kept free of bulk.
	MaxPriority = spool.MaxPriority
	Urgent      = spool.Urgent
)

// Errors that callers match.
var (
	// ErrFull is an Inbox that cannot take more now. The item is offered again later.
	ErrFull = errors.New("the receiving gateway is full")
	// ErrRefused is an item that the receiving gateway will never take as it is: the sender parks it.
	ErrRefused = errors.New("the receiving gateway refuses the item")
	// ErrDamaged is a payload without the digest it was announced with.
	ErrDamaged = errors.New("the payload does not have its digest")
	// ErrUnknown is an item that an Outbox does not have, or not in the state asked for.
	ErrUnknown = errors.New("there is no such item")
)

// Origin names an item across both gateways: what has the same Origin is the same item.
type Origin struct {
	// Node is the sending gateway, ID the item's name there.
	Node, ID string
	// SHA256 is that of the payload.
	SHA256 [sha256.Size]byte
}

// key is an Origin of fixed length.
type key [sha256.Size]byte

func (o Origin) key() key {
	b := appendText(appendText(nil, o.Node), o.ID)
	return sha256.Sum256(append(b, o.SHA256[:]...))
}

// Item is what is said of an item before its payload.
type Item struct {
	Origin
	// Size of the payload in bytes.
	Size int64
	// Service is where the receiving gateway shall deliver it.
	Service string
	// Attributes may name patients' objects: they stay inside the tunnel and the queues, and are never logged.
	Attributes map[string]string
	// Priority is 0 to MaxPriority, the most urgent last.
	Priority int
	Created  time.Time
}

func (it Item) validate() error {
	switch {
	case it.Node == "" || len(it.Node) > MaxName || it.ID == "" || len(it.ID) > MaxName || it.Service == "" || len(it.Service) > MaxName:
		return fmt.Errorf("a name of the item is empty or longer than %d bytes", MaxName)
	case it.Size < 0 || it.Size > MaxItem:
		return fmt.Errorf("the item has %d bytes, at most %d are possible", it.Size, int64(MaxItem))
	case it.Priority < 0 || it.Priority > MaxPriority:
		return fmt.Errorf("the priority %d is not between 0 and %d", it.Priority, MaxPriority)
	case len(it.Attributes) > maxAttributeCount:
		return fmt.Errorf("the item has %d attributes, at most %d are possible", len(it.Attributes), maxAttributeCount)
	}
	n := 0
	for k, v := range it.Attributes {
		n += len(k) + len(v)
	}
	if n > MaxAttributes {
		return fmt.Errorf("the attributes take %d bytes, at most %d are possible", n, MaxAttributes)
	}
	return nil
}

// Outbox is the queue that a Sender empties. It is safe for concurrent use. Its Items need not have a Node: the Sender sets it.
type Outbox interface {
	// Next waits for the most urgent item, of the same urgency the oldest, and hands it out until one of the Parcel's ends is called. The
	// Sender holds several hundred at a time.
	Next(ctx context.Context) (Parcel, error)
	// Carried lists all items that were Parcel.Carried and not resolved since, also before a restart.
	Carried() ([]Origin, error)
	// Final resolves an item by an Accepted or Parked receipt, synced, also one that was not Carried because the machine stopped before that,
	// and one that was Parked. ErrUnknown means that there is no such item, or that it is resolved in this way already; while a Parcel of it is
	// out the error is another.
	Final(id string, r Receipt) error
	// Requeue makes a carried item due again: the far gateway does not have it after all. ErrUnknown means that it was resolved before.
	Requeue(id string) error
}

// Parcel is the right to send one item. Exactly one of Carried, Retry and Park ends it.
type Parcel interface {
	Item() Item
	// Open reads the payload from its start. If the reader is an io.ReaderAt, that is used for long payloads.
	Open() (io.ReadCloser, error)
	// Carried keeps the item until Outbox.Final: the far gateway has it, synced.
	Carried(r Receipt) error
	// Retry makes the item due again, after a back-off unless cause is spool.ErrCalledOff.
	Retry(cause error) error
	// Park keeps the item until an operator decides.
	Park(cause error) error
}

// Inbox is where a Receiver puts items. It is safe for concurrent use.
type Inbox interface {
	// Accept is asked before the payload comes and must be quick. An error that is ErrFull is answered with "later", one that is ErrRefused
	// with "never"; any other with "later".
	Accept(it Item) error
	// Store keeps an item durably and returns after it is synced. The reader returns ErrDamaged instead of io.EOF when the payload is not the
	// announced one: then nothing may be kept. Storing an item twice is asked for only after an error.
	Store(ctx context.Context, it Item, payload io.Reader) error
	// Again makes an item due again whose delivery the Receiver has reported as parked. False means that the Inbox has it no more.
	Again(o Origin) (bool, error)
	// Holds reports whether an item that was stored is still there.
	Holds(o Origin) bool
	// Delivered tells that an item was reported as accepted.
	Delivered(o Origin)
	// Held lists what is stored and not delivered, at start.
	Held() iter.Seq2[Held, error]
}

// Held is an item in an Inbox.
type Held struct {
	Origin
	Size    int64
	Service string
}

// Result is what became of an item at its destination.
type Result struct {
	// Accepted tells delivery from a refusal for good.
	Accepted bool
	// Code is the protocol's own status, Peer who gave it, and Reason why it was refused. None may hold patient data.
	Code, Peer, Reason string
}
