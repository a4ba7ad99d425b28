package control_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/provisioning/wire"
)

// scripted answers each Watch with the next function.
type scripted struct {
	calls []time.Duration // since start
	asked []wire.Have
	begin time.Time
	watch func(ctx context.Context, n int, f func(wire.Frame) error) error
}

func (s *scripted) Watch(ctx context.Context, have wire.Have, _ func() wire.Beat, f func(wire.Frame) error) error {
	s.asked = append(s.asked, have)
	s.calls = append(s.calls, time.Since(s.begin))
	return s.watch(ctx, len(s.calls), f)
}

func (s *scripted) Report(context.Context, wire.Report) error   { return nil }
func (s *scripted) NextKey(context.Context, wire.NextKey) error { return nil }

func follow(ctx context.Context, s *scripted) {
	f := control.Follower{
		Coordinator: s, Have: func() wire.Have { return wire.Have{} }, Frame: func(wire.Frame) error { return nil },
		State: func(error) {}, Log: slog.New(slog.DiscardHandler),
	}
	_ = f.Run(ctx)
}

func TestBackOffGrowsAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		s := &scripted{begin: time.Now(), watch: func(context.Context, int, func(wire.Frame) error) error { return errors.New("down") }}
		follow(ctx, s)
		if n := len(s.calls); n < 30 || n > 80 {
			t.Errorf("%d attempts in half an hour of outage, want between 30 and 80", n)
		}
		for i := 1; i < len(s.calls); i++ {
			if gap := s.calls[i] - s.calls[i-1]; gap > time.Minute {
				t.Errorf("attempt %d came after %s, want a minute at most", i, gap)
			}
		}
	})
}

func TestStableStreamResetsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var gap time.Duration
		s := &scripted{begin: time.Now()}
		s.watch = func(ctx context.Context, n int, f func(wire.Frame) error) error {
			switch {
			case n < 8:
				return errors.New("down")
			case n == 8:
				_ = f(wire.Frame{})
				time.Sleep(time.Hour)
				return errors.New("cut")
			}
			gap = s.calls[n-1] - s.calls[n-2] - time.Hour
			cancel()
			return ctx.Err()
		}
		follow(ctx, s)
		if gap > 2*time.Second {
			t.Errorf("a stream that lived for an hour must be reopened soon, not after %s", gap)
		}
	})
}

func TestRemovedBoxAsksRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		s := &scripted{begin: time.Now(), watch: func(context.Context, int, func(wire.Frame) error) error { return control.ErrRemoved }}
		follow(ctx, s)
		if n := len(s.calls); n > 22 {
			t.Errorf("%d attempts in ten minutes by a removed box, want about 15", n)
		}
	})
}
