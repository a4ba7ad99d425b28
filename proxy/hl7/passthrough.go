package hl7

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7/mllp"
)

const (
	dialTimeout = 10 * time.Second
	// lastWait is how long an answer is still waited for when the gateway shuts down.
	lastWait = 3 * time.Second
	// remembered is for how many messages late answers are relayed, such as the application's after an accept acknowledgment.
	remembered = 64
)

// openMessage may still be answered.
type openMessage struct {
	controlID string
	answers   int // how many may come
	// once is what a positive answer is remembered for; nil if it is not.
	once *identity
}

// farLink is the connection to the far end that belongs to one sender's connection and one route. Its own goroutine reads, so that
// answers are relayed whenever they come.
type farLink struct {
	session *session
	route   Route
	link    *link
	done    chan struct{} // closed when the reader has ended

	mu       sync.Mutex
	awaited  chan struct{} // closed when the answer to the newest message has come; nil when none is awaited
	awaiting string
	open     []openMessage // oldest first
	relaying bool          // an answer is on its way to the sender
	gone     bool          // nothing more will come
}

// passThrough sends a message on and waits until its answer has come. The goroutine of the farLink relays it.
func (s *session) passThrough(ctx context.Context, i int, h Header, msg []byte) error {
	r := s.router.routes[i]
	if !r.Once || h.ControlID() == "" {
		return s.exchange(ctx, i, h, msg, nil)
	}
	id := identify(r.destination(), h, msg)
	v, ack, release, err := s.router.ledger.begin(ctx, id)
	if err != nil {
		return &end{outcome: proxy.OutcomeAborted, detail: "the gateway is shutting down", cause: err}
	}
	defer release()
	s.router.note(v, r.Service)
	switch {
	case v == repeated && len(ack) > 0:
		if err := s.commitment(true); err != nil {
			return err
		}
		return s.reply(ack)
	case v == repeated:
		return s.accept(h, "taken before, not delivered again")
	}
	return s.exchange(ctx, i, h, msg, &id)
}

func (s *session) exchange(ctx context.Context, i int, h Header, msg []byte, once *identity) error {
	r := s.router.routes[i]
	f, err := s.farFor(ctx, i, h)
	if err != nil {
		s.router.log.Warn("the far end cannot be reached", "service", r.Service, "target", r.Target, "error", err)
		return &end{outcome: proxy.OutcomeUnreachable, cause: err, detail: "the far end of " + r.Service +
			" cannot be reached; the message was not answered, the sender will try again"}
	}
	answered := f.await(h, once)
	if err := f.link.write(msg); err != nil {
		return &end{outcome: proxy.OutcomeAborted, detail: "the far end did not take the message", cause: err}
	}
	if answered != nil {
		if err := f.wait(ctx, answered); err != nil {
			return err
		}
	}
	s.res.Items++
	return nil
}

// farFor returns the connection of a route, a new one when the old one was closed by the far end, or when it may still bring an answer to
// another message with the same control ID.
func (s *session) farFor(ctx context.Context, i int, h Header) (*farLink, error) {
	if f := s.far[i]; f != nil && f.isFitFor(h) {
		return f, nil
	} else if f != nil {
		f.close()
	}
	r := s.router.routes[i]
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := r.Network.DialContext(dialCtx, "tcp", r.Target)
	if err != nil {
		return nil, err //nolint:wrapcheck // passThrough says what for
	}
	f := &farLink{session: s, route: r, link: newLink(c, s.router.limits), done: make(chan struct{})}
	s.far[i] = f
	go f.run()
	return f, nil
}

func (s *session) closeFar() {
	for _, f := range s.far {
		f.close()
	}
}

// close ends the connection and waits for its reader.
func (f *farLink) close() {
	_ = f.link.conn.Close()
	<-f.done
}

func (f *farLink) isFitFor(h Header) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.gone && !slices.ContainsFunc(f.open, func(m openMessage) bool { return m.controlID == h.ControlID() })
}

