package turn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

const (
	pollEvery  = 20 * time.Millisecond
	pollShare  = 20 // of its own cost, the status is asked for once: five percent of one core
	retryEvery = time.Second

	callEvery   = 20 * time.Millisecond
	callsAtOnce = 64 // half of what makes wireguard-go believe in an attack (QueueHandshakeSize/8)

	patience    = time.Second       // with a key that does not answer, before the other one is tried
	knockEvery  = time.Minute       // in between WireGuard repeats the call every 5 s, for 90 s (REKEY_ATTEMPT_TIME)
	rejectAfter = 180 * time.Second // REJECT_AFTER_TIME: no session is older
)

// employ sees that somebody works if there is something to do. The lock is held.
func (d *Device) employ() {
	if len(d.plan.pairs) == 0 && d.plan.calls.empty() {
		return
	}
	if d.works {
		select {
		case d.wake <- struct{}{}:
		default:
		}
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.works, d.cancel = true, cancel
	d.workers.Go(func() {
		defer cancel()
		d.work(ctx)
	})
}

func (d *Device) work(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		pause, more := d.step(ctx)
		if !more {
			return
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-timer.C:
		}
	}
}

// step does what is due and says when to come back, or that there is nothing more to do.
func (d *Device) step(ctx context.Context) (pause time.Duration, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, false
	}
	p := d.plan
	change := d.behind
	if now := time.Now(); len(p.pairs) > 0 && !now.Before(d.poll) {
		turned, err := d.look(ctx)
		if err != nil {
			return d.failed(fmt.Errorf("see which keys the peers use: %w", err))
		}
		change = change || len(turned) > 0
	}
	if !d.behind && p.calls.advance() {
		change = true
	}
	if change {
		d.behind = true
		if err := d.inner.Configure(ctx, p.expand()); err != nil {
			return d.failed(fmt.Errorf("configure the device: %w", err))
		}
		d.behind = false
	}
	switch {
	case !p.calls.empty():
		return callEvery, true
	case len(p.pairs) > 0:
		return time.Until(d.poll), true
	}
	d.works = false
	return 0, false
}

// partial is implemented by devices that can tell about a few of many peers for less than the whole Status costs.
type partial interface {
	StatusOf(ctx context.Context, keys []wgkey.PublicKey) (tunnel.Status, error)
}

// statusOfPairs has at least the peers that are in pairs.
func (d *Device) statusOfPairs(ctx context.Context) (tunnel.Status, error) {
	if p, ok := d.inner.(partial); ok {
		return p.StatusOf(ctx, d.plan.keys())
	}
	return d.inner.Status(ctx)
}

// look asks the device once, and sets the time of the next look by what this one cost.
func (d *Device) look(ctx context.Context) (turned []pair, err error) {
	start := time.Now()
	s, err := d.statusOfPairs(ctx)
	if err != nil {
		return nil, err
	}
	turned = d.plan.observe(s)
	d.report(turned)
	now := time.Now()
	d.plan.knock(now)
	d.poll = now.Add(max(pollEvery, pollShare*now.Sub(start)))
	return turned, nil
}

func (d *Device) failed(err error) (pause time.Duration, more bool) {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
		d.works = false
		return 0, false
	}
	d.log.Warn("cannot follow the keys of peers", "error", err)
	return retryEvery, true
}
