package tunneltest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// echo serves connections on node i until the test ends: what arrives is sent back, and the end of the stream too.
func (l *lab) echo(i int, a netip.Addr) netip.AddrPort {
	l.t.Helper()
	return l.serve(i, a, func(netip.Addr) {})
}

// observe is echo that also tells where each connection comes from.
func (l *lab) observe(i int, a netip.Addr) (netip.AddrPort, <-chan netip.Addr) {
	l.t.Helper()
	sources := make(chan netip.Addr, 16)
	return l.serve(i, a, func(source netip.Addr) { sources <- source }), sources
}

func (l *lab) serve(i int, a netip.Addr, caller func(netip.Addr)) netip.AddrPort {
	l.t.Helper()
	ln, err := l.nodes[i].Device.Listen(context.Background(), "tcp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		l.t.Fatalf("listen on node %d: %v", i, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if remote, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
				caller(remote.Addr().Unmap())
			}
			go func() {
				defer c.Close()
				if _, err := io.Copy(c, c); err == nil {
					_ = c.(interface{ CloseWrite() error }).CloseWrite()
				}
			}()
		}
	}()
	l.t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	at, err := netip.ParseAddrPort(ln.Addr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	return at
}

func (l *lab) dial(i int, to netip.AddrPort) net.Conn {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	c, err := l.nodes[i].Device.DialContext(ctx, "tcp", to.String())
	if err != nil {
		l.t.Fatalf("dial %v from node %d: %v", to, i, err)
	}
	l.t.Cleanup(func() { _ = c.Close() })
	return c
}

// tryDial reports the error of a dial that is given up after Silence.
func (l *lab) tryDial(i int, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(context.Background(), Silence)
	defer cancel()
	c, err := l.nodes[i].Device.DialContext(ctx, "tcp", to.String())
	if err == nil {
		_ = c.Close()
	}
	return err
}

// ping sends a few bytes through an echoing connection and back.
func ping(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if err := tryPing(c, text, Patience); err != nil {
		t.Fatalf("exchange %q with %v: %v", text, c.RemoteAddr(), err)
	}
}

func tryPing(c net.Conn, text string, patience time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != text {
		return errors.New("got other bytes back")
	}
	return c.SetDeadline(time.Time{})
}

// greet serves connections on node i that get a text and the end of the stream.
func (l *lab) greet(i int, a netip.Addr, port uint16, text string) netip.AddrPort {
	l.t.Helper()
	at := netip.AddrPortFrom(a, port)
	ln, err := l.nodes[i].Device.Listen(context.Background(), "tcp", at.String())
	if err != nil {
		l.t.Fatalf("listen on node %d: %v", i, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}()
	l.t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return at
}
