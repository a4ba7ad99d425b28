package hl7

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/towpath/towpath/proxy/spool"
)

// ReturnRoute is a queue by which acknowledgments go back to where the messages came from.
type ReturnRoute struct {
	// Receiver is compared with the sender of the message (MSH-3 and MSH-4), as Route.Receiver is with its receiver.
	Receiver  string
	QueueName string
}

// Returns take the acknowledgments that senders have not heard, since the gateway answered in the receiver's stead. A nil pointer takes
// none.
type Returns struct {
	queue  spool.Queue
	ledger *Ledger // keeps a message from being answered twice

	mu     sync.Mutex
	routes []ReturnRoute
}

// NewReturns returns one without routes.
func NewReturns(q spool.Queue, l *Ledger) *Returns { return &Returns{queue: q, ledger: l} }

// Set changes where acknowledgments go. It may be called at any time.
func (r *Returns) Set(routes []ReturnRoute) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.routes = slices.Clone(routes)
}

// find returns the queue for the sender of a message, or nothing.
func (r *Returns) find(h Header) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, best := "", 0
	for _, x := range r.routes {
		if fits := (Route{Receiver: x.Receiver}).receiverFits(h.Component(3, 1), h.Component(4, 1)); fits > best {
			name, best = x.QueueName, fits
		}
	}
	return name
}

// errNoReturn means that no route leads to the sender of a message.
var errNoReturn = errors.New("no return route for the sender of the message")

// give stores the acknowledgment of a message for delivery to its sender, synced.
func (r *Returns) give(ctx context.Context, h Header, id identity, ack []byte) error {
	if r == nil {
		return errNoReturn
	}
	name := r.find(h)
	if name == "" {
		return errNoReturn
	}
	// The next answer to the same message is another acknowledgment, and need not be told.
	about := identify(fmt.Sprintf("%s/%x", name, id.digest), h, ack)
	v, _, release, err := r.ledger.begin(ctx, about)
	if err != nil {
		return err
	}
	defer release()
	if v != unknown {
		return nil
	}
	ackHeader, err := ParseHeader(ack)
	if err != nil {
		return err
	}
	if err := commit(r.queue, spool.Meta{Queue: name}, about, ackHeader, ack); err != nil {
		return fmt.Errorf("give an acknowledgment back: %w", err)
	}
	return r.ledger.add(about, nil)
}

// owed reports whether the sender of a message wants to hear of an answer of the application that came after the gateway's own. In the
// original mode the gateway has said AA in the application's stead, so a refusal is news. In the enhanced one MSH-16 decides, unless the
// gateway has spoken for the application already since no accept acknowledgment was wanted.
func (h Header) owed(code Code) bool {
	switch {
	case !h.enhanced():
		return !code.OK()
	case code.OK():
		return code == AA && wants(h.Field(16), true) && wants(h.Field(15), true)
	}
	return wants(h.Field(16), false) || wants(h.Field(15), false)
}
