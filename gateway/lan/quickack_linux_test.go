package lan_test

import (
	"io"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/gateway/lan"
)

// TestAcknowledgesAtOnce talks back and forth, after which Linux delays acknowledgments on an ordinary connection, so that a sender with Nagle's algorithm
// waits for them. Ours must not have it so, whether it was accepted or dialed.
func TestAcknowledgesAtOnce(t *testing.T) {
	var ours lan.Network
	ordinary := &net.ListenConfig{}
	for name, open := range map[string]func(t *testing.T) (net.Listener, func(address string) (net.Conn, error)){
		"accepted": func(t *testing.T) (net.Listener, func(string) (net.Conn, error)) {
			t.Helper()
			l, err := ours.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			return l, func(a string) (net.Conn, error) { return (&net.Dialer{}).DialContext(t.Context(), "tcp", a) }
		},
		"dialed": func(t *testing.T) (net.Listener, func(string) (net.Conn, error)) {
			t.Helper()
			l, err := ordinary.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			return l, func(a string) (net.Conn, error) { return ours.DialContext(t.Context(), "tcp", a) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, dial := open(t)
			defer func() { _ = l.Close() }()
			caller, err := dial(l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = caller.Close() }()
			callee, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = callee.Close() }()
			for range 10 {
				pass(t, caller, callee)
				pass(t, callee, caller)
			}
			us, other := callee, caller
			if name == "dialed" {
				us, other = caller, callee
			}
			pass(t, other, us)
			if !quick(t, us) {
				t.Error("its acknowledgments are delayed")
			}
			pass(t, us, other)
			if quick(t, other) {
				t.Error("those of an ordinary connection are not: this test shows nothing")
			}
		})
	}
}

// pass sends a few bytes.
func pass(t *testing.T, from, to net.Conn) {
	t.Helper()
	b := []byte("image")
	if _, err := from.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, b); err != nil {
		t.Fatal(err)
	}
}

// quick says whether a connection acknowledges at once.
func quick(t *testing.T, c net.Conn) bool {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	value := 0
	if controlErr := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK) }); controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	return value == 1
}
