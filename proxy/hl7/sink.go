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

// SinkConfig says where a Sink delivers.
type SinkConfig struct {
	Network proxy.Network
	// Target is an address and port.
	Target string
	// AckTimeout bounds the wait for an answer. Zero means DefaultAckTimeout.
	AckTimeout time.Duration
	Limits     Limits
	// Log may be nil.
	Log *slog.Logger
}

// NewSink returns a Sink that sends queued messages, one at a time, each until its answer: AA or CA is a receipt, AE and CE are tried
// again, AR and CR are refusals for good. When no answer comes, or one to another message, it closes the connection and the message is
// tried again.
func NewSink(cfg SinkConfig) spool.Sink {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &sink{
		caller: newCaller(cfg.Network, cfg.Target, cfg.AckTimeout, cfg.Limits),
		log:    cfg.Log.With("subsystem", "hl7", "target", cfg.Target),
	}
	s.caller.lastWait = lastWait
	s.caller.late = func(a Ack) {
		if !a.Code.OK() {
			s.log.Warn("the receiver has taken a message and refused it afterwards", "code", a.Code, "condition", a.Condition)
		}
	}
	return s
}

type sink struct {
	caller *caller
	log    *slog.Logger
}

// RefusedError is a negative answer.
type RefusedError struct {
	Code Code
	// Condition is the receiver's error code in ERR-3, or empty.
	Condition string
}

// Error says what an operator can do; the receiver's own text is left out since it may hold patient data.
func (e *RefusedError) Error() string {
	s := "the receiver answered " + string(e.Code)
	if e.Condition != "" {
		s += " with condition " + e.Condition
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
	a, err := s.caller.exchange(ctx, h, msg)
	switch {
	case err != nil:
		return spool.Receipt{}, err
	case a.Code == "": // the sender wants no answer, and no error came
		return spool.Receipt{At: time.Now(), Peer: s.caller.target}, nil
	case a.Code.OK():
		return spool.Receipt{At: time.Now(), Code: string(a.Code), Peer: a.Header.Sender()}, nil
	}
	refused := error(&RefusedError{Code: a.Code, Condition: a.Condition})
	if a.Code.Final() {
		refused = spool.Permanent(refused)
	}
	return spool.Receipt{}, refused
}

// Idle closes the connection.
func (s *sink) Idle() { s.caller.close() }

// SendConfig says where Send sends.
type SendConfig struct {
	Network proxy.Network
	// Target is an address and port.
	Target string
	// AckTimeout bounds the wait for the answer. Zero means DefaultAckTimeout.
	AckTimeout time.Duration
	Limits     Limits
}

// Send sends one message on a connection of its own and returns the answer, also a negative one. When the message asks for no
// answer (MSH-15 and MSH-16) and none comes, the Ack has no code.
func Send(ctx context.Context, cfg SendConfig, msg []byte) (Ack, error) {
	h, err := ParseHeader(msg)
	if err != nil {
		return Ack{}, fmt.Errorf("send a message: %w", err)
	}
	if h.isAck() {
		return Ack{}, errors.New("send a message: it is an acknowledgment, which nobody answers")
	}
	c := newCaller(cfg.Network, cfg.Target, cfg.AckTimeout, cfg.Limits)
	defer c.close()
	a, err := c.exchange(ctx, h, msg)
	if err != nil {
		return Ack{}, fmt.Errorf("send a message: %w", err)
	}
	return a, nil
}
