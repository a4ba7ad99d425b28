package capture_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/tunnel/capture"
)

// secret must never be in a capture.
const secret = "CANARY^PATIENT"

// packet4 makes an IPv4 packet around a transport header and a payload.
func packet4(protocol byte, transport []byte, payload string, options int) []byte {
	b := make([]byte, 20+options)
	b[0], b[8], b[9] = 0x45+byte(options/4), 64, protocol
	copy(b[12:], []byte{10, 201, 0, 1, 10, 201, 0, 2})
	b = append(append(b, transport...), payload...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// packet6 does so for IPv6; extensions begin with their own next header.
func packet6(next byte, transport []byte, payload string) []byte {
	b := make([]byte, 40)
	b[0], b[6], b[7] = 0x60, next, 64
	a, z := netip.MustParseAddr("fd7a:10::1").As16(), netip.MustParseAddr("fd7a:10::2").As16()
	copy(b[8:], a[:])
	copy(b[24:], z[:])
	b = append(append(b, transport...), payload...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

func tcp(options int) []byte {
	b := make([]byte, 20+options)
	binary.BigEndian.PutUint16(b, 40000)
	binary.BigEndian.PutUint16(b[2:], 104)
	b[12], b[13] = byte(5+options/4)<<4, 0x18
	return b
}

func udp() []byte { return []byte{0x9c, 0x40, 0, 53, 0, 20, 0, 0} }

func TestHeaders(t *testing.T) {
	later := packet4(6, tcp(0), secret, 0)
	later[7] = 1
	hop := append([]byte{6, 0, 0, 0, 0, 0, 0, 0}, tcp(0)...)
	frag, first := append([]byte{6, 0, 0, 8, 0, 0, 0, 0}, tcp(0)...), append([]byte{6, 0, 0, 1, 0, 0, 0, 0}, tcp(0)...)
	for name, c := range map[string]struct {
		packet []byte
		want   int
	}{
		"TCP":                        {packet4(6, tcp(0), secret, 0), 40},
		"TCP with options":           {packet4(6, tcp(12), secret, 8), 60},
		"UDP":                        {packet4(17, udp(), secret, 0), 28},
		"ICMP quotes a packet":       {packet4(1, make([]byte, 8), secret, 0), 28},
		"another protocol":           {packet4(132, []byte(secret), secret, 0), 20},
		"a later fragment":           {later, 20},
		"TCP cut off":                {packet4(6, tcp(0)[:19], "", 0), 20},
		"TCP with a small offset":    {packet4(6, make([]byte, 20), secret, 0), 40},
		"TCP 6":                      {packet6(6, tcp(4), secret), 64},
		"UDP 6":                      {packet6(17, udp(), secret), 48},
		"ICMP 6":                     {packet6(58, make([]byte, 8), secret), 48},
		"hop-by-hop":                 {packet6(0, hop, secret), 68},
		"a later fragment 6":         {packet6(44, frag, secret), 48},
		"the first fragment 6":       {packet6(44, first, secret), 68},
		"no next header":             {packet6(59, nil, secret), 40},
		"extension longer than all":  {packet6(0, []byte{6, 255, 0, 0, 0, 0, 0, 0}, secret), 40},
		"ESP":                        {packet6(50, nil, secret), 40},
		"no IP":                      {[]byte("hello, this is not an IP packet at all"), 0},
		"nothing":                    {nil, 0},
		"header length beyond it":    {append([]byte{0x4f}, packet4(6, tcp(0), "", 0)[1:]...), 20},
		"header length of a nothing": {append([]byte{0x40}, packet4(6, tcp(0), secret, 0)[1:]...), 20},
	} {
		if got := capture.Headers(c.packet); got != c.want {
			t.Errorf("%s: %d bytes, want %d", name, got, c.want)
		}
	}
}

// FuzzHeaders: whatever the packet, what is kept is within it and bounded; and what comes after a TCP or UDP header is not kept.
func FuzzHeaders(f *testing.F) {
	for _, b := range [][]byte{nil, packet4(6, tcp(0), secret, 0), packet6(17, udp(), secret), packet6(44, make([]byte, 40), secret)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := capture.Headers(b)
		if n < 0 || n > len(b) || n > capture.MaxHeaders {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
		if more := capture.Headers(append(bytes.Clone(b), secret...)); more < n {
			t.Fatalf("%d bytes, and with more payload %d", n, more)
		}
	})
}

// show shows packets as a device does.
func show(tap *capture.Tap, packets ...[]byte) {
	const offset = 16
	var bufs [][]byte
	var sizes []int
	for _, p := range packets {
		bufs = append(bufs, append(make([]byte, offset, offset+len(p)+9), append(p, "rest of b"...)...))
		sizes = append(sizes, len(p))
	}
	tap.Packets(bufs, sizes, offset)
}

func TestCapture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tap capture.Tap
		show(&tap, packet4(6, tcp(0), secret, 0)) // nobody looks
		var all, some bytes.Buffer
		done := make(chan capture.Result, 2)
		run := func(b *bytes.Buffer, o capture.Options) {
			res, err := tap.Capture(t.Context(), b, o)
			if err != nil {
				t.Error(err)
			}
			done <- res
		}
		go run(&all, capture.Options{For: time.Minute})
		go run(&some, capture.Options{For: time.Minute, Only: []netip.Prefix{netip.MustParsePrefix("fd7a:10::2/128")}})
		synctest.Wait()
		show(&tap, packet4(6, tcp(0), secret, 0), packet6(17, udp(), secret))
		show(&tap, []byte("no packet"))
		tap.Packets([][]byte{append(make([]byte, 4), packet4(17, udp(), secret, 0)...)}, nil, 4)
		time.Sleep(time.Minute)
		results := []capture.Result{<-done, <-done}
		if n := results[0].Packets + results[1].Packets; n != 3+1 || results[0].Missed+results[1].Missed != 0 {
			t.Errorf("results %+v", results)
		}
		if want := 24 + 16 + 40 + 16 + 48 + 16 + 28; all.Len() != want {
			t.Errorf("%d bytes, want %d", all.Len(), want)
		}
		for _, b := range []*bytes.Buffer{&all, &some} {
			if strings.Contains(b.String(), "CANARY") || strings.Contains(b.String(), "rest") {
				t.Errorf("payload: %q", b.String())
			}
		}
		before := all.Len()
		show(&tap, packet4(6, tcp(0), secret, 0))
		if all.Len() != before {
			t.Error("it goes on after its end")
		}
	})
}

// stuck is a writer that takes the beginning and then no more.
type stuck struct {
	first bool
	hold  chan struct{}
}

func (s *stuck) Write(b []byte) (int, error) {
	if !s.first {
		s.first = true
		return len(b), nil
	}
	<-s.hold
	return 0, errors.New("gone")
}

// TestSlowWriter: the tunnel does not wait for who looks.
func TestSlowWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tap capture.Tap
		w, done := &stuck{hold: make(chan struct{})}, make(chan error)
		go func() {
			_, err := tap.Capture(t.Context(), w, capture.Options{})
			done <- err
		}()
		synctest.Wait()
		for range 6000 {
			show(&tap, packet4(6, tcp(0), secret, 0))
		}
		close(w.hold)
		if err := <-done; err == nil {
			t.Error("a writer that fails is no error")
		}
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tap capture.Tap
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 5)
		for range 4 {
			go func() {
				_, err := tap.Capture(ctx, new(bytes.Buffer), capture.Options{For: 100 * time.Hour})
				done <- err
			}()
		}
		synctest.Wait()
		if _, err := tap.Capture(ctx, new(bytes.Buffer), capture.Options{}); !errors.Is(err, capture.ErrBusy) {
			t.Errorf("the fifth: %v", err)
		}
		start := time.Now()
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(start); d != capture.MaxTime {
			t.Errorf("it took %v", d)
		}
		cancel()
		if res, err := tap.Capture(ctx, new(bytes.Buffer), capture.Options{}); err != nil || res.Packets != 0 {
			t.Errorf("after the end: %+v, %v", res, err)
		}
	})
}

