package hl7

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/spool"
)

// DefaultErrorRetries is how often a message is tried again after an answer that says that trying again may help. With the queue's
// back-off that takes about half an hour.
const DefaultErrorRetries = 15

// SinkConfig says where a Sink delivers.
type SinkConfig struct {
	// Service names the receiver in Counters.
	Service string
	Network proxy.Network
	// Target is an address and port.
	Target string
	// AckTimeout bounds the wait for an answer. Zero means DefaultAckTimeout.
	AckTimeout time.Duration
	// ErrorRetries is how often a message is tried again after AE or CE. Zero means the default, negative never.
	ErrorRetries int
	// Commit means that the receiver uses commit acknowledgments (MLLP, release 2).
	Commit bool
	// Ledger is that of the Router that fills the queue: what it delivers must be remembered first.
	Ledger *Ledger
	// Returns takes the answers that the senders have not heard yet. It may be nil.
	Returns *Returns
	// Counters may be nil.
	Counters *Counters
	Limits   Limits
	// Log may be nil.
	Log *slog.Logger
}

// NewSink returns a Sink that sends queued messages, one at a time, each until its answer: AA or CA is a receipt, AE and CE are tried
// again up to a limit, AR and CR are refusals for good. When no answer comes, or one to another message, it closes the connection and the
// message is tried again.
func NewSink(cfg SinkConfig) spool.Sink {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.ErrorRetries == 0 {
		cfg.ErrorRetries = DefaultErrorRetries
	}
	s := &sink{
		cfg:    cfg,
		caller: newCaller(cfg.Network, cfg.Target, cfg.AckTimeout, cfg.Limits),
		log:    cfg.Log.With("subsystem", "hl7", "target", cfg.Target),
	}
	s.caller.lastWait = lastWait
	s.caller.commit = cfg.Commit
	s.caller.late = s.late
	return s
}

type sink struct {
	cfg    SinkConfig
	caller *caller
	log    *slog.Logger
	// failing is the item that was answered AE or CE, failures how often.
	failing  spool.ID
	failures int
}

// RefusedError is a negative answer.
type RefusedError struct {
	Code Code
	// Condition is the receiver's error code in ERR-3, or empty.
	Condition string
	// Times is how often it was given.
	Times int
}

// Error says what an operator can do; the receiver's own text is left out since it may hold patient data.
func (e *RefusedError) Error() string {
	s := "the receiver answered " + string(e.Code)
	if e.Condition != "" {
		s += " with condition " + e.Condition
	}
	if e.Times > 1 {
		s += fmt.Sprintf(" %d times", e.Times)
	}
	return s + "; its own log says why"
}

// Deliver sends one message.
func (s *sink) Deliver(ctx context.Context, it spool.Item, payload io.Reader) (spool.Receipt, error) {
	limit := int64(s.caller.limits.Message)
	if it.Size > limit {
		return spool.Receipt{}, spool.Permanent(fmt.Errorf("the message is larger than %d bytes", limit))
	}
	msg, err := io.ReadAll(payload)
	if err != nil {
		return spool.Receipt{}, fmt.Errorf("read the stored message: %w", err)
	}
	h, err := ParseHeader(msg)
	if err != nil {
		return spool.Receipt{}, spool.Permanent(err)
	}
	id, remembered := itemIdentity(it)
	if remembered {
		if err := s.cfg.Ledger.ensure(id, nil); err != nil {
			s.log.Warn("a message could not be remembered; if its sender repeats it, it may be delivered twice", "error", err)
		}
	}
	s.caller.sending = id
	a, err := s.caller.exchange(ctx, h, msg)
	switch {
	case errors.Is(err, ErrUnreachable):
		return spool.Receipt{}, spool.Unreachable(err)
	case err != nil:
		return spool.Receipt{}, err
	case a.Code == "": // the sender wants no answer, and no error came
		return spool.Receipt{At: time.Now(), Peer: s.caller.target}, nil
	case a.Code.OK():
		return s.taken(ctx, h, id, a)
	}
	return spool.Receipt{}, s.refused(ctx, it, h, id, a)
}

func itemIdentity(it spool.Item) (identity, bool) {
	k, ok := parseKey(it.Meta.Attributes[AttrKey])
	return identity{key: k, digest: it.SHA256}, ok
}

func (s *sink) taken(ctx context.Context, h Header, id identity, a Ack) (spool.Receipt, error) {
	if h.owed(a.Code) && !h.isAck() {
		if err := s.giveBack(ctx, h, id, a); err != nil {
			// The message has arrived: it must not be sent again for the sake of its acknowledgment.
			s.log.Error("an acknowledgment could not be given back to the sender of the message", "code", a.Code, "error", err)
		}
	}
	return spool.Receipt{At: time.Now(), Code: string(a.Code), Peer: a.Header.Sender()}, nil
}

// refused says whether to try again, and tells the sender when not.
func (s *sink) refused(ctx context.Context, it spool.Item, h Header, id identity, a Ack) error {
	if s.failing != it.ID {
		s.failing, s.failures = it.ID, 0
	}
	s.failures++
	refused := &RefusedError{Code: a.Code, Condition: a.Condition, Times: s.failures}
	if !a.Code.Final() && s.failures <= s.cfg.ErrorRetries {
		return refused
	}
	if h.owed(a.Code) && !h.isAck() {
		if err := s.giveBack(ctx, h, id, a); err != nil {
			return fmt.Errorf("%w; and the acknowledgment could not be stored for its sender: %w", refused, err)
		}
	}
	s.cfg.Counters.count(s.cfg.Service, func(c *Counts) { c.Refused++ })
	s.failing = ""
	return spool.Permanent(refused)
}

// giveBack stores an acknowledgment for the sender of a message. Without a way to it, that is counted.
func (s *sink) giveBack(ctx context.Context, h Header, id identity, a Ack) error {
	err := s.cfg.Returns.give(ctx, h, id, a.raw)
	switch {
	case errors.Is(err, errNoReturn):
		s.cfg.Counters.count(s.cfg.Service, func(c *Counts) { c.Unreturned++ })
		return nil
	case err != nil:
		return err
	}
	s.cfg.Counters.count(s.cfg.Service, func(c *Counts) { c.Returned++ })
	return nil
}

// late takes the application's answer to a message whose storage was acknowledged before.
func (s *sink) late(o outstanding, a Ack) {
	if !a.Code.OK() {
		s.cfg.Counters.count(s.cfg.Service, func(c *Counts) { c.RefusedLate++; c.LastRefusedLate = time.Now() })
		s.log.Warn("the receiver has taken a message and refused it afterwards", "code", a.Code, "condition", a.Condition)
	}
	if !o.header.owed(a.Code) {
		return
	}
	if err := s.giveBack(context.Background(), o.header, o.id, a); err != nil {
		s.log.Error("an acknowledgment could not be given back to the sender of the message", "code", a.Code, "error", err)
	}
}

// Idle closes the connection, after a moment for applications that have not spoken yet.
func (s *sink) Idle() {
	s.caller.settle(quiet)
	s.caller.close()
}
