package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/towpath/towpath/proxy/spool"
)

// SpoolRoute is a queue of a Spool and what the far gateway calls the service that its items are for.
type SpoolRoute struct{ Queue, Service string }

// SpoolOutbox is some queues of a Spool as an Outbox: all that go to one gateway. Make it with NewSpoolOutbox. One Sender uses it.
type SpoolOutbox struct {
	spool  *spool.Spool
	routes []SpoolRoute
	found  chan foundLease

	mu     sync.Mutex
	asking map[string]bool // queues that somebody waits at
}

type foundLease struct {
	route SpoolRoute
	lease spool.Lease
	err   error
}

// NewSpoolOutbox makes an Outbox of queues.
func NewSpoolOutbox(s *spool.Spool, routes ...SpoolRoute) *SpoolOutbox {
	return &SpoolOutbox{spool: s, routes: routes, found: make(chan foundLease, len(routes)), asking: map[string]bool{}}
}

// Next leases the next item of any queue. What is found when nobody wants it any more is kept for the next call.
func (b *SpoolOutbox) Next(ctx context.Context) (Parcel, error) {
	for {
		b.ask(ctx)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for an item: %w", ctx.Err())
		case f := <-b.found:
			b.mu.Lock()
			delete(b.asking, f.route.Queue)
			b.mu.Unlock()
			if f.err == nil {
				return spoolParcel{f.lease, f.route.Service}, nil
			}
			if !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
				return nil, f.err
			}
		}
	}
}

// ask has somebody wait at each queue.
func (b *SpoolOutbox) ask(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.routes {
		if b.asking[r.Queue] {
			continue
		}
		b.asking[r.Queue] = true
		go func() {
			l, err := b.spool.Next(ctx, r.Queue)
			b.found <- foundLease{r, l, err} // there is room for one of each
		}()
	}
}

// Carried lists the items that the far gateway has.
func (b *SpoolOutbox) Carried() ([]Origin, error) {
	var list []Origin
	for _, r := range b.routes {
		items, err := b.spool.Carried(r.Queue)
		if err != nil {
			return nil, err //nolint:wrapcheck // says it all
		}
		for _, it := range items {
			if it.SHA256 == ([32]byte{}) {
				continue // it cannot be read now: another session asks
			}
			list = append(list, Origin{ID: string(it.ID), SHA256: it.SHA256})
		}
	}
	return list, nil
}

// Final ends an item.
func (b *SpoolOutbox) Final(id string, r Receipt) error {
	outcome := spool.Done(delivered(r))
	if r.Kind == Parked {
		outcome = spool.Park(parkedThere(r))
	}
	err := b.spool.Resolve(spool.ID(id), outcome)
	if errors.Is(err, spool.ErrUnknown) {
		return b.late(spool.ID(id), r)
	}
	return err //nolint:wrapcheck // says it all
}

// late ends an item that is not carried: the machine stopped before it was, or it is parked and was delivered after all.
func (b *SpoolOutbox) late(id spool.ID, r Receipt) error {
	it, err := b.spool.Get(id)
	switch {
	case errors.Is(err, spool.ErrUnknown):
		return ErrUnknown
	case err != nil:
		return err //nolint:wrapcheck // says it all
	case !slices.ContainsFunc(b.routes, func(m SpoolRoute) bool { return m.Queue == it.Meta.Queue }) || it.SHA256 != r.SHA256:
		return ErrUnknown
	case r.Kind == Accepted:
		return b.spool.Arrived(id, delivered(r)) //nolint:wrapcheck // says it all
	case it.State == spool.StateParked:
		return ErrUnknown
	}
	return b.spool.Hold(id, parkedThere(r).Error()) //nolint:wrapcheck // says it all
}

func delivered(r Receipt) spool.Receipt {
	return spool.Receipt{At: r.At, Code: r.Code, Peer: r.Peer, Signed: r.Bytes()}
}

func parkedThere(r Receipt) error {
	return fmt.Errorf("%s could not deliver it and has parked it: %s", r.By, limitText(r.Reason))
}

// Requeue makes a carried item due again.
func (b *SpoolOutbox) Requeue(id string) error {
	err := b.spool.Resolve(spool.ID(id), spool.Requeue())
	if errors.Is(err, spool.ErrUnknown) {
		return ErrUnknown
	}
	return err //nolint:wrapcheck // says it all
}

// spoolParcel is a lease.
type spoolParcel struct {
	lease   spool.Lease
	service string
}

// Item describes the item.
func (p spoolParcel) Item() Item {
	it := p.lease.Item()
	return Item{
		Origin: Origin{ID: string(it.ID), SHA256: it.SHA256}, Size: it.Size, Service: p.service,
		Attributes: it.Meta.Attributes, Priority: it.Meta.Priority, Created: it.Created,
	}
}

// Open reads the payload.
func (p spoolParcel) Open() (io.ReadCloser, error) { return p.lease.Open() } //nolint:wrapcheck // says it all

// Carried keeps the item as carried.
func (p spoolParcel) Carried(r Receipt) error {
	return p.lease.Carried(spool.Receipt{At: r.At, Peer: r.By}) //nolint:wrapcheck // says it all
}

// Retry gives the item back.
func (p spoolParcel) Retry(cause error) error { return p.lease.Retry(cause) } //nolint:wrapcheck // says it all

// Park keeps the item for an operator.
func (p spoolParcel) Park(cause error) error { return p.lease.Park(cause) } //nolint:wrapcheck // says it all
