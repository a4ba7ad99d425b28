package dicom

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/dimse"
	"github.com/towpath/towpath/proxy/dicom/pdu"
	"github.com/towpath/towpath/proxy/dicom/ul"
	"github.com/towpath/towpath/proxy/spool"
)

// DefaultCallingAE is our own AE title where none is known.
const DefaultCallingAE = "TOWPATH"

// maxCallers bounds the calling AE titles whose kinds of objects a Sink remembers.
const maxCallers = 64

// staleAfter is how long an association may rest before it is looked at for a goodbye of the peer.
const staleAfter = time.Second

// InDoubtPolicy says what becomes of an object in doubt when the archive cannot be asked.
type InDoubtPolicy uint8

// The policies.
const (
	// ResendInDoubt sends it again, since all archives seen recognize an object by its UID. It is the default.
	ResendInDoubt InDoubtPolicy = iota
	// ParkInDoubt lets a person decide.
	ParkInDoubt
)

// SinkConfig says where a Sink delivers.
type SinkConfig struct {
	Network proxy.Network
	// Target is a host and port that the Network understands.
	Target string
	// CalledAE is the AE title of the far side.
	CalledAE string
	// CallingAE is used for items that do not say who sent them. Empty means DefaultCallingAE.
	CallingAE string
	// AskingAE is used to ask about objects in doubt. Empty means that of the item.
	AskingAE string
	// Ledger is the queue's memory; nil means one that forgets at the end of the process.
	Ledger *Ledger
	// Commitments, which may be nil, hears of storage commitment reports that come on an association of the archive.
	Commitments *Commitments
	// Twin, which may be nil, hears when the archive does otherwise than it knows.
	Twin *Twin
	// InDoubt is for archives that cannot be asked.
	InDoubt InDoubtPolicy
	// SettleTime is how long after a break an archive may still be storing: until then "I do not have it" is not believed. Default
	// 10 s.
	SettleTime time.Duration
	// ReportWait is how long a storage commitment's report is waited for while the queue stands still, and ReportPatience how long in
	// all. Defaults 10 s and 1 h.
	ReportWait, ReportPatience time.Duration
	// OrderHold is how long an object waits for an earlier one with the same UID that failed: longer than the queue's longest pause
	// between attempts. Default 6 min.
	OrderHold time.Duration
	Patience  Patience
	Limits    Limits
	// Log may be nil.
	Log *slog.Logger
}

// trustDelivered is how long after its delivery an object is believed to be at the archive without asking.
const trustDelivered = 15 * time.Minute

// The defaults of SinkConfig.
const (
	DefaultSettleTime     = 10 * time.Second
	DefaultReportWait     = 10 * time.Second
	DefaultReportPatience = time.Hour
	DefaultOrderHold      = spool.DefaultBackoffMax + time.Minute
)

func (c SinkConfig) withDefaults() SinkConfig {
	orElse := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	orElse(&c.SettleTime, DefaultSettleTime)
	orElse(&c.ReportWait, DefaultReportWait)
	orElse(&c.ReportPatience, DefaultReportPatience)
	orElse(&c.OrderHold, DefaultOrderHold)
	c.Patience = c.Patience.withDefaults()
	c.CallingAE = callingOr(c.CallingAE)
	if c.Ledger == nil {
		c.Ledger = newLedger(LedgerOptions{})
	}
	return c
}

// sink delivers spool items by C-STORE.
type sink struct {
	*user
	cfg    SinkConfig
	ledger *Ledger
	asker  *asker
	prefix *bufio.Reader
	seen   map[string]*recent // kinds of objects by calling AE title
}

// NewSink returns a Sink that delivers to one archive. It associates as the modality that sent the item, keeps the association
// for the items that follow, and sends data sets as the bytes that they are. A broken association is never used again.
//
// It delivers each object with effect once: see deliveryState for its way, and Ledger for what survives a restart.
func NewSink(cfg SinkConfig) spool.Sink {
	cfg = cfg.withDefaults()
	caller := func() *user { return newUser(cfg.Network, cfg.Target, cfg.CalledAE, cfg.Limits, cfg.Log) }
	return &sink{
		user: caller(), cfg: cfg, ledger: cfg.Ledger, seen: map[string]*recent{}, prefix: bufio.NewReaderSize(nil, identifyPrefix),
		asker: &asker{user: caller(), commitments: cfg.Commitments, wait: cfg.ReportWait, patience: cfg.ReportPatience},
	}
}

