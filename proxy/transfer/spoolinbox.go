package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"strings"
	"sync"

	"github.com/towpath/towpath/proxy/spool"
)

// Attributes that a SpoolInbox adds: where an item came from. What a sender says under these names is dropped.
const (
	AttributeNode    = "transfer.node"
	AttributeItem    = "transfer.item"
	AttributeService = "transfer.service"
)

// SpoolInbox stores items in queues of a Spool. Make it with NewSpoolInbox.
type SpoolInbox struct {
	spool  *spool.Spool
	queue  func(it Item) (string, error)
	queues func() []string

	mu sync.Mutex
	at map[key]spool.ID // items stored and not delivered
}

// NewSpoolInbox makes an Inbox of a Spool. Queue names the queue for an item by its Node and Service; its error is why there is none, and is
// permanent. Queues lists all names that it gives, or ever gave and that may hold items.
func NewSpoolInbox(s *spool.Spool, queue func(it Item) (string, error), queues func() []string) *SpoolInbox {
	return &SpoolInbox{spool: s, queue: queue, queues: queues, at: map[key]spool.ID{}}
}

// Accept looks whether there is a queue.
func (b *SpoolInbox) Accept(it Item) error {
	if _, err := b.queue(it); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// Store writes an item to its queue.
func (b *SpoolInbox) Store(_ context.Context, it Item, payload io.Reader) error {
	name, err := b.queue(it)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	m := spool.Meta{Queue: name, Priority: it.Priority, Attributes: maps.Clone(it.Attributes)}
	if m.Attributes == nil {
		m.Attributes = map[string]string{}
	}
	m.Attributes[AttributeNode], m.Attributes[AttributeItem], m.Attributes[AttributeService] = it.Node, it.ID, it.Service
	w, err := b.spool.Create(m)
	if err != nil {
		return full(err)
	}
	defer w.Abort()
	if _, err := io.Copy(w, payload); err != nil {
		return full(err)
	}
	stored, err := w.Commit()
	if err != nil {
		return full(err)
	}
	b.mu.Lock()
	b.at[it.key()] = stored.ID
	b.mu.Unlock()
	return nil
}

func full(err error) error {
	if errors.Is(err, spool.ErrFull) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// Again unparks an item.
func (b *SpoolInbox) Again(o Origin) (bool, error) {
	b.mu.Lock()
	id, ok := b.at[o.key()]
	b.mu.Unlock()
	if !ok {
		return false, nil
	}
	it, err := b.spool.Get(id)
	if err == nil {
		// Its deliverer may be about to park it, or an operator here was faster.
		if err = spool.ErrLeased; it.State == spool.StateParked {
			err = b.spool.Unpark(id)
		}
	}
	if errors.Is(err, spool.ErrUnknown) {
		b.Delivered(o)
		return false, nil
	}
	if err != nil {
		return false, err //nolint:wrapcheck // says it all
	}
	return true, nil
}

// Holds looks whether an item is in its queue.
func (b *SpoolInbox) Holds(o Origin) bool {
	b.mu.Lock()
	id, ok := b.at[o.key()]
	b.mu.Unlock()
	return ok && b.spool.Holds(id)
}

// Delivered forgets where an item was.
func (b *SpoolInbox) Delivered(o Origin) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.at, o.key())
}

// errUnreadable is why a Receiver cannot start: it would take the items for lost.
var errUnreadable = errors.New("the queue's items cannot be read now: start the transfer when its key is there")

// Held lists what is in the queues and came by transfer.
func (b *SpoolInbox) Held() iter.Seq2[Held, error] {
	return func(yield func(Held, error) bool) {
		for _, name := range b.queues() {
			items, err := b.spool.List(name, int(^uint(0)>>1))
			if err != nil {
				yield(Held{}, err)
				return
			}
			for _, it := range items {
				h, ok := HeldOf(it)
				if it.Locked {
					yield(Held{}, errUnreadable)
					return
				}
				if !ok {
					continue
				}
				b.mu.Lock()
				b.at[h.key()] = it.ID
				b.mu.Unlock()
				if !yield(h, nil) {
					return
				}
			}
		}
	}
}

// HeldOf tells where an item in a queue came from. False is an item that did not come by transfer.
func HeldOf(it spool.Item) (Held, bool) {
	a := it.Meta.Attributes
	if a[AttributeNode] == "" || a[AttributeItem] == "" {
		return Held{}, false
	}
	return Held{Origin: Origin{a[AttributeNode], a[AttributeItem], it.SHA256}, Size: it.Size, Service: a[AttributeService]}, true
}

// QueueName names a queue for items of a service from a node: "in.service.node", in the characters that a Spool allows, at most 96. Other
// characters become hyphens; names of services and nodes must differ without them.
func QueueName(service, node string) string {
	s := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-':
			return c
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		}
		return '-'
	}, "in."+service+"."+node)
	return s[:min(len(s), 96)]
}

// Sink reports to r how items end that inner delivers: use it for the queues of a SpoolInbox. An item whose end is recorded already, because
// the machine stopped right after, is not delivered again.
func (r *Receiver) Sink(inner spool.Sink) spool.Sink { return reportingSink{r, inner} }

type reportingSink struct {
	r     *Receiver
	inner spool.Sink
}

// Deliver delivers by the inner Sink.
func (s reportingSink) Deliver(ctx context.Context, it spool.Item, payload io.Reader) (spool.Receipt, error) {
	h, ok := HeldOf(it)
	if !ok {
		return s.inner.Deliver(ctx, it, payload) //nolint:wrapcheck // transparent
	}
	if f, done := s.r.Outcome(h.Origin); done && f.Kind == Accepted {
		return spool.Receipt{At: f.At, Code: f.Code, Peer: f.Peer}, nil
	}
	receipt, err := s.inner.Deliver(ctx, it, payload)
	var res Result
	if permanent, is := errors.AsType[*spool.PermanentError](err); is {
		res = Result{Peer: receipt.Peer, Code: receipt.Code, Reason: permanent.Error()}
	} else if errors.Is(err, spool.ErrCorrupt) {
		res = Result{Reason: "the receiving gateway's copy is damaged"} // its deliverer parks it
	} else if err != nil {
		return receipt, err //nolint:wrapcheck // transparent
	} else {
		res = Result{Accepted: true, Code: receipt.Code, Peer: receipt.Peer}
	}
	if record := s.r.Resolve(h, res); record != nil {
		// The inner Sink must know the item again, as after a crash.
		return receipt, record
	}
	return receipt, err //nolint:wrapcheck // transparent
}

// Idle is the inner Sink's.
func (s reportingSink) Idle() { s.inner.Idle() }
