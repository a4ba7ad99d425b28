package lan_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"

	"github.com/towpath/towpath/gateway/lan"
)

func TestCarriesBytesBothWays(t *testing.T) {
	var n lan.Network
	l, err := n.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = io.Copy(c, c)
	}()
	c, err := n.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	want := bytes.Repeat([]byte("towpath "), 4096)
	go func() {
		_, _ = c.Write(want)
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("echo: %d bytes, %v; want %d", len(got), err, len(want))
	}
}

func TestOverlayIsOutOfReach(t *testing.T) {
	var n lan.Network
	n.Bar([]netip.Prefix{netip.MustParsePrefix("127.77.0.0/16"), netip.MustParsePrefix("fd00:77::/48")})
	for _, a := range []string{"127.77.1.2:104", "[fd00:77::1]:104", "[::ffff:127.77.1.2]:104"} {
		if _, err := n.DialContext(context.Background(), "tcp", a); !errors.Is(err, lan.ErrOverlay) {
			t.Errorf("dial %s: %v, want ErrOverlay", a, err)
		}
	}
	if _, err := n.Listen(context.Background(), "tcp", "127.77.1.2:0"); !errors.Is(err, lan.ErrOverlay) {
		t.Errorf("listen on the overlay: %v, want ErrOverlay", err)
	}
	l, err := n.Listen(context.Background(), "tcp", "127.78.0.1:0")
	if err != nil {
		t.Fatalf("an address outside must work: %v", err)
	}
	_ = l.Close()
}
