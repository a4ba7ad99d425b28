package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/proxytest"
)

const address = "10.0.0.1:104"

// echo answers every byte until the peer ends its direction.
var echo = proxy.HandlerFunc(func(ctx context.Context, c net.Conn) proxy.Result {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.Copy(c, c); err != nil && ctx.Err() == nil {
		return proxy.Result{Outcome: proxy.OutcomeAborted}
	}
	return proxy.Result{Outcome: proxy.OutcomeDone, Items: 1}
})

// fixture is a running Server with what it reported.
type fixture struct {
	*proxy.Server
	net    *proxytest.Network
	log    *bytes.Buffer
	cancel context.CancelFunc
	served chan error

	mu    sync.Mutex
	ended []proxy.Session
}

func start(t *testing.T, cfg proxy.ServerConfig) *fixture {
	t.Helper()
	f := &fixture{net: proxytest.NewNetwork(), log: &bytes.Buffer{}, served: make(chan error, 1)}
	if cfg.Listener == nil {
		l, err := f.net.Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Listener = l
	}
	cfg.Name = "ct-store"
	cfg.Log = slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.OnSession = func(s proxy.Session) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ended = append(f.ended, s)
	}
	f.Server = proxy.NewServer(cfg)
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(t.Context())
	go func() { f.served <- f.Serve(ctx) }()
	t.Cleanup(f.cancel)
	return f
}

// stop ends the server and returns what Serve returned. No session is open afterwards, so log and ended may be read.
func (f *fixture) stop() error {
	f.cancel()
	return <-f.served
}

func (f *fixture) dial(t *testing.T, from string) net.Conn {
	t.Helper()
	c, err := f.net.From(netip.MustParseAddr(from)).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// closedByPeer reports whether the other end has closed without a word.
func closedByPeer(c net.Conn) bool {
	_, err := c.Read(make([]byte, 1))
	return err != nil
}

func TestSessionAccounting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, proxy.ServerConfig{Handler: echo})
		c := f.dial(t, "10.0.0.7")
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		live := f.Sessions()
		if len(live) != 1 || live[0].BytesIn != 5 || live[0].BytesOut != 5 || live[0].Remote.Addr().String() != "10.0.0.7" ||
			!live[0].Ended.IsZero() || live[0].Listener != "ct-store" {
			t.Fatalf("live sessions %+v", live)
		}
		_ = c.Close()
		synctest.Wait()
		if n := len(f.Sessions()); n != 0 {
			t.Fatalf("%d sessions are still live", n)
		}
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		if len(f.ended) != 1 || f.ended[0].ID != live[0].ID || f.ended[0].Ended.Sub(f.ended[0].Started) != 3*time.Second ||
			f.ended[0].Result.Outcome != proxy.OutcomeDone {
			t.Fatalf("ended sessions %+v", f.ended)
		}
		tot := f.Totals()
		if tot.Accepted != 1 || tot.Outcomes[proxy.OutcomeDone] != 1 || tot.Items != 1 || tot.BytesIn != 5 || tot.BytesOut != 5 {
			t.Fatalf("totals %+v", tot)
		}
	})
}

func TestDeniedSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, proxy.ServerConfig{Handler: echo, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/29")}})
		for range 50 {
			if c := f.dial(t, "10.0.0.9"); !closedByPeer(c) {
				t.Fatal("a source off the list was served")
			}
		}
		c := f.dial(t, "10.0.0.6")
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("a source on the list was not served: %v", err)
		}
		_ = c.Close()
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		if tot := f.Totals(); tot.Denied != 50 || tot.Accepted != 1 || tot.Crowded != 0 {
			t.Fatalf("totals %+v", tot)
		}
		if n := strings.Count(f.log.String(), "connection turned away"); n != 1 {
			t.Fatalf("%d log lines for 50 attempts within one second:\n%s", n, f.log)
		}
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, proxy.ServerConfig{Handler: echo, MaxConns: 3, MaxPerSource: 2})
		first := f.dial(t, "10.0.0.1")
		f.dial(t, "10.0.0.1")
		if !closedByPeer(f.dial(t, "10.0.0.1")) {
			t.Fatal("a third connection of one source was served")
		}
		f.dial(t, "10.0.0.2")
		synctest.Wait()
		if !closedByPeer(f.dial(t, "10.0.0.3")) {
			t.Fatal("a fourth connection was served")
		}
		_ = first.Close()
		synctest.Wait()
		f.dial(t, "10.0.0.1")
		synctest.Wait()
		if n := len(f.Sessions()); n != 3 {
			t.Fatalf("%d sessions after one had ended and one had come", n)
		}
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		if tot := f.Totals(); tot.Crowded != 2 || tot.Accepted != 4 {
			t.Fatalf("totals %+v", tot)
		}
	})
}