// await notes whose answer is waited for. It returns nil when none must come.
func (f *farLink) await(h Header, once *identity) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := h.ControlID()
	if len(f.open) == remembered {
		f.open = slices.Delete(f.open, 0, 1)
	}
	f.open = append(f.open, openMessage{controlID: id, answers: h.answers(), once: once})
	if h.expects() != anAnswer {
		return nil
	}
	f.awaiting, f.awaited = id, make(chan struct{})
	return f.awaited
}

// wait returns when the answer has come. Any error ends the session and with it both connections, so that a late answer can never
// be taken for that to another message.
func (f *farLink) wait(ctx context.Context, answered <-chan struct{}) error {
	patience := cmp.Or(f.route.AckTimeout, f.session.router.ackTimeout)
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	stopping := ctx.Done()
	for {
		select {
		case <-answered:
			return nil
		case <-f.done:
			select {
			case <-answered: // and then the far end closed
				return nil
			default:
			}
			return &end{outcome: proxy.OutcomeAborted, detail: "the far end closed the connection without an answer"}
		case <-timeout.C:
			if f.isRelaying() {
				return errNotTaken(nil)
			}
			return &end{outcome: proxy.OutcomeTimeout, detail: "the far end did not answer in time; the sender got no answer either"}
		case <-stopping:
			if e, ok := errors.AsType[*end](context.Cause(ctx)); ok {
				return e
			}
			stopping = nil
			timeout.Reset(min(lastWait, patience))
		}
	}
}

// run relays what the far end sends.
func (f *farLink) run() {
	defer close(f.done)
	defer func() {
		f.mu.Lock()
		f.gone = true
		f.mu.Unlock()
	}()
	for {
		msg, err := f.link.read(context.Background())
		if err != nil {
			return
		}
		if err := f.relay(msg); err != nil {
			f.session.stop(err)
			return
		}
	}
}

// relay hands an answer to the sender, byte by byte as it came.
func (f *farLink) relay(msg []byte) error {
	if committed, is := mllp.IsCommit(msg); is || len(msg) == 0 {
		if is && !committed {
			return &end{outcome: proxy.OutcomeAborted, detail: "the far end could not store the message (negative commit acknowledgment)"}
		}
		return nil
	}
	a, err := ParseAck(msg)
	if err != nil {
		return &end{outcome: proxy.OutcomeMalformed, detail: "the far end sent something that is not an answer", cause: err}
	}
	if f.route.CommitTarget {
		if err := f.link.write([]byte{mllp.Committed}); err != nil {
			return &end{outcome: proxy.OutcomeAborted, detail: "the far end did not take our commit acknowledgment", cause: err}
		}
	}
	once, answered, ok := f.accept(a)
	if !ok {
		return &end{outcome: proxy.OutcomeMalformed, detail: "the far end answered a message that was not sent, or twice (see MSA-2)"}
	}
	if answered != nil {
		defer close(answered)
	}
	if once != nil && a.Code.OK() {
		if err := f.session.router.ledger.ensure(*once, msg); err != nil {
			f.session.router.log.Warn("an answer could not be remembered; a repeated message may be delivered twice", "service", f.route.Service, "error", err)
		}
	}
	f.setRelaying(true)
	defer f.setRelaying(false)
	if answered != nil {
		if err := f.session.commitment(a.Code != CE && a.Code != CR); err != nil {
			return err
		}
	}
	return f.session.reply(msg)
}

func (f *farLink) setRelaying(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.relaying = on
}

func (f *farLink) isRelaying() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.relaying
}

// accept notes that an answer has come and reports whether it may: for what it is to be remembered, and what to close when it was relayed,
// if it is the one that is waited for.
func (f *farLink) accept(a Ack) (once *identity, answered chan struct{}, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := len(f.open) - 1
	for i >= 0 && f.open[i].controlID != a.ControlID {
		i--
	}
	if i < 0 {
		return nil, nil, false
	}
	once = f.open[i].once
	f.open[i].once = nil
	// Only an accept acknowledgment may be followed by another answer, the application's.
	if f.open[i].answers--; f.open[i].answers == 0 || a.Code != CA {
		f.open = slices.Delete(f.open, i, i+1)
	}
	if f.awaited != nil && f.awaiting == a.ControlID {
		answered, f.awaited = f.awaited, nil
	}
	return once, answered, true
}
