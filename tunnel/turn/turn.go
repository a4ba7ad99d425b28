package turn

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/towpath/towpath/tunnel"
)

// Options are the parts that do not change during the life of a Device.
type Options struct {
	// Log takes each change of a peer's key, and what goes wrong in the background. Nil discards it.
	Log *slog.Logger
}

// Device is a tunnel.Device whose peers may change their keys.
type Device struct {
	inner tunnel.Device
	log   *slog.Logger
	wake  chan struct{} // the worker has something new to do

	mu     sync.Mutex // held while the device below is configured; guards the fields that follow
	plan   *plan      // what was configured last with success
	unsure bool       // the last Configure failed, so nobody knows which key the device has
	behind bool       // the device does not have the plan yet: the worker failed to apply it
	poll   time.Time  // not before
	closed bool
	works  bool               // there is a worker
	cancel context.CancelFunc // of the last worker; nil if there has been none

	workers sync.WaitGroup
}

var _ tunnel.Device = (*Device)(nil)

// New wraps dev, which it owns from now on.
func New(dev tunnel.Device, o Options) *Device {
	d := &Device{inner: dev, log: o.Log, wake: make(chan struct{}, 1), plan: &plan{}}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d
}

// Stacked is a Device through which this process can open connections.
type Stacked struct {
	*Device
	tunnel.Stack
}

// NewStacked is New for a device that is also a tunnel.Stack.
func NewStacked(dev interface {
	tunnel.Device
	tunnel.Stack
}, o Options,
) Stacked {
	return Stacked{Device: New(dev, o), Stack: dev}
}

// Configure implements tunnel.Device. A peer with a Next keeps the key that it uses now. With another private key than before it
// returns when the device has the new one; the handshakes follow in the background. After an error the last Config that worked stays
// in force in the background, until a Configure succeeds.
func (d *Device) Configure(ctx context.Context, c tunnel.Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	own, err := c.PrivateKey.Public()
	if err != nil {
		return fmt.Errorf("the device's own key: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.closed {
		return fmt.Errorf("tunnel device: %w", net.ErrClosed)
	}
	next := newPlan(c, own, d.plan)
	if d.unsure || own != d.plan.own || len(next.pairs) > 0 {
		s, err := d.inner.Status(ctx)
		if err != nil {
			return fmt.Errorf("see which keys the peers use: %w", err)
		}
		d.report(next.observe(s))
		if d.unsure || s.PublicKey != own {
			next.changed(s)
		}
	}
	if err := d.inner.Configure(ctx, next.expand()); err != nil {
		d.unsure = true
		return err
	}
	d.plan, d.unsure, d.behind, d.poll = next, false, false, time.Time{}
	d.employ()
	return nil
}

// Status implements tunnel.Device. A peer with a Next appears as two, one for each key: the one in use has the allowed IPs.
func (d *Device) Status(ctx context.Context) (tunnel.Status, error) { return d.inner.Status(ctx) }

// Close implements tunnel.Device. It returns when nothing runs in the background anymore.
func (d *Device) Close() error {
	d.mu.Lock()
	d.closed = true
	if d.cancel != nil {
		d.cancel()
	}
	d.mu.Unlock()
	d.workers.Wait()
	return d.inner.Close()
}

func (d *Device) report(turned []pair) {
	for _, p := range turned {
		from, to := p.key, p.next
		if !p.turned {
			from, to = to, from
		}
		d.log.Info("a peer uses another key now", "from", from, "to", to)
	}
}