func TestFailingHandlers(t *testing.T) {
	const canary = "Canary^Patient"
	for name, h := range map[string]proxy.HandlerFunc{
		"panics with payload": func(context.Context, net.Conn) proxy.Result { panic(errors.New(canary)) },
		"leaves by Goexit":    func(context.Context, net.Conn) proxy.Result { runtime.Goexit(); return proxy.Result{} },
		"forgets its outcome": func(context.Context, net.Conn) proxy.Result { return proxy.Result{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, proxy.ServerConfig{Handler: h})
				if c := f.dial(t, "10.0.0.1"); !closedByPeer(c) {
					t.Fatal("the connection is still open")
				}
				if err := f.stop(); err != nil {
					t.Fatal(err)
				}
				if tot := f.Totals(); tot.Outcomes[proxy.OutcomeAborted] != 1 || len(f.ended) != 1 {
					t.Fatalf("totals %+v", tot)
				}
				log := f.log.String()
				if strings.Contains(log, canary) {
					t.Fatalf("the log holds payload:\n%s", log)
				}
				if strings.HasPrefix(name, "panics") && (strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, "server_test.go")) {
					t.Fatalf("want one error with a stack:\n%s", log)
				}
			})
		})
	}
}

func TestPanicOfTheRuntimeIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, proxy.ServerConfig{Handler: proxy.HandlerFunc(func(_ context.Context, c net.Conn) proxy.Result {
			none := make([]int, 0)
			n, _ := c.Read(nil)
			return proxy.Result{Items: none[n]}
		})})
		closedByPeer(f.dial(t, "10.0.0.1"))
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(f.log.String(), "index out of range") {
			t.Fatalf("log:\n%s", f.log)
		}
	})
}

func TestShutdown(t *testing.T) {
	t.Run("sessions that end in time are not cut", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := start(t, proxy.ServerConfig{Grace: time.Minute, Handler: proxy.HandlerFunc(
				func(ctx context.Context, c net.Conn) proxy.Result {
					<-ctx.Done()
					time.Sleep(59 * time.Second)
					_, err := c.Write([]byte("bye"))
					if err != nil {
						return proxy.Result{Outcome: proxy.OutcomeAborted}
					}
					return proxy.Result{Outcome: proxy.OutcomeDone}
				})})
			c := f.dial(t, "10.0.0.1")
			synctest.Wait()
			f.cancel()
			if got, err := io.ReadAll(c); string(got) != "bye" || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			_ = c.Close()
			if err := <-f.served; err != nil {
				t.Fatal(err)
			}
			if tot := f.Totals(); tot.Outcomes[proxy.OutcomeDone] != 1 {
				t.Fatalf("totals %+v", tot)
			}
		})
	})
	t.Run("others are cut at Grace", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := start(t, proxy.ServerConfig{Grace: time.Minute, Handler: proxy.HandlerFunc(
				func(_ context.Context, c net.Conn) proxy.Result {
					_, _ = io.Copy(io.Discard, c)
					return proxy.Result{Outcome: proxy.OutcomeAborted}
				})})
			f.dial(t, "10.0.0.1")
			synctest.Wait()
			before := time.Now()
			if err := f.stop(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(before); took != time.Minute {
				t.Fatalf("took %v", took)
			}
			if _, err := f.net.DialContext(t.Context(), "tcp", address); err == nil {
				t.Fatal("the listener is still open")
			}
		})
	})
	t.Run("a handler that hangs is reported", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			f := start(t, proxy.ServerConfig{Handler: proxy.HandlerFunc(func(context.Context, net.Conn) proxy.Result {
				<-release
				return proxy.Result{}
			})})
			f.dial(t, "10.0.0.1")
			synctest.Wait()
			if err := f.stop(); err == nil || !strings.Contains(err.Error(), "1 sessions of ct-store") {
				t.Fatalf("error %v", err)
			}
			close(release)
		})
	})
}

// flaky fails a few times before it accepts.
type flaky struct {
	net.Listener
	errs []error
}

func (l *flaky) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

func TestAcceptErrors(t *testing.T) {
	listen := func(t *testing.T, n *proxytest.Network, errs ...error) net.Listener {
		l, err := n.Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return &flaky{Listener: l, errs: errs}
	}
	t.Run("temporary ones are waited out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := proxytest.NewNetwork()
			busy := &net.OpError{Op: "accept", Err: syscall.EMFILE}
			f := start(t, proxy.ServerConfig{Handler: echo, Listener: listen(t, n, busy, busy, busy)})
			begun := time.Now()
			c, err := n.DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took != 35*time.Millisecond {
				t.Fatalf("three errors took %v", took)
			}
			_ = c.Close()
			if err := f.stop(); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("others end Serve", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			broken := errors.New("the interface is gone")
			f := start(t, proxy.ServerConfig{Handler: echo, Listener: listen(t, proxytest.NewNetwork(), broken)})
			if err := <-f.served; !errors.Is(err, broken) {
				t.Fatalf("error %v", err)
			}
		})
	})
}
