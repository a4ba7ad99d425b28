package spool_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// After an outage the first success ends the pauses of all items that could only not be reached; an item that was refused keeps its own.
func TestASuccessEndsTheOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := true
		sink := &fakeSink{}
		sink.deliver = func(_ context.Context, _ spool.Item, _ io.Reader) (spool.Receipt, error) {
			switch name := sink.got[len(sink.got)-1]; {
			case away:
				return spool.Receipt{}, spool.Unreachable(errors.New("the archive does not answer"))
			case name == "refused":
				return spool.Receipt{}, errors.New("not this one")
			}
			return spool.Receipt{}, nil
		}
		// In fake time no pause ends by itself before all is blocked.
		s := open(t, t.TempDir(), spool.Options{Backoff: spool.Backoff{Min: 1000 * time.Hour, Max: 1000 * time.Hour}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- spool.Deliver(ctx, spool.DeliverConfig{Queue: s, Name: "q", Sink: sink}) }()
		for _, p := range []string{"one", "two", "three"} {
			putCanary(t, s, p)
		}
		synctest.Wait()
		away = false
		putCanary(t, s, "refused")
		synctest.Wait()
		if st := s.Stats()[0]; st.Queued != 4 || st.Delivered != 0 {
			t.Fatalf("before the first success: %+v", st)
		}
		putCanary(t, s, "through")
		synctest.Wait()
		if got := strings.Join(sink.got[4:], " "); got != "through one two three" {
			t.Errorf("after the first success: %q", got)
		}
		if st := s.Stats()[0]; st.Queued != 1 || st.Delivered != 4 {
			t.Errorf("%+v", st)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// While the far end is away it is looked after more often than an item that it refuses for now.
func TestAnOutageEndsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), spool.Options{Backoff: spool.Backoff{Min: time.Second, Max: 5 * time.Minute}})
		putCanary(t, s, "one")
		for range 100 {
			l := next(t, s, "q")
			began := time.Now()
			if err := l.Retry(spool.Unreachable(errors.New("away"))); err != nil {
				t.Fatal(err)
			}
			again := next(t, s, "q")
			if waited := time.Since(began); waited > 30*time.Second {
				t.Fatalf("waited %v", waited)
			}
			if err := again.Retry(spool.ErrCalledOff); err != nil {
				t.Fatal(err)
			}
		}
	})
}