// Deliver sends one object, unless the archive has it. When the association breaks between the last byte and the answer, the error
// is one to be retried, and the next attempt starts by asking.
func (s *sink) Deliver(ctx context.Context, item spool.Item, payload io.Reader) (spool.Receipt, error) {
	o, err := s.outgoing(item)
	if err != nil {
		return spool.Receipt{}, spool.Permanent(err)
	}
	before, other := s.ledger.seen(o.line)
	switch {
	case s.ledger.mustWait(o.line.object, o.id, o.line.at):
		s.ledger.hold(o.line.object, o.id, o.line.at.Add(s.cfg.OrderHold))
		return spool.Receipt{}, errors.New("an earlier object with the same UID is still on its way: this one follows it")
	case !before.IsZero() && o.rq.MoveOriginatorAE != "":
		// Somebody retrieves it again, and may have deleted what was delivered before.
	case !before.IsZero() && (other || o.line.at.Sub(before) < trustDelivered):
		return s.duplicate(o), nil
	case !before.IsZero():
		// Somebody sends it again long after. Perhaps the archive has lost it: ask.
		o.again, o.state = true, stateInDoubt
	}
	o.conflict = other
	r, err := s.attempt(ctx, o, payload)
	s.finish(o, err)
	return r, err
}

// duplicate answers for an item that the archive has.
func (s *sink) duplicate(o *outgoing) spool.Receipt {
	s.ledger.duplicate(o.id, o.line.object)
	s.log.Info("object not sent, the same one was delivered before", "item", o.id, "called", s.calledAE)
	return s.found()
}

func (s *sink) found() spool.Receipt {
	return spool.Receipt{At: time.Now(), Code: dimse.Success.Code(), Peer: s.calledAE}
}

// receipt judges the answer to a C-STORE. The far side's comment is not repeated: it may name the patient.
func (s *sink) receipt(o *outgoing, resp dimse.Response) (spool.Receipt, error) {
	class := resp.Status.Class()
	if resp.Status == dimse.DuplicateInstance && o.resent {
		class = dimse.ClassSuccess // it got there the first time
	}
	s.cfg.Twin.answered(o.kind.class, resp.Status == dimse.SOPClassNotSupported)
	var err error
	switch class {
	case dimse.ClassSuccess, dimse.ClassWarning:
		o.step(evTaken)
		return spool.Receipt{At: time.Now(), Code: resp.Status.Code(), Peer: s.calledAE}, nil
	case dimse.ClassTransient:
		o.step(evNotNow)
		s.ledger.strike(o.id, "status "+resp.Status.String(), true, time.Now())
		if resp.Status == dimse.NotAuthorized {
			return spool.Receipt{}, fmt.Errorf("%s answered %s: have its administrator permit AE title %q to store",
				s.calledAE, resp.Status, s.calling)
		}
		return spool.Receipt{}, fmt.Errorf("%s answered %s: check its disk and its log if this goes on", s.calledAE, resp.Status)
	case dimse.ClassPermanent:
		err = fmt.Errorf("%s refused the object with status %s: look up the reason in its log, then send the object again or remove it",
			s.calledAE, resp.Status)
	default:
		err = fmt.Errorf("%s answered a C-STORE with status %s, which has no meaning there: report it to its maker",
			s.calledAE, resp.Status)
	}
	o.step(evRefused)
	return spool.Receipt{}, spool.Permanent(err)
}

// prepare returns the context for k on an association as calling, opening one if need be. A refusal is believed only of a new
// association: the far side's configuration may have been repaired since an old one was negotiated.
func (s *sink) prepare(ctx context.Context, calling string, k kind) (uint8, error) {
	if s.a != nil && time.Since(s.used) > staleAfter && !s.a.Alive() {
		s.drop()
	}
	if s.a != nil && s.calling == calling {
		if _, asked := s.proposed[k]; asked {
			if id, err := s.accepted(k); err == nil {
				return id, nil
			}
		}
	}
	s.release(ctx)
	s.asker.release(ctx)
	kinds := s.kinds(calling)
	kinds.add(k)
	if err := s.open(ctx, calling, *kinds); err != nil {
		return 0, unreachable(err)
	}
	id, err := s.accepted(k)
	peer := s.a.Accepted().UserInfo
	s.cfg.Twin.met(peer.ImplementationClass, peer.ImplementationVersion)
	s.cfg.Twin.proposed(k, err == nil)
	return id, err
}

// unreachable marks what keeps every object from the archive. An association that it rejects for good is no such thing: another device's may be
// accepted.
func unreachable(err error) error {
	if rejected, is := errors.AsType[*ul.RejectedError](err); is && rejected.RJ.Result != pdu.RejectedTransient {
		return err
	}
	return spool.Unreachable(err)
}

// kinds returns what calling has sent so far. When too many AE titles have been seen, all but this one are forgotten.
func (s *sink) kinds(calling string) *recent {
	r, ok := s.seen[calling]
	if !ok {
		if len(s.seen) >= maxCallers {
			clear(s.seen)
		}
		r = &recent{}
		s.seen[calling] = r
	}
	return r
}

// Idle releases the associations and makes durable what could not be written before.
func (s *sink) Idle() {
	s.release(context.Background())
	s.asker.release(context.Background())
	if err := s.ledger.sync(); err != nil {
		s.log.Error("the ledger could not be synced", "error", err)
	}
}