// TestLargest: it ends before it is larger than it may be, and says so.
func TestLargest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tap capture.Tap
		var b bytes.Buffer
		done := make(chan capture.Result)
		go func() {
			res, err := tap.Capture(t.Context(), &b, capture.Options{})
			if err != nil {
				t.Error(err)
			}
			done <- res
		}()
		p := packet4(6, tcp(40), "", 40)
		for {
			synctest.Wait()
			select {
			case res := <-done:
				if !res.Full || b.Len() > capture.MaxBytes || b.Len() < capture.MaxBytes-200 {
					t.Errorf("%+v, %d bytes", res, b.Len())
				}
				return
			default:
			}
			for range 4000 {
				show(&tap, p)
			}
		}
	})
}

// TestTcpdumpReads: the judge of the file is tcpdump.
func TestTcpdumpReads(t *testing.T) {
	program, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skip("needs tcpdump to read the file")
	}
	var b bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		var tap capture.Tap
		done := make(chan error)
		go func() {
			_, err := tap.Capture(t.Context(), &b, capture.Options{For: time.Second})
			done <- err
		}()
		synctest.Wait()
		show(&tap, packet4(6, tcp(0), secret, 0), packet6(17, udp(), secret))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
	file := filepath.Join(t.TempDir(), "x.pcap")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "-n", "-r", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"link-type RAW", "10.201.0.1.40000 > 10.201.0.2.104: Flags [P.]", "length 14", "fd7a:10::1.40000 > fd7a:10::2.53"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// BenchmarkNobodyLooks is what every packet costs.
func BenchmarkNobodyLooks(b *testing.B) {
	var tap capture.Tap
	bufs, sizes := [][]byte{packet4(6, tcp(0), secret, 0)}, []int{54}
	for b.Loop() {
		tap.Packets(bufs, sizes, 0)
	}
}
