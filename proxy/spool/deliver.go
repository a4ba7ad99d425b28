package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// DefaultIdleAfter is how long a Sink may keep its connection without an item.
const DefaultIdleAfter = 5 * time.Second

// DeliverConfig says from where to where.
type DeliverConfig struct {
	Queue Queue
	// Name is the queue's.
	Name string
	Sink Sink
	// IdleAfter is the time without an item after which Sink.Idle is called. Zero means the default.
	IdleAfter time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Deliver takes one item after the other to the Sink until ctx is done, and then returns nil. What was under way goes back to the queue
// as if it had not been tried. It returns ErrClosed when the queue has been closed before.
func Deliver(ctx context.Context, cfg DeliverConfig) error {
	if cfg.IdleAfter <= 0 {
		cfg.IdleAfter = DefaultIdleAfter
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &deliverer{DeliverConfig: cfg, log: cfg.Log.With("subsystem", "delivery", "queue", cfg.Name)}
	defer d.idle()
	for {
		l, err := d.next(ctx)
		switch {
		case ctx.Err() != nil && err != nil:
			return nil
		case err != nil:
			return fmt.Errorf("deliver from %s: %w", cfg.Name, err)
		}
		d.deliver(ctx, l)
	}
}

// deliverer is the state of one Deliver.
type deliverer struct {
	DeliverConfig
	log *slog.Logger
	// busy means that the Sink may hold a connection.
	busy bool
	// delivered counts since the last idle time.
	delivered int
}

// next waits for an item and tells the Sink when none comes.
func (d *deliverer) next(ctx context.Context) (Lease, error) {
	if d.busy {
		short, cancel := context.WithTimeout(ctx, d.IdleAfter)
		l, err := d.Queue.Next(short, d.Name)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return l, err //nolint:wrapcheck // Deliver does
		}
		d.idle()
	}
	return d.Queue.Next(ctx, d.Name) //nolint:wrapcheck // Deliver does
}

func (d *deliverer) idle() {
	if d.delivered > 0 {
		d.log.Info("items delivered", "items", d.delivered)
		d.delivered = 0
	}
	if d.busy {
		d.busy = false
		d.Sink.Idle()
	}
}

func (d *deliverer) deliver(ctx context.Context, l Lease) {
	it := l.Item()
	d.busy = true
	receipt, err := d.attempt(ctx, l)
	log := d.log.With("item", it.ID, "bytes", it.Size, "attempts", it.Attempts+1)
	_, permanent := errors.AsType[*PermanentError](err)
	var endErr error
	switch {
	case err == nil:
		d.delivered++
		log.Debug("item delivered", "code", receipt.Code, "peer", receipt.Peer)
		endErr = l.Done(receipt)
	case ctx.Err() != nil && !permanent:
		endErr = l.Retry(fmt.Errorf("%w: %w", ErrCalledOff, ctx.Err()))
	case permanent || errors.Is(err, ErrCorrupt):
		log.Error("item refused for good, it waits for an operator", "error", err)
		endErr = l.Park(err)
	default:
		log.Warn("item not delivered, it will be tried again", "error", err)
		endErr = l.Retry(err)
	}
	if endErr != nil {
		log.Error("the outcome of a delivery could not be stored", "error", endErr)
	}
}

// attempt hands the payload to the Sink. A Sink that panics has failed, no more.
func (d *deliverer) attempt(ctx context.Context, l Lease) (r Receipt, err error) {
	defer func() {
		if v := recover(); v != nil {
			d.log.Error("the sink panicked", "panic", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
			err = errors.New("the sink panicked; this is a fault of the software, please report it")
		}
	}()
	payload, err := l.Open()
	if err != nil {
		return Receipt{}, fmt.Errorf("open the item: %w", err)
	}
	defer func() { _ = payload.Close() }()
	return d.Sink.Deliver(ctx, l.Item(), payload) //nolint:wrapcheck // it is the Sink's to say
}
