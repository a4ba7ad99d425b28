package tunneltest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel"
)

func testDeadlines(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	c := l.dial(0, l.echo(1, addr4(1)))
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("read past its deadline: %v", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	ping(t, c, "works again")
	read := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	if err := c.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-read:
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("read whose deadline was moved to the past: %v", err)
		}
	case <-time.After(Patience):
		t.Fatal("a read does not notice that its deadline was moved to the past")
	}
}

func testInvalid(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	c := l.dial(0, l.echo(1, addr4(1)))
	ping(t, c, "before")
	bad := l.conf[0]
	bad.Peers = append(slices.Clip(bad.Peers), bad.Peers[0])
	if err := l.nodes[0].Device.Configure(context.Background(), bad); !errors.Is(err, tunnel.ErrInvalid) {
		t.Errorf("a peer that is there twice: %v", err)
	}
	ping(t, c, "after")
}

func testCloses(t *testing.T, f Factory) {
	l := newLab(t, f, 2)
	d := l.nodes[0].Device
	c := l.dial(0, l.echo(1, addr4(1)))
	ping(t, c, "open")
	ln, err := d.Listen(context.Background(), "tcp", netip.AddrPortFrom(addr4(0), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, read := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		accepted <- err
	}()
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	for range 3 {
		if err := d.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	for what, ch := range map[string]chan error{"accept": accepted, "read": read} {
		select {
		case err := <-ch:
			if err == nil || errors.Is(err, io.EOF) {
				t.Errorf("%s on a closed device: %v", what, err)
			}
		case <-time.After(Patience):
			t.Errorf("%s hangs on a closed device", what)
		}
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("write on a closed device succeeded")
	}
	if err := d.Configure(context.Background(), l.conf[0]); !errors.Is(err, net.ErrClosed) {
		t.Errorf("configure a closed device: %v", err)
	}
	if _, err := d.Status(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("status of a closed device: %v", err)
	}
	if err := l.tryDial(0, netip.AddrPortFrom(addr4(1), 9)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial on a closed device: %v", err)
	}
	if _, err := d.Listen(context.Background(), "tcp", netip.AddrPortFrom(addr4(0), 0).String()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen on a closed device: %v", err)
	}
}
