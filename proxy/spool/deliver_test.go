package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// fakeSink does what the test says.
type fakeSink struct {
	deliver func(ctx context.Context, it spool.Item, payload io.Reader) (spool.Receipt, error)
	got     []string
	idle    []time.Time
}

func (f *fakeSink) Deliver(ctx context.Context, it spool.Item, payload io.Reader) (spool.Receipt, error) {
	b, err := io.ReadAll(payload)
	if err != nil {
		return spool.Receipt{}, fmt.Errorf("read: %w", err)
	}
	f.got = append(f.got, string(b))
	if f.deliver == nil {
		return spool.Receipt{Code: "AA"}, nil
	}
	return f.deliver(ctx, it, payload)
}

func (f *fakeSink) Idle() { f.idle = append(f.idle, time.Now()) }

type delivery struct {
	spool *spool.Spool
	log   bytes.Buffer
	stop  func() error
}

func deliver(t *testing.T, sink spool.Sink) *delivery {
	t.Helper()
	d := &delivery{spool: open(t, t.TempDir(), spool.Options{Ordered: func(string) bool { return true }})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- spool.Deliver(ctx, spool.DeliverConfig{
			Queue: d.spool, Name: "q", Sink: sink, Log: slog.New(slog.NewTextHandler(&d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
	}()
	d.stop = func() error { cancel(); return <-ended }
	return d
}

func putCanary(t *testing.T, s *spool.Spool, payload string) {
	t.Helper()
	w, err := s.Create(spool.Meta{Queue: "q", Attributes: map[string]string{"uid": "1.2.3.CANARY"}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte(payload))
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := 3
		sink := &fakeSink{}
		sink.deliver = func(_ context.Context, it spool.Item, _ io.Reader) (spool.Receipt, error) {
			switch {
			case sink.got[len(sink.got)-1] == "poison":
				return spool.Receipt{}, spool.Permanent(errors.New("refused for good"))
			case fails > 0:
				if it.Attempts != 3-fails {
					t.Errorf("attempt %d is called %d", 3-fails, it.Attempts)
				}
				fails--
				if fails == 1 {
					panic("CANARY")
				}
				return spool.Receipt{}, errors.New("busy")
			}
			return spool.Receipt{}, nil
		}
		d := deliver(t, sink)
		for _, p := range []string{"one", "poison", "two"} {
			putCanary(t, d.spool, p)
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(sink.got, " "); got != "one one one one poison two" {
			t.Errorf("delivered %q", got)
		}
		st := d.spool.Stats()[0]
		if st.Queued != 0 || st.Parked != 1 || st.Delivered != 2 {
			t.Errorf("stats %+v", st)
		}
		if len(sink.idle) != 1 {
			t.Errorf("Idle was called %d times", len(sink.idle))
		}
		if strings.Contains(d.log.String(), "CANARY") || !strings.Contains(d.log.String(), "refused for good") ||
			!strings.Contains(d.log.String(), "items=2") {
			t.Errorf("log:\n%s", &d.log)
		}
	})
}

func TestDeliverStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{deliver: func(ctx context.Context, _ spool.Item, _ io.Reader) (spool.Receipt, error) {
			<-ctx.Done()
			return spool.Receipt{}, ctx.Err()
		}}
		d := deliver(t, sink)
		putCanary(t, d.spool, "one")
		synctest.Wait()
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		items, err := d.spool.List("q", 10)
		if err != nil || len(items) != 1 || items[0].Attempts != 0 || !items[0].NotBefore.IsZero() || items[0].State != spool.StateQueued {
			t.Fatalf("%+v, %v", items, err)
		}
		if len(sink.idle) != 1 {
			t.Errorf("Idle was called %d times", len(sink.idle))
		}
		next(t, d.spool, "q")
	})
}

func TestDeliverIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{}
		d := deliver(t, sink)
		began := time.Now()
		time.Sleep(time.Hour)
		putCanary(t, d.spool, "one")
		synctest.Wait()
		time.Sleep(4 * time.Second)
		putCanary(t, d.spool, "two")
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(sink.idle) != 1 || sink.idle[0].Sub(began) != time.Hour+4*time.Second+spool.DefaultIdleAfter {
			t.Errorf("Idle at %v", sink.idle)
		}
		if err := d.spool.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := d.stop(); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestDeliveredIsTold before the item is forgotten, however it left, and only of what was taken.
func TestDeliveredIsTold(t *testing.T) {
	s := openSealed(t, t.TempDir(), newSealKey(t))
	var told []string
	s.OnDelivered(func(it spool.Item, r spool.Receipt) {
		_, err := s.Get(it.ID)
		told = append(told, fmt.Sprint(it.Meta.Attributes["k"], r.Code, string(r.Signed), err))
	})
	for _, text := range []string{"straight", "carried", "parked", "again"} {
		putText(t, s, text)
	}
	if err := next(t, s, "q").Done(spool.Receipt{Code: "AA"}); err != nil {
		t.Fatal(err)
	}
	carried := next(t, s, "q")
	if err := carried.Carried(spool.Receipt{Code: "t1"}); err != nil {
		t.Fatal(err)
	}
	if err := next(t, s, "q").Park(errors.New("no")); err != nil {
		t.Fatal(err)
	}
	if err := next(t, s, "q").Retry(errors.New("busy")); err != nil {
		t.Fatal(err)
	}
	if err := s.Resolve(carried.Item().ID, spool.Done(spool.Receipt{Code: "t2", Signed: []byte("word")})); err != nil {
		t.Fatal(err)
	}
	if want := []string{fmt.Sprint("straight", "AA", "", error(nil)), fmt.Sprint("carried", "t2", "word", error(nil))}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
