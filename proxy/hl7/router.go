package hl7

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
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
	// Ledger recognizes messages that were taken before. Without one, each is taken as new.
	Ledger *Ledger
	// Counters count what is unusual. They may be nil.
	Counters *Counters
	// Admit, if not nil, is asked before a message is taken, by the connection, the Service and the sender. It returns "" or why the connection
	// is closed without an answer.
	Admit func(c net.Conn, service, calling string) string
	// Log may be nil.
	Log *slog.Logger
}

// Router is a proxy.Handler that takes HL7 messages and routes each by its receiver and type. It is safe for concurrent use.
type Router struct {
	routes     []Route
	queue      spool.Queue
	limits     Limits
	ackTimeout time.Duration
	ledger     *Ledger
	counters   *Counters
	admit      func(c net.Conn, service, calling string) string
	log        *slog.Logger
}

var _ proxy.Handler = (*Router)(nil)

// NewRouter checks the routes. Two routes for one receiver and type are an error.
func NewRouter(cfg RouterConfig) (*Router, error) {
	if err := checkRoutes(cfg.Routes, cfg.Queue != nil); err != nil {
		return nil, err
	}
	r := &Router{
		routes: slices.Clone(cfg.Routes), queue: cfg.Queue, limits: cfg.Limits.withDefaults(), ackTimeout: cfg.AckTimeout,
		ledger: cfg.Ledger, counters: cfg.Counters, admit: cfg.Admit, log: cfg.Log,
	}
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
	s := &session{router: r, conn: c, near: newLink(c, r.limits), far: map[int]*farLink{}, stop: cancel}
	defer s.closeFar()
	defer s.near.interrupt(inner)()
	for {
		msg, err := s.near.read(inner)
		s.countFragments()
		// Some devices send empty frames to keep the connection alive, and some confirm our answers (MLLP, release 2).
		if _, confirmed := mllp.IsCommit(msg); err == nil && len(msg) > 0 && !confirmed {
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
	conn   net.Conn
	near   *link
	far    map[int]*farLink // by index of the route
	stop   context.CancelCauseFunc
	res    proxy.Result
	// commits means that the sender of the message at hand waits for a commit acknowledgment.
	commits bool
	// fragments of the decoder that were counted.
	fragments int
}

// countFragments tells of messages that their sender broke off to start again.
func (s *session) countFragments() {
	n := s.near.decoder.Fragments()
	if n == s.fragments {
		return
	}
	s.router.log.Warn("a sender broke a message off and started again on the same connection; the fragment was dropped",
		"calling", s.res.Calling, "called", s.res.Called)
	if routes := s.router.routes; len(routes) > 0 { // nobody knows for which of them it was
		s.router.counters.count(routes[0].Service, func(c *Counts) { c.Fragments += uint64(n - s.fragments) })
	}
	s.fragments = n
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
	w, reason := s.router.route(h)
	if reason != "" {
		return s.refuse(h, AR, reason)
	}
	if why := s.admitted(w); why != "" {
		return &end{outcome: proxy.OutcomeRefused, detail: why}
	}
	return s.take(ctx, w, h, msg)
}

// admitted asks whether this sender may use the way like this; "" if it may.
func (s *session) admitted(w way) string {
	if s.router.admit == nil {
		return ""
	}
	i := w.main
	if i < 0 {
		i = w.copies[0]
	}
	return s.router.admit(s.conn, s.router.routes[i].Service, s.res.Calling)
}

// take goes the way of a message.
func (s *session) take(ctx context.Context, w way, h Header, msg []byte) error {
	routes := s.router.routes
	stores := w.queued(routes)
	mode := Queued
	s.commits = false
	if w.main >= 0 {
		mode, s.commits = routes[w.main].Mode, routes[w.main].CommitSender
	}
	if h.ControlID() == "" && (len(stores) > 0 || mode == Filed) {
		return s.refuse(h, AR, noControlID)
	}
	switch mode {
	case PassThrough:
		// Copies are taken of what comes in, whatever its receiver says. Since they are stored once, the sender may repeat the message.
		if _, err := s.storeAll(ctx, stores, h, msg); err != nil {
			return s.notStored(stores[0], h, err)
		}
		return s.passThrough(ctx, w.main, h, msg)
	case Filed:
		stores = append(stores, routes[w.main])
	case Queued:
	}
	return s.store(ctx, stores, h, msg)
}

// refuse says no, in the sender's own words. A sender that wants to hear nothing loses its connection, which is all that can be said.
func (s *session) refuse(h Header, code Code, text string) error {
	s.res.Outcome, s.res.Detail = proxy.OutcomeRefused, text
	s.router.log.Warn("message refused", "calling", s.res.Calling, "called", s.res.Called, "type", h.Type(), "code", code, "reason", text)
	if err := s.commitment(false); err != nil {
		return err
	}
	code, wanted := h.answer(code)
	if !wanted {
		return &end{outcome: proxy.OutcomeRefused, detail: text}
	}
	return s.reply(h.Ack(code, text))
}

// commitment tells a sender that wants it whether its message is in safe storage (MLLP, release 2).
func (s *session) commitment(stored bool) error {
	if !s.commits {
		return nil
	}
	s.commits = false
	if stored {
		return s.reply([]byte{mllp.Committed})
	}
	return s.reply([]byte{mllp.NotCommitted})
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
