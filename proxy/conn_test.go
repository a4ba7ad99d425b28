package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/proxytest"
)

// bare hides what a connection can do besides net.Conn.
type bare struct{ net.Conn }

type oneConn struct {
	net.Listener
	conns chan net.Conn
}

func (l *oneConn) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l *oneConn) Close() error { return nil }

func TestCapabilitiesOfTheConnection(t *testing.T) {
	tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tcp.Close() }()
	client, err := new(net.Dialer).DialContext(t.Context(), "tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	real, err := tcp.Accept()
	if err != nil {
		t.Fatal(err)
	}
	memory, _ := proxytest.Pipe(netip.AddrPort{}, netip.AddrPort{})
	for _, tc := range []struct {
		conn      net.Conn
		half, raw bool
	}{{real, true, true}, {memory, true, false}, {bare{memory}, false, false}} {
		got := make(chan string, 1)
		l := &oneConn{Listener: tcp, conns: make(chan net.Conn, 1)}
		s := proxy.NewServer(proxy.ServerConfig{Listener: l, Handler: proxy.HandlerFunc(func(_ context.Context, c net.Conn) proxy.Result {
			_, half := c.(interface{ CloseWrite() error })
			_, raw := c.(syscall.Conn)
			got <- fmt.Sprint(half, raw)
			return proxy.Result{Outcome: proxy.OutcomeAborted}
		})})
		l.conns <- tc.conn
		close(l.conns)
		if err := s.Serve(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if g := <-got; g != fmt.Sprint(tc.half, tc.raw) {
			t.Errorf("%T: CloseWrite and SyscallConn: %s, want %v %v", tc.conn, g, tc.half, tc.raw)
		}
	}
}

// TestLastWordsArrive has a peer that is still sending when we say no. Without an orderly close the kernel would reset the connection and
// the peer might never read why.
func TestLastWordsArrive(t *testing.T) {
	tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	s := proxy.NewServer(proxy.ServerConfig{Listener: tcp, Handler: proxy.HandlerFunc(func(_ context.Context, c net.Conn) proxy.Result {
		if _, err := c.Write([]byte("no")); err != nil {
			t.Error(err)
		}
		return proxy.Result{Outcome: proxy.OutcomeRefused}
	})})
	go func() { served <- s.Serve(ctx) }()
	for range 50 {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); string(got) != "no" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		_ = c.Close()
	}
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}
