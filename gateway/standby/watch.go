package standby

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Times of probes. A gateway that goes silent right after a probe began well is left after Pause and two time-outs at most,
// 2.3 s. That leaves 0.7 s of three for the switch and for who dials again. After a probe that failed the next one comes soon: it is to tell
// whether that was chance.
const (
	DefaultPause   = 500 * time.Millisecond
	DefaultTimeout = 900 * time.Millisecond
	soon           = 100 * time.Millisecond
)

// WatchConfig is what Watch works on. Probe and Switch are required.
type WatchConfig struct {
	// Services are what the box uses there.
	Services []string
	// Probe asks one gateway, whichever is active, which Services it reaches. It must end with its context.
	Probe func(ctx context.Context, gateway string) (up []string, err error)
	// Switch carries out a Decision. After an error it is tried again with the next probe.
	Switch func(context.Context, Decision) error
	// Saw hears of every probe; it may be nil.
	Saw func(Look)
	// Pause is from the beginning of a probe to that of the next, which waits for the end of the former in any case, and is shorter after the
	// first that failed. Timeout is for one probe. Zero is the default.
	Pause, Timeout time.Duration
	Log            *slog.Logger
}

// Look is the end of one probe.
type Look struct {
	Gateway string
	At      time.Time
	Verdict Verdict
	// Err says why the gateway is not healthy.
	Err error
}

// result is what came of one probe.
type result struct {
	gateway string
	up      []string
	err     error
	// judged hears what that means, once.
	judged chan Verdict
}

// Watch probes all gateways of m at the same time until ctx ends, and carries out what m decides. M is Watch's alone until it returns.
func Watch(ctx context.Context, m *Machine, c WatchConfig) {
	if c.Pause <= 0 {
		c.Pause = DefaultPause
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	results := make(chan result)
	var probes sync.WaitGroup
	for _, n := range m.ranked {
		probes.Go(func() { c.probe(ctx, n, results) })
	}
	defer probes.Wait()
	p := panel{services: c.Services, seen: make(map[string][]string, len(m.ranked))}
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-results:
			l := p.judge(r, time.Now())
			r.judged <- l.Verdict
			c.obey(ctx, m, l)
		}
	}
}

// obey tells m of a probe and does what it wants.
func (c WatchConfig) obey(ctx context.Context, m *Machine, l Look) {
	if c.Saw != nil {
		c.Saw(l)
	}
	d := m.Observe(l.Gateway, l.Verdict, l.At)
	if d.Why == Stay {
		return
	}
	from := m.Active()
	if err := c.Switch(ctx, d); err != nil {
		if c.Log != nil && !errors.Is(err, context.Canceled) {
			c.Log.Error("the center's services could not be moved to another gateway", "from", from, "to", d.To, "error", err)
		}
		return
	}
	m.Moved(d.To, time.Now())
	if c.Log != nil {
		c.Log.Warn("the center's services are reached through another gateway", "from", from, "to", d.To, "why", d.Why)
	}
}

func (c WatchConfig) probe(ctx context.Context, gateway string, results chan<- result) {
	healthy := true
	for {
		began := time.Now()
		one, cancel := context.WithTimeout(ctx, c.Timeout)
		up, err := c.Probe(one, gateway)
		cancel()
		r := result{gateway, up, err, make(chan Verdict, 1)}
		select {
		case <-ctx.Done():
			return
		case results <- r:
		}
		was, pause := healthy, c.Pause-time.Since(began)
		if healthy = <-r.judged != Failing; was && !healthy {
			pause = min(pause, soon)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
