package dicom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/spool"
)

// outgoing is one item on its way.
type outgoing struct {
	id      spool.ID
	kind    kind
	calling string
	rq      dimse.StoreRQ
	line    delivered
	state   deliveryState
	// conflict means that other bytes were delivered under the same UID, so that finding that UID proves nothing.
	conflict bool
	// again means that the same object was delivered some time ago.
	again bool
	sent  bool
	// resent means that the archive may have got it before.
	resent bool
}

// step moves an item. The states are few and the table is tested; an event that has no cell is a fault of ours.
func (o *outgoing) step(e deliveryEvent) {
	next, ok := stepDelivery(o.state, e)
	if !ok {
		panic(fmt.Sprintf("delivery event %d in state %s", e, o.state))
	}
	o.state = next
}

func (s *sink) outgoing(item spool.Item) (*outgoing, error) {
	attrs := item.Meta.Attributes
	o := &outgoing{
		id: item.ID, kind: kind{class: attrs[AttrSOPClass], syntax: attrs[AttrTransferSyntax]}, calling: attrs[AttrCallingAE],
	}
	o.rq = dimse.StoreRQ{SOPClass: o.kind.class, SOPInstance: attrs[AttrSOPInstance], MoveOriginatorAE: attrs[AttrMoveOriginatorAE]}
	if !ValidUID(o.kind.class) || !ValidUID(o.kind.syntax) || !ValidUID(o.rq.SOPInstance) {
		return nil, errors.New("the queue item does not say what kind of object it is: remove it")
	}
	if o.rq.MoveOriginatorAE != "" {
		n, err := strconv.ParseUint(attrs[AttrMoveOriginatorMessage], 10, 16)
		if err != nil {
			return nil, errors.New("the queue item has a wrong move originator: remove it")
		}
		o.rq.MoveOriginatorMessage = uint16(n)
	}
	if o.calling == "" {
		o.calling = s.cfg.CallingAE
	}
	o.line = s.ledger.line(item, o.kind, o.rq.SOPInstance, time.Now())
	o.state = s.ledger.state(o.id)
	return o, nil
}

// attempt asks if the item is in doubt, and sends it if it is needed.
func (s *sink) attempt(ctx context.Context, o *outgoing, payload io.Reader) (spool.Receipt, error) {
	s.prefix.Reset(payload)
	if o.state == stateInDoubt {
		switch err := s.settle(ctx, o); {
		case err != nil:
			return spool.Receipt{}, err
		case o.state == stateDelivered && o.again:
			return s.duplicate(o), nil
		case o.state == stateDelivered:
			return s.found(), nil
		}
	}
	if bad, over := s.ledger.lost(o.id, s.cfg.Patience, time.Now()); over {
		o.step(evGiveUp)
		s.ledger.count(func(c *LedgerCounts) { c.GaveUp++ })
		return spool.Receipt{}, spool.Permanent(fmt.Errorf("%s has failed %d times with this object since %s: look for the reason in its log, "+
			"then send the object again or remove it; the last time: %s", s.calledAE, bad.tries, bad.first.UTC().Format(time.RFC3339), bad.reason))
	}
	id, err := s.prepare(ctx, o.calling, o.kind)
	if err != nil {
		if isA[*notAcceptedError](err) {
			o.step(evRefused)
			err = spool.Permanent(err)
		}
		return spool.Receipt{}, err
	}
	return s.send(ctx, o, id, s.prefix)
}

// settle asks whether the archive has an item in doubt.
func (s *sink) settle(ctx context.Context, o *outgoing) error {
	d := s.ledger.doubt(o.id, time.Now())
	ev, err := evUnaskable, error(nil)
	if !o.conflict {
		head, peekErr := s.prefix.Peek(identifyPrefix)
		if peekErr != nil && !errors.Is(peekErr, io.EOF) {
			return &ul.SourceError{Err: peekErr}
		}
		ref := reference{class: o.kind.class, instance: o.rq.SOPInstance, place: identify(head, o.kind.syntax)}
		ev, err = s.ask(ctx, o, ref, d)
	}
	switch wait := s.cfg.SettleTime - time.Since(d.since); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case ev == evAbsent && wait > 0:
		ev, err = evSilent, fmt.Errorf("%s does not have the object yet: it will be asked again", s.calledAE)
	case ev == evUnaskable && o.again:
		ev = evPresent // it was once, and nobody says otherwise
	case ev == evUnaskable && s.cfg.InDoubt == ParkInDoubt:
		ev, err = evGiveUp, spool.Permanent(fmt.Errorf("%s broke off before it answered and cannot be asked whether it has the object: "+
			"look there, then send it again or remove it", s.calledAE))
	}
	o.step(ev)
	o.resent = ev == evUnaskable
	s.ledger.count(func(c *LedgerCounts) {
		switch ev {
		case evPresent:
			c.FoundPresent++
		case evAbsent:
			c.FoundAbsent++
		case evUnaskable:
			c.Resent++
		case evGiveUp:
			c.GaveUp++
		default:
		}
	})
	s.log.Info("object in doubt", "item", o.id, "called", s.calledAE, "now", o.state.String())
	if isA[*dialError](err) {
		err = unreachable(err)
	}
	return err
}

// ask asks. Some archives have one association to spare: the one for storing is given back first, as the asker's is before storing.
func (s *sink) ask(ctx context.Context, o *outgoing, ref reference, d *doubt) (deliveryEvent, error) {
	calling := s.cfg.AskingAE
	if calling == "" {
		calling = o.calling
	}
	s.release(ctx)
	return s.asker.ask(ctx, calling, ref, d)
}

// send sends an item in presentation context id.
func (s *sink) send(ctx context.Context, o *outgoing, id uint8, payload io.Reader) (spool.Receipt, error) {
	if err := s.ledger.begin(o.id); err != nil {
		return spool.Receipt{}, err
	}
	o.step(evBegin)
	o.sent = true
	watched := &endSpy{r: payload}
	resp, err := s.store(ctx, id, o.rq, watched)
	if err != nil {
		// The last fragment is only written when the payload has come to its end: then nobody can know how far it got.
		o.step(map[bool]deliveryEvent{true: evUnanswered, false: evCut}[watched.ended])
		if ctx.Err() == nil && !isA[*ul.SourceError](err) {
			s.ledger.strike(o.id, err.Error(), false, time.Now())
		}
		return spool.Receipt{}, err
	}
	return s.receipt(o, resp)
}

// endSpy notices that a payload was read to its end.
type endSpy struct {
	r     io.Reader
	ended bool
}

func (e *endSpy) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.ended = e.ended || errors.Is(err, io.EOF)
	return n, err
}

// finish notes in the ledger how an attempt has ended.
func (s *sink) finish(o *outgoing, err error) {
	now := time.Now()
	switch o.state {
	case stateDelivered:
		if o.again && err == nil && !o.sent {
			return // noted as a duplicate
		}
		if o.conflict {
			s.log.Warn("an object was delivered although other bytes had been delivered under the same UID: "+
				"have the archive's administrator compare them", "item", o.id, "called", s.calledAE)
		}
		if noted := s.ledger.taken(o.id, o.line); noted != nil {
			s.log.Error("a delivered object could not be noted", "error", noted)
		}
		return
	case stateParked:
		s.ledger.left(o.id, o.line.object)
		return
	case stateInDoubt:
		s.ledger.unanswered(o.id, now)
	default:
		s.ledger.certain(o.id)
	}
	if err != nil {
		s.ledger.hold(o.line.object, o.id, now.Add(s.cfg.OrderHold))
	}
}
