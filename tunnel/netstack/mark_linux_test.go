package netstack_test

import (
	"bytes"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/capture"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
)

// TestOuterSocketsAreMarked asks ss(8), as root.
func TestOuterSocketsAreMarked(t *testing.T) {
	program, err := exec.LookPath("ss")
	if err != nil {
		t.Skip("needs ss(8) to see the mark")
	}
	ns := tunneltest.NewNamespace(t)
	for _, mark := range []uint32{0, tunnel.MarkOuter} {
		d := node(t, netstack.Options{FwMark: mark}, netip.MustParseAddr("127.0.0.1"))
		var out []byte
		if err := ns.Do(func() error {
			if err := d.Device.Configure(t.Context(), config(t, "100.64.0.1/32", 0)); err != nil {
				return err
			}
			out, err = exec.Command(program, "-Huane").Output()
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(out), "fwmark:0x70770001"); got != (mark != 0) || len(out) == 0 {
			t.Errorf("marked %v:\n%s", got, out)
		}
		if err := d.Device.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTapSeesBothDirections: a capture has the headers of what goes in and out, and nothing of what is said.
func TestTapSeesBothDirections(t *testing.T) {
	var tap capture.Tap
	var file bytes.Buffer
	devices, _ := tapped(t, tunneltest.NewNetwork(), 0, &tap)
	client, server := connect(t, devices)
	done := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		_, err := tap.Capture(t.Context(), &signaling{Buffer: &file, started: started}, capture.Options{For: 2 * time.Second})
		done <- err
	}()
	<-started
	const secret = "CANARY^PATIENT"
	sent := []byte(strings.Repeat(secret, 500))
	for _, c := range []io.ReadWriter{client, server} {
		go func() { _, _ = c.Write(sent) }()
	}
	for _, c := range []io.ReadWriter{client, server} {
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("what is said does not arrive: %v", err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if strings.Contains(file.String(), "CANARY") {
		t.Error("what is said is in the capture")
	}
	for _, pair := range []string{"\x64\x40\x00\x01\x64\x40\x00\x02", "\x64\x40\x00\x02\x64\x40\x00\x01"} {
		if n := strings.Count(file.String(), pair); n < 7000/1280 {
			t.Errorf("%d packets from % x", n, pair)
		}
	}
}

// signaling says when the header of the file is written.
type signaling struct {
	*bytes.Buffer
	started chan struct{}
	once    bool
}

func (s *signaling) Write(b []byte) (int, error) {
	if !s.once {
		s.once = true
		close(s.started)
	}
	return s.Buffer.Write(b)
}
