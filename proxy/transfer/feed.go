package transfer

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// maxLeases is how many items are in the session's hands. Most are not offered yet: they are there so that an urgent one is seen at once.
const maxLeases = 4096

// feed takes what the Outbox has and offers it, as far ahead as allowed.
func (o *outSession) feed(ctx context.Context) error {
	for {
		if !o.awaitLease(ctx) {
			return errClosed
		}
		p, err := o.s.cfg.Outbox.Next(ctx)
		if err != nil {
			return err //nolint:wrapcheck // it is the Outbox's to say
		}
		o.hold(p)
	}
}

func (o *outSession) awaitLease(ctx context.Context) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.items)+len(o.held) >= maxLeases && !o.ended() && ctx.Err() == nil {
		o.cond.Wait()
	}
	return !o.ended() && ctx.Err() == nil
}

// hold puts an item where its turn comes.
func (o *outSession) hold(p Parcel) {
	it := p.Item()
	it.Node = o.s.cfg.Node
	if err := it.validate(); err != nil {
		o.background(func() error { return p.Park(err) })
		return
	}
	o.mu.Lock()
	if o.byID[it.ID] != nil {
		o.mu.Unlock()
		o.background(func() error { return p.Retry(errors.New("the item is under way already")) })
		return
	}
	o.handle++
	x := &outItem{parcel: p, item: it, handle: o.handle}
	o.byID[it.ID] = x
	at, _ := slices.BinarySearchFunc(o.held, x, byTurn)
	o.held = slices.Insert(o.held, at, x)
	o.offerLocked()
	o.mu.Unlock()
}

// reorder sorts what is held by what the Parcels say now.
func (o *outSession) reorder() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, x := range o.held {
		if p := x.parcel.Item().Priority; p >= 0 && p <= MaxPriority {
			x.item.Priority = p
		}
	}
	slices.SortFunc(o.held, byTurn)
	o.offerLocked()
}

// byTurn sorts the most urgent first, of these the oldest.
func byTurn(a, b *outItem) int {
	return cmp.Or(cmp.Compare(b.item.Priority, a.item.Priority), cmp.Compare(a.handle, b.handle))
}

// offerLocked offers what is held as far as there is room.
func (o *outSession) offerLocked() {
	for len(o.held) > 0 && !o.ended() {
		at := o.nextOfferLocked()
		x := o.held[at]
		if wait := time.Until(o.pause); wait > 0 {
			o.alarmLocked(&o.feedAlarm, wait)
			return
		}
		most := o.ahead
		if x.item.Priority < Urgent {
			most -= o.ahead / 16 // some places are for urgent ones
			if o.bytes >= o.s.cfg.AheadBytes && len(o.items) >= min(4, most) {
				return
			}
		}
		if len(o.items) >= most {
			return
		}
		o.held = slices.Delete(o.held, at, at+1)
		o.items[x.handle] = x
		o.bytes += x.item.Size
		o.out.put(offer{x.handle, x.item})
	}
}

// alarmLocked wakes everybody after a while.
func (o *outSession) alarmLocked(t **time.Timer, after time.Duration) {
	if *t == nil {
		*t = time.AfterFunc(after, o.wakeAll)
		return
	}
	(*t).Reset(after)
}
