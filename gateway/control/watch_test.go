package control_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/provisioning/wire"
)

// served dials a coordinator whose watch handler is h, over connections without a buffer.
func served(t *testing.T, h http.HandlerFunc) *control.HTTP {
	t.Helper()
	ln := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	c := control.NewHTTP(func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		ln.conns <- far
		return near, nil
	}, "hub:80")
	t.Cleanup(func() { c.Close(); _ = srv.Close(); <-done })
	return c
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

func noBeat() wire.Beat { return wire.Beat{} }

func send(t *testing.T, w http.ResponseWriter, f wire.Frame) {
	t.Helper()
	if err := errors.Join(json.NewEncoder(w).Encode(f), http.NewResponseController(w).Flush()); err != nil {
		t.Errorf("send a frame: %v", err)
	}
}

// duplex lets a handler answer while it is spoken to.
func duplex(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		t.Error(err)
	}
}

func TestSilentCoordinatorIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := served(t, func(w http.ResponseWriter, r *http.Request) {
			duplex(t, w)
			for range 4 {
				send(t, w, wire.Frame{Generation: 7})
				time.Sleep(wire.HeartbeatEvery)
			}
			_, _ = io.Copy(io.Discard, r.Body) // and never a word again
		})
		start, frames := time.Now(), 0
		err := c.Watch(t.Context(), wire.Have{}, noBeat, func(wire.Frame) error { frames++; return nil })
		if err == nil || !strings.Contains(err.Error(), "silent") || frames != 4 {
			t.Errorf("after %d frames: %v", frames, err)
		}
		if took := time.Since(start) - 3*wire.HeartbeatEvery; took != 45*time.Second {
			t.Errorf("the silence was noticed after %s, want 45 s", took)
		}
	})
}

// A map that takes minutes is not silence.
func TestSlowLineIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := wire.Signed{Payload: make([]byte, 1<<20)}
		c := served(t, func(w http.ResponseWriter, _ *http.Request) {
			duplex(t, w)
			b, _ := json.Marshal(wire.Frame{NetMap: &m})
			for ; len(b) > 0; b = b[min(len(b), 64<<10):] {
				_, _ = w.Write(b[:min(len(b), 64<<10)])
				_ = http.NewResponseController(w).Flush()
				time.Sleep(20 * time.Second)
			}
			_, _ = io.WriteString(w, "\n")
		})
		size := 0
		err := c.Watch(t.Context(), wire.Have{}, noBeat, func(f wire.Frame) error { size = len(f.NetMap.Payload); return nil })
		if size != len(m.Payload) {
			t.Errorf("%d bytes came: %v", size, err)
		}
	})
}

func TestFrameTooLongIsRefused(t *testing.T) {
	c := served(t, func(w http.ResponseWriter, _ *http.Request) {
		duplex(t, w)
		for range wire.MaxFrame>>20 + 1 {
			if _, err := w.Write([]byte(strings.Repeat(" ", 1<<20))); err != nil {
				return
			}
		}
		t.Error("the box took it all")
	})
	if err := c.Watch(t.Context(), wire.Have{}, noBeat, func(wire.Frame) error { return nil }); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("an endless frame: %v", err)
	}
}

func TestBeatsAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		start := time.Now()
		c := served(t, func(w http.ResponseWriter, r *http.Request) {
			duplex(t, w)
			if q := r.URL.Query(); q.Get("have") != "3" || q.Get("diff") != "1" || len(q.Get("hash")) != 64 {
				t.Errorf("the box asks %s", r.URL)
			}
			send(t, w, wire.Frame{})
			lines := bufio.NewScanner(r.Body)
			for lines.Scan() {
				var b wire.Beat
				if err := json.Unmarshal(lines.Bytes(), &b); err != nil || len(lines.Bytes()) > wire.MaxBeat {
					t.Errorf("the line %q: %v", lines.Text(), err)
				}
				got = append(got, fmt.Sprintf("%d %d %d", time.Since(start)/time.Second, b.Applied, min(len(b.ApplyError), 1)))
				if len(got) == 4 {
					cancel()
				}
			}
		})
		// It changes once, and the error is as long as can be, of what JSON makes most of.
		beat := func() wire.Beat {
			if time.Since(start) < 20*time.Second {
				return wire.Beat{Applied: 1}
			}
			return wire.Beat{Applied: 2, ApplyError: strings.Repeat("\x00", 1<<20)}
		}
		err := c.Watch(ctx, wire.Have{Generation: 3, Hash: wire.ContentHash{1}, Diffs: true}, beat, func(wire.Frame) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the end: %v", err)
		}
		synctest.Wait()
		if want := []string{"0 1 0", "15 1 0", "20 2 1", "35 2 1"}; strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("after seconds, applied, error: %q, want %q", got, want)
		}
	})
}

func TestWhatDoesNotFitIsAskedForWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		whole, change := wire.Frame{NetMap: &wire.Signed{}}, wire.Frame{Change: &wire.Change{}}
		misfit := wire.Frame{Change: &wire.Change{}, Generation: 666}
		plays := [][]wire.Frame{
			{{}, change, misfit},         // 0: then the whole map
			{whole, change, misfit},      // 1: a change in between did fit, so that this is the first again
			{whole, misfit},              // 2: the second in a row
			{whole}, {{}}, {whole}, {{}}, // 3: from here on no changes
		}
		s := &scripted{begin: time.Now()}
		s.watch = func(ctx context.Context, n int, f func(wire.Frame) error) error {
			if n > len(plays) {
				cancel()
				return ctx.Err()
			}
			for _, fr := range plays[n-1] {
				if err := f(fr); err != nil {
					return err
				}
			}
			return io.ErrUnexpectedEOF
		}
		have := wire.Have{Generation: 9, Hash: wire.ContentHash{1}, Diffs: true}
		f := control.Follower{
			Coordinator: s, Have: func() wire.Have { return have }, Beat: noBeat, State: func(error) {}, Log: slog.New(slog.DiscardHandler),
			Frame: func(fr wire.Frame) error {
				if fr.Generation == 666 {
					return fmt.Errorf("refuse: %w", wire.ErrMisfit)
				}
				return nil
			},
		}
		_ = f.Run(ctx)
		empty, noDiffs, nothing := wire.Have{Diffs: true}, have, wire.Have{}
		noDiffs.Diffs = false
		want := []wire.Have{have, empty, empty, nothing, noDiffs, noDiffs, noDiffs, noDiffs}
		if fmt.Sprint(s.asked) != fmt.Sprint(want) {
			t.Errorf("the box asked\n%+v, want\n%+v", s.asked, want)
		}
	})
}

// A coordinator that never sends what fits is asked no more often than one that is down.
func TestMisfitsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		s := &scripted{begin: time.Now(), watch: func(_ context.Context, _ int, f func(wire.Frame) error) error {
			return f(wire.Frame{NetMap: &wire.Signed{}, Hash: wire.ContentHash{1}})
		}}
		f := control.Follower{
			Coordinator: s, Have: func() wire.Have { return wire.Have{Diffs: true} }, Beat: noBeat, State: func(error) {},
			Log: slog.New(slog.DiscardHandler), Frame: func(wire.Frame) error { return wire.ErrMisfit },
		}
		_ = f.Run(ctx)
		if n := len(s.calls); n > 80 {
			t.Errorf("%d attempts in half an hour", n)
		}
	})
}

// A hub that does not answer at all must not keep a box from ending.
func TestWatchEndsBeforeTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := served(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Watch(ctx, wire.Have{}, noBeat, nil) }()
		time.Sleep(5 * time.Second)
		cancel()
		began := time.Now()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
}
