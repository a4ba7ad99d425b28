package standby_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/gateway/standby"
)

// center is one whose gateways die in several ways.
type center struct {
	silent, refused map[string]*atomic.Bool
}

func newCenter() center {
	c := center{silent: map[string]*atomic.Bool{}, refused: map[string]*atomic.Bool{}}
	for _, n := range []string{"a", "b"} {
		c.silent[n], c.refused[n] = new(atomic.Bool), new(atomic.Bool)
	}
	return c
}

func (c center) probe(ctx context.Context, n string) ([]string, error) {
	switch {
	case c.silent[n].Load():
		<-ctx.Done()
		return nil, ctx.Err()
	case c.refused[n].Load():
		return []string{"his"}, nil
	}
	return []string{"pacs", "his"}, nil
}

func TestSwitchWithinThreeSeconds(t *testing.T) {
	for name, how := range map[string]func(center) *atomic.Bool{
		"the gateway is dead": func(c center) *atomic.Bool { return c.silent["a"] },
		"its LAN is dead":     func(c center) *atomic.Bool { return c.refused["a"] },
	} {
		t.Run(name, func(t *testing.T) {
			for after := 10 * time.Second; after < 11*time.Second; after += 50*time.Millisecond + 1 { // dies at any point between probes
				synctest.Test(t, func(t *testing.T) { switchOnce(t, how, after) })
			}
		})
	}
}

func switchOnce(t *testing.T, how func(center) *atomic.Bool, after time.Duration) {
	c := newCenter()
	moves := make(chan standby.Decision, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		standby.Watch(ctx, standby.New(standby.Options{}, []string{"a", "b"}, ""), standby.WatchConfig{
			Services: []string{"pacs", "his"}, Probe: c.probe, Switch: func(_ context.Context, d standby.Decision) error { moves <- d; return nil },
		})
	}()
	time.Sleep(after)
	dead := how(c)
	dead.Store(true)
	died := time.Now()
	if d, want := <-moves, (standby.Decision{To: "b", Why: standby.Failed}); d != want {
		t.Fatalf("%+v, want %+v", d, want)
	}
	if took := time.Since(died); took > 2300*time.Millisecond {
		t.Fatalf("the switch took %v", took)
	}
	time.Sleep(2 * time.Minute)
	dead.Store(false)
	back := time.Now()
	if d, want := <-moves, (standby.Decision{To: "a", Why: standby.Returned}); d != want {
		t.Fatalf("%+v, want %+v", d, want)
	}
	if took := time.Since(back); took < time.Minute || took > 63*time.Second {
		t.Fatalf("the return took %v", took)
	}
	cancel()
	<-done
}

func TestSwitchIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter()
		c.silent["a"].Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		tries := 0
		m := standby.New(standby.Options{}, []string{"a", "b"}, "")
		standby.Watch(ctx, m, standby.WatchConfig{Services: []string{"pacs", "his"}, Probe: c.probe, Switch: func(context.Context, standby.Decision) error {
			if tries++; tries < 3 {
				return errors.New("the device is busy")
			}
			cancel()
			return nil
		}})
		if tries != 3 || m.Active() != "b" {
			t.Fatalf("%d tries, active %s", tries, m.Active())
		}
	})
}
