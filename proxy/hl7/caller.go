package hl7

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7/mllp"
)

const (
	// quiet is how long an error may take to come when the sender of a message wants to hear of errors only, or of nothing.
	quiet = time.Second
	// staleAfter is when a connection that was kept is looked at before it is used again, and probeTime how long that takes.
	staleAfter = 100 * time.Millisecond
	probeTime  = time.Millisecond
	// settleStep is how often settle looks whether there is still something to come.
	settleStep = 20 * time.Millisecond
)

// Errors of Send.
var (
	// ErrUnreachable means that no connection came about.
	ErrUnreachable = errors.New("the receiver cannot be reached")
	// ErrNoAnswer means that none came in time: whether the message was taken is not known.
	ErrNoAnswer = errors.New("the receiver did not answer in time")
)

var (
	errNotCommitted = errors.New("the receiver could not store the message (negative commit acknowledgment)")
	errAckOfOther   = errors.New("the receiver answered another message (MSA-2 does not fit)")
)

// caller sends messages and waits for their answers, one at a time, on a connection that it keeps.
type caller struct {
	network proxy.Network
	target  string
	timeout time.Duration
	limits  Limits
	// lastWait is how long an answer is still waited for when the context is done: a message without it is in doubt.
	lastWait time.Duration
	// late is called with an application acknowledgment that comes after the accept acknowledgment. It may be nil.
	late func(outstanding, Ack)
	// commit means that the receiver uses commit acknowledgments (MLLP, release 2).
	commit bool

	link *link
	used time.Time
	// sending is the identity of the message at hand, zero where nobody asks.
	sending identity
	// answered are messages on this connection that got an accept acknowledgment, and whose application acknowledgments may still come.
	answered []outstanding
}

// outstanding is a message that was accepted and whose application has not spoken yet.
type outstanding struct {
	controlID string
	header    Header
	id        identity
}

func newCaller(network proxy.Network, target string, timeout time.Duration, limits Limits) *caller {
	if timeout <= 0 {
		timeout = DefaultAckTimeout
	}
	return &caller{network: network, target: target, timeout: timeout, limits: limits.withDefaults()}
}

func (c *caller) close() {
	if c.link != nil {
		_ = c.link.conn.Close()
		c.link, c.answered = nil, nil
	}
}

// exchange sends a message and returns the answer to it. A message whose sender wants none gets an Ack without a code when no error came
// for a moment. After an error the connection is closed, so that a late answer meets nobody.
func (c *caller) exchange(ctx context.Context, h Header, msg []byte) (Ack, error) {
	a, err := c.try(ctx, h, msg)
	if err != nil {
		c.close()
	}
	c.used = time.Now()
	return a, err
}

func (c *caller) try(ctx context.Context, h Header, msg []byte) (Ack, error) {
	if slices.ContainsFunc(c.answered, func(o outstanding) bool { return o.controlID == h.ControlID() }) {
		c.close() // the application's answer to the other message could be taken for the answer to this one
	}
	if err := c.connect(ctx); err != nil {
		return Ack{}, err
	}
	if err := c.write(ctx, msg); err != nil {
		return Ack{}, err
	}
	ctx, cancel := linger(ctx, c.lastWait)
	defer cancel()
	if h.expects() == anAnswer || c.commit {
		return c.wait(ctx, h, c.timeout)
	}
	a, err := c.wait(ctx, h, min(quiet, c.timeout))
	if errors.Is(err, ErrNoAnswer) {
		c.close() // an answer that comes after all must not be taken for one to the next message
		return Ack{}, nil
	}
	return a, err
}

// write sends a message unless ctx ends before.
func (c *caller) write(ctx context.Context, msg []byte) error {
	conn := c.link.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	err := c.link.write(msg)
	if !stop() {
		return fmt.Errorf("send a message: %w", context.Cause(ctx)) // the connection is closed then
	}
	return err
}

// linger returns a context that is done a while after ctx.
func linger(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(d, func() { cancel(context.Cause(ctx)) })
	})
	return longer, func() {
		stop()
		cancel(nil)
	}
}

// connect dials unless there is a connection that is still good.
func (c *caller) connect(ctx context.Context) error {
	if c.link != nil && time.Since(c.used) > staleAfter && !c.alive(ctx) {
		c.close()
	}
	if c.link != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := c.network.DialContext(ctx, "tcp", c.target)
	if err != nil {
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.target, err)
	}
	c.link = newLink(conn, c.limits)
	return nil
}

// alive reports whether the receiver has kept the connection open, by reading for a moment.
func (c *caller) alive(ctx context.Context) bool {
	_, err := c.wait(ctx, Header{}, probeTime) // late answers that have come are taken
	return errors.Is(err, ErrNoAnswer)
}

// settle takes the application acknowledgments that are still to come, for a while.
func (c *caller) settle(patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for c.link != nil && len(c.answered) > 0 {
		if _, err := c.wait(ctx, Header{}, settleStep); !errors.Is(err, ErrNoAnswer) {
			return
		}
	}
}

// wait reads until the answer to the message comes.
func (c *caller) wait(ctx context.Context, h Header, timeout time.Duration) (Ack, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrNoAnswer)
	defer cancel()
	defer c.link.interrupt(ctx)()
	return c.match(ctx, h)
}

func (c *caller) match(ctx context.Context, h Header) (Ack, error) {
	for {
		msg, err := c.link.read(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return Ack{}, errors.New("the receiver closed the connection without an answer")
		case err != nil:
			return Ack{}, fmt.Errorf("wait for the answer: %w", err)
		case len(msg) == 0:
			continue
		}
		if committed, is := mllp.IsCommit(msg); is {
			if !committed {
				return Ack{}, errNotCommitted
			}
			if c.commit && h.separator != 0 && h.expects() != anAnswer {
				return Ack{}, nil // more than this the sender did not ask for
			}
			continue
		}
		a, err := ParseAck(msg)
		if err != nil {
			return Ack{}, fmt.Errorf("read the answer: %w", err)
		}
		if c.commit {
			if err := c.link.write([]byte{mllp.Committed}); err != nil {
				return Ack{}, err
			}
		}
		if h.separator != 0 && a.ControlID == h.ControlID() {
			if a.Code == CA && h.answers() > 1 {
				if len(c.answered) == remembered {
					c.answered = slices.Delete(c.answered, 0, 1)
				}
				c.answered = append(c.answered, outstanding{controlID: a.ControlID, header: h, id: c.sending})
			}
			return a, nil
		}
		if err := c.overdue(a); err != nil {
			return Ack{}, err
		}
	}
}

// overdue takes an application acknowledgment to an earlier message.
func (c *caller) overdue(a Ack) error {
	i := slices.IndexFunc(c.answered, func(o outstanding) bool { return o.controlID == a.ControlID })
	if i < 0 {
		return errAckOfOther
	}
	o := c.answered[i]
	c.answered = slices.Delete(c.answered, i, i+1)
	if c.late != nil {
		c.late(o, a)
	}
	return nil
}
