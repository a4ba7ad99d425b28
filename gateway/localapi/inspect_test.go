package localapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/tunnel/capture"
)

// window is a gateway with a tap.
type window struct {
	nobody
	tap capture.Tap
}

func (w *window) FirewallRules(context.Context) (string, error) {
	return "table inet towpath {\n}\n", nil
}

func (w *window) Capture(ctx context.Context, r localapi.CaptureRequest, to io.Writer) (capture.Result, error) {
	if r.Peer == "nobody" {
		return capture.Result{}, fmt.Errorf("%w as %q", localapi.ErrUnknownPeer, r.Peer)
	}
	return w.tap.Capture(ctx, to, capture.Options{For: r.For, Only: []netip.Prefix{netip.MustParsePrefix(r.Peer)}})
}

// TestInspect captures through the socket.
func TestInspect(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	path, done := filepath.Join(t.TempDir(), "s"), make(chan error, 1)
	g := &window{}
	go func() { done <- localapi.Serve(ctx, path, g, localapi.QueuesOf(newSpool(t))) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	c := localapi.NewClient(path)
	for end := time.Now().Add(10 * time.Second); ; {
		text, err := c.FirewallRules(ctx)
		if err == nil && strings.HasPrefix(text, "table inet towpath") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%q, %v", text, err)
		}
	}
	if _, err := c.Capture(ctx, localapi.CaptureRequest{Peer: "nobody", For: time.Second}, io.Discard); err == nil || !strings.Contains(err.Error(), `no such peer as "nobody"`) {
		t.Errorf("an unknown peer: %v", err)
	}
	if r, err := c.Doctor(ctx); err != nil || len(r) != 1 || r[0].Do != "plug it in" || r.Healthy() {
		t.Errorf("%+v, %v", r, err)
	}
	p := make([]byte, 60)
	p[0], p[9] = 0x45, 17
	copy(p[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	pipe := &seen{want: 3}
	pipe.show = func() { g.tap.Packets([][]byte{p}, nil, 0) }
	res, err := c.Capture(ctx, localapi.CaptureRequest{Peer: "10.0.0.2/32", For: time.Second}, pipe)
	if err != nil || res.Packets != 3 || res.Missed != 0 || res.Full {
		t.Errorf("%+v, %v", res, err)
	}
	if want := 24 + 3*(16+28); pipe.got.Len() != want {
		t.Errorf("%d bytes, want %d", pipe.got.Len(), want)
	}
	// The person ends it: what was there is kept.
	short, cancel := context.WithCancel(ctx)
	pipe = &seen{want: 1, show: cancel}
	if _, err := c.Capture(short, localapi.CaptureRequest{Peer: "10.0.0.2/32", For: time.Hour}, pipe); err != nil || pipe.got.Len() != 24 {
		t.Errorf("ended early: %v, %d bytes", err, pipe.got.Len())
	}
}

// seen does something when it is written to first, when the head of the file has come, as often as wanted.
type seen struct {
	got  bytes.Buffer
	want int
	show func()
}

func (s *seen) Write(b []byte) (int, error) {
	if s.want > 0 {
		n := s.want
		s.want = 0
		for range n {
			s.show()
		}
	}
	return s.got.Write(b)
}
