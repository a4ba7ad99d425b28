package transfer

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// receipt keeps what the receiver has signed.
func (o *outSession) receipt(m signed) error {
	r, err := ParseReceipt(m.receipt)
	if err == nil {
		err = r.Verify(o.peerKey)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	if r.Node != o.s.cfg.Node || (m.k == kindTaken) != (r.Kind == Taken) {
		return fmt.Errorf("%w: a receipt of another node or kind", errMalformed)
	}
	if o.s.cfg.OnReceipt != nil {
		o.s.cfg.OnReceipt(r)
	}
	o.mu.Lock()
	it := o.byID[r.ID]
	if it != nil && (it.item.SHA256 != r.SHA256 || it.item.Size != r.Size) {
		o.mu.Unlock()
		return fmt.Errorf("%w: a receipt of another payload", errMalformed)
	}
	if it == nil {
		o.mu.Unlock()
		if m.k == kindFinal {
			o.background(func() error { return o.resolve(r) })
		}
		return nil
	}
	if m.k == kindFinal {
		it.final = &r
	} else if f, ok := o.unkept[r.ID]; ok && f.Origin == r.Origin {
		it.final = &f
	}
	if i := slices.Index(o.held, it); i >= 0 {
		o.held = slices.Delete(o.held, i, i+1)
	} else if o.items[it.handle] == nil {
		o.mu.Unlock() // Carried is under way: it sees final
		return nil
	} else {
		o.removeLocked(it)
	}
	id := it.item.ID
	o.byID[id] = it // until it is carried
	o.mu.Unlock()
	o.background(func() error { return o.carry(it, r) })
	return nil
}

// carry records that the far gateway has an item, and its end if that came first.
func (o *outSession) carry(it *outItem, r Receipt) error {
	err := it.parcel.Carried(r)
	o.mu.Lock()
	final := it.final
	delete(o.byID, it.item.ID)
	if err != nil && final != nil {
		o.unkept[r.ID] = *final // it will not come again in this session, the item does
		o.nudge()
	}
	o.mu.Unlock()
	if err != nil {
		return err //nolint:wrapcheck // background logs it
	}
	o.s.count(func(t *Totals) { t.Taken++; t.PayloadBytes += it.item.Size })
	if final == nil {
		return nil
	}
	return o.resolve(*final)
}

// resolve ends a carried item and says so.
func (o *outSession) resolve(r Receipt) error {
	err := o.s.cfg.Outbox.Final(r.ID, r)
	o.mu.Lock()
	if err != nil && !errors.Is(err, ErrUnknown) {
		o.unkept[r.ID] = r
		o.mu.Unlock()
		o.nudge()
		return err //nolint:wrapcheck // background logs it
	}
	delete(o.unkept, r.ID)
	o.mu.Unlock()
	if err == nil {
		o.s.count(func(t *Totals) {
			if r.Kind == Accepted {
				t.Accepted++
			} else {
				t.Parked++
			}
		})
	}
	o.out.put(named{kindSettled, r.ID, r.SHA256, r.Kind})
	return nil
}

// keepPause is the growing pause between attempts to keep what could not be kept.
type keepPause struct {
	min, pause time.Duration
	at         time.Time // of the next attempt
}

// next returns when to look again, and whether an attempt is due now. Without anything to keep the pause is short again.
func (p *keepPause) next(any bool, now time.Time) (wait time.Duration, due bool) {
	switch {
	case !any:
		p.pause, p.at = 0, time.Time{}
		return keepEvery, false
	case p.pause == 0:
		p.pause = min(p.min, keepEvery)
	case now.Before(p.at):
		return p.at.Sub(now), false
	default:
		p.pause, due = min(2*p.pause, keepEvery), true
	}
	p.at = now.Add(p.pause)
	return p.pause, due
}

// keeps reports whether something could not be kept.
func (o *outSession) keeps() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.unkept) > 0
}

// nudge wakes steer.
func (o *outSession) nudge() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// keepAgain tries to keep the final receipts that could not be kept before.
func (o *outSession) keepAgain() {
	o.mu.Lock()
	var again []Receipt
	for id, r := range o.unkept {
		if o.byID[id] == nil {
			again = append(again, r)
		}
	}
	o.mu.Unlock()
	for _, r := range again {
		o.background(func() error { return o.resolve(r) })
	}
}

// unknown sends an item anew that the receiver does not have after all.
func (o *outSession) unknown(m named) {
	o.background(func() error {
		err := o.s.cfg.Outbox.Requeue(m.id)
		if err == nil {
			o.s.count(func(t *Totals) { t.Again++ })
			o.s.log.Warn("the far gateway does not have an item that it had taken: it is sent again", "item", m.id)
		} else if errors.Is(err, ErrUnknown) {
			err = nil
		}
		return err
	})
}
