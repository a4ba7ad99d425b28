package lan_test

import (
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/tunnel"
)

// TestMark: with a mark, nothing goes without it: what is dialed, and what a listener accepts.
func TestMark(t *testing.T) {
	n := lan.Network{Mark: tunnel.MarkLAN}
	l, err := n.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if os.Geteuid() != 0 {
		if err == nil {
			t.Error("a socket that cannot be marked listens all the same")
		}
		t.Skip("needs root to mark sockets")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	c, err := n.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	other := <-accepted
	defer func() { _ = other.Close() }()
	for name, x := range map[string]net.Conn{"dialed": c, "accepted": other} {
		raw, err := x.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var mark int
		if err := raw.Control(func(fd uintptr) { mark, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK) }); err != nil {
			t.Fatal(err)
		}
		if mark != tunnel.MarkLAN {
			t.Errorf("%s: mark %#x", name, mark)
		}
	}
}
