package proxytest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/proxytest"
)

var _ proxy.Network = (*proxytest.Network)(nil)

func pipe() (*proxytest.Conn, *proxytest.Conn) {
	return proxytest.Pipe(netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:2000"))
}

func TestBytesArriveInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := pipe()
		want := rapid.SliceOfN(rapid.Byte(), 0, 300_000).Draw(t, "bytes")
		chunk := rapid.IntRange(1, 100_000).Draw(t, "chunk")
		go func() {
			for rest := want; len(rest) > 0; {
				n := min(chunk, len(rest))
				_, _ = a.Write(rest[:n])
				rest = rest[n:]
			}
			_ = a.CloseWrite()
		}()
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, error %v; want %d", len(got), err, len(want))
		}
		if _, err := b.Write([]byte("x")); err != nil {
			t.Fatalf("the other direction must still be open: %v", err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe()
		defer func() { _ = a.Close() }()
		began := time.Now()
		_ = a.SetReadDeadline(began.Add(time.Minute))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Fatalf("read: %v after %v", err, time.Since(began))
		}
		_ = a.SetReadDeadline(time.Time{})
		go func() {
			time.Sleep(time.Hour)
			_, _ = b.Write([]byte("x"))
		}()
		if _, err := a.Read(make([]byte, 1)); err != nil || time.Since(began) != time.Hour+time.Minute {
			t.Fatalf("read after the deadline was lifted: %v after %v", err, time.Since(began))
		}
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := a.Write(make([]byte, 1<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n <= 0 || n >= 1<<20 {
			t.Fatalf("write into a full buffer: %d, %v", n, err)
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("%v is no timeout", err)
		}
	})
}

func TestEnds(t *testing.T) {
	t.Run("Close delivers what was written", func(t *testing.T) {
		a, b := pipe()
		_, _ = a.Write([]byte("last"))
		_ = a.Close()
		if got, err := io.ReadAll(b); string(got) != "last" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("write to a closed peer: %v", err)
		}
		if _, err := a.Read(nil); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("read after Close: %v", err)
		}
	})
	t.Run("Reset loses it", func(t *testing.T) {
		a, b := pipe()
		_, _ = a.Write([]byte("last"))
		a.Reset()
		if _, err := b.Read(make([]byte, 4)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("read after Reset: %v", err)
		}
	})
	t.Run("Close wakes a reader", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, _ := pipe()
			woken := make(chan error)
			go func() { _, err := a.Read(make([]byte, 1)); woken <- err }()
			synctest.Wait()
			_ = a.Close()
			if err := <-woken; !errors.Is(err, net.ErrClosed) {
				t.Fatal(err)
			}
		})
	})
}

func TestNetwork(t *testing.T) {
	n := proxytest.NewNetwork()
	if _, err := n.DialContext(t.Context(), "tcp", "10.0.0.1:104"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial where nobody listens: %v", err)
	}
	l, err := n.Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen(t.Context(), "tcp", l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("listen twice: %v", err)
	}
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	to := netip.AddrPortFrom(netip.MustParseAddr("10.9.9.9"), port).String()
	c, err := n.From(netip.MustParseAddr("10.0.0.5")).DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got := netip.MustParseAddrPort(s.RemoteAddr().String()).Addr().String(); got != "10.0.0.5" {
		t.Fatalf("the peer is %s", got)
	}
	if s.RemoteAddr().String() != c.LocalAddr().String() || c.RemoteAddr().String() != to {
		t.Fatal("the two ends do not agree on their addresses")
	}
	n.SetDown(to, syscall.EHOSTUNREACH)
	if _, err := n.DialContext(t.Context(), "tcp", to); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Fatalf("dial a host that is down: %v", err)
	}
	n.SetDown(to, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	waiting, err := n.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("accept after Close: %v", err)
	}
	if _, err := waiting.Read(make([]byte, 1)); err == nil {
		t.Fatal("a connection nobody accepted is still open")
	}
	if _, err := n.DialContext(ctx, "tcp", to); err == nil {
		t.Fatal("dial after Close")
	}
}

func TestFaults(t *testing.T) {
	t.Run("cut", func(t *testing.T) {
		a, b := pipe()
		f := proxytest.Faulty(a, proxytest.Faults{CutWrite: 3})
		n, err := f.Write([]byte("hello"))
		if n != 3 || !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("write: %d, %v", n, err)
		}
		if _, err := b.Read(make([]byte, 5)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the other end: %v", err)
		}
	})
	t.Run("stall ends by deadline and by Close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pipe()
			f := proxytest.Faulty(a, proxytest.Faults{StallRead: 2})
			_, _ = b.Write([]byte("hello"))
			if n, err := f.Read(make([]byte, 5)); n != 2 || err != nil {
				t.Fatalf("before the stall: %d, %v", n, err)
			}
			go func() {
				time.Sleep(time.Second)
				_ = f.SetReadDeadline(time.Now().Add(time.Second))
			}()
			began := time.Now()
			if _, err := f.Read(make([]byte, 5)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 2*time.Second {
				t.Fatalf("in the stall: %v after %v", err, time.Since(began))
			}
			_ = f.SetReadDeadline(time.Time{})
			time.AfterFunc(time.Hour, func() { _ = f.Close() })
			if _, err := f.Read(make([]byte, 5)); !errors.Is(err, net.ErrClosed) {
				t.Fatalf("after Close: %v", err)
			}
		})
	})
	t.Run("slow small segments", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := pipe()
			f := proxytest.Faulty(a, proxytest.Faults{Chunk: 2, Delay: time.Second})
			began := time.Now()
			if n, err := f.Write([]byte("hello")); n != 5 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			if took := time.Since(began); took != 3*time.Second {
				t.Fatalf("three chunks took %v", took)
			}
			buf := make([]byte, 10)
			if n, _ := b.Read(buf); string(buf[:n]) != "hello" {
				t.Fatalf("%q", buf[:n])
			}
		})
	})
}
