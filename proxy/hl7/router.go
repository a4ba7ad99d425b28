package hl7

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7/mllp"
	"github.com/towpath/towpath/proxy/spool"
)

// DefaultAckTimeout is how long an answer from the far end may take.
const DefaultAckTimeout = 30 * time.Second

// RouterConfig describes a Router.
type RouterConfig struct {
	Routes []Route
	// Queue stores what Queued routes take. It may be nil without such routes.
	Queue  spool.Queue
	Limits Limits
	// AckTimeout bounds the wait for the far end of a PassThrough route. Zero means the default.
	AckTimeout time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Router is a proxy.Handler that takes HL7 messages and routes each by its receiver. It is safe for concurrent use.
type Router struct {
	routes     []Route
	queue      spool.Queue
	limits     Limits
	ackTimeout time.Duration
	log        *slog.Logger
}

var _ proxy.Handler = (*Router)(nil)

// NewRouter checks the routes. Two routes for one receiver are an error.
func NewRouter(cfg RouterConfig) (*Router, error) {
	routes, err := sortRoutes(cfg.Routes, cfg.Queue != nil)
	if err != nil {
		return nil, err
	}
	r := &Router{routes: routes, queue: cfg.Queue, limits: cfg.Limits.withDefaults(), ackTimeout: cfg.AckTimeout, log: cfg.Log}
	if r.ackTimeout <= 0 {
		r.ackTimeout = DefaultAckTimeout
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.log = r.log.With("subsystem", "hl7")
	return r, nil
}

// Serve takes messages until the sender closes the connection.
func (r *Router) Serve(ctx context.Context, c net.Conn) proxy.Result {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &session{router: r, near: newLink(c, r.limits), far: map[int]*farLink{}, stop: cancel}
	defer s.closeFar()
	defer s.near.interrupt(inner)()
	for {
		msg, err := s.near.read(inner)
		if err == nil && len(msg) > 0 { // some devices send empty frames to keep the connection alive
			err = s.message(inner, msg)
		}
		if err != nil {
			return s.result(err)
		}
	}
}

// session is one connection from a sender.
type session struct {
	router *Router
	near   *link
	far    map[int]*farLink // by index of the route
	stop   context.CancelCauseFunc
	res    proxy.Result
}

// end is an error that ends a session with a certain outcome. Its detail is for an operator.
type end struct {
	outcome proxy.Outcome
	detail  string
	cause   error
}

func (e *end) Error() string { return e.detail }

func (e *end) Unwrap() error { return e.cause }

// result turns the error that ended the session into its result.
func (s *session) result(err error) proxy.Result {
	res := s.res
	set := func(o proxy.Outcome, detail string) { res.Outcome, res.Detail = o, detail }
	e, known := errors.AsType[*end](err)
	switch {
	case known:
		set(e.outcome, e.detail)
	case errors.Is(err, io.EOF), errors.Is(err, errIdle), errors.Is(err, context.Canceled),
		errors.Is(err, syscall.ECONNRESET) && res.Items > 0 && !s.near.decoder.Inside(): // some systems always close like that
		if res.Outcome == "" {
			res.Outcome = proxy.OutcomeDone
		}
	case errors.Is(err, io.ErrUnexpectedEOF):
		set(proxy.OutcomeAborted, "the sender closed the connection in the middle of a message")
	case errors.Is(err, errStalled):
		set(proxy.OutcomeTimeout, "the sender stopped in the middle of a message; check its network connection")
	case errors.Is(err, mllp.ErrTooLong):
		set(proxy.OutcomeMalformed, fmt.Sprintf("a message is larger than %d bytes; the sender must split it or the limit be raised",
			s.router.limits.Message))
	case errors.Is(err, mllp.ErrNoStart):
		set(proxy.OutcomeMalformed, "the sender does not speak MLLP: what it sends has no start block (0x0B); check its protocol setting")
	default:
		set(proxy.OutcomeAborted, "the connection to the sender broke")
	}
	return res
}

// message handles one message and returns an error when the session must end.
func (s *session) message(ctx context.Context, msg []byte) error {
	h, err := ParseHeader(msg)
	if err != nil {
		return &end{outcome: proxy.OutcomeMalformed, detail: err.Error(), cause: err}
	}
	s.res.Calling, s.res.Called = h.Sender(), h.Receiver()
	if h.isAck() {
		s.router.log.Warn("an acknowledgment came where messages are taken; it is not answered and not forwarded",
			"calling", s.res.Calling, "called", s.res.Called)
		return nil
	}
	if h.Component(9, 1) == "" {
		return s.refuse(h, AR, "MSH-9 (message type) is empty")
	}
	i, reason := s.router.route(h)
	if i < 0 {
		return s.refuse(h, AR, reason)
	}
	if s.router.routes[i].Mode == PassThrough {
		return s.passThrough(ctx, i, h, msg)
	}
	return s.store(s.router.routes[i], h, msg)
}

// refuse says no, in the sender's own words. A sender that wants to hear nothing loses its connection, which is all that can be said.
func (s *session) refuse(h Header, code Code, text string) error {
	s.res.Outcome, s.res.Detail = proxy.OutcomeRefused, text
	s.router.log.Warn("message refused", "calling", s.res.Calling, "called", s.res.Called, "type", h.Type(), "code", code, "reason", text)
	code, wanted := h.answer(code)
	if !wanted {
		return &end{outcome: proxy.OutcomeRefused, detail: text}
	}
	return s.reply(h.Ack(code, text))
}

func (s *session) reply(ack []byte) error {
	if err := s.near.write(ack); err != nil {
		return errNotTaken(err)
	}
	return nil
}

func errNotTaken(cause error) error {
	return &end{outcome: proxy.OutcomeAborted, detail: "the sender did not take our answer", cause: cause}
}
