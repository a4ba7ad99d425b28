//go:build lab

package wan

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// line is a left host, a router with the emulator and a right host, each in a namespace.
type lab struct{ left, router, right string }

const (
	leftAddr  = "192.0.2.2"
	rightAddr = "198.51.100.2"
)

func newLab(t *testing.T) lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	id := os.Getpid()
	l := lab{fmt.Sprintf("tp-%d-wl", id), fmt.Sprintf("tp-%d-wr", id), fmt.Sprintf("tp-%d-wc", id)}
	for _, ns := range []string{l.left, l.router, l.right} {
		ip(t, "netns", "add", ns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
		ip(t, "-n", ns, "link", "set", "lo", "up")
	}
	ip(t, "link", "add", "eth0", "netns", l.left, "type", "veth", "peer", "name", "left", "netns", l.router)
	ip(t, "link", "add", "eth0", "netns", l.right, "type", "veth", "peer", "name", "right", "netns", l.router)
	for _, a := range [][3]string{
		{l.left, "eth0", leftAddr + "/24"},
		{l.router, "left", "192.0.2.1/24"},
		{l.router, "right", "198.51.100.1/24"},
		{l.right, "eth0", rightAddr + "/24"},
	} {
		ip(t, "-n", a[0], "address", "add", a[2], "dev", a[1])
		ip(t, "-n", a[0], "link", "set", a[1], "up")
	}
	ip(t, "-n", l.left, "route", "add", "default", "via", "192.0.2.1")
	ip(t, "-n", l.right, "route", "add", "default", "via", "198.51.100.1")
	if err := inNamespace(path(l.router), func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }); err != nil {
		t.Fatal(err)
	}
	return l
}

func path(ns string) string { return "/run/netns/" + ns }

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// open starts an emulator that the test closes.
func (l lab) open(t *testing.T, up, down Link) *Emulator {
	t.Helper()
	e, err := Open(Config{
		Namespace: path(l.router), Device: "wan0",
		Left:  Side{"left", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		Right: Side{"right", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}},
		Up:    up, Down: down,
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// sockets returns one UDP socket at each end.
func (l lab) sockets(t *testing.T) (left, right *net.UDPConn) {
	t.Helper()
	for _, s := range []struct {
		ns, addr string
		c        **net.UDPConn
	}{{l.left, leftAddr, &left}, {l.right, rightAddr, &right}} {
		err := inNamespace(path(s.ns), func() (err error) {
			*s.c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(s.addr), Port: 4000})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*s.c).Close() })
		if err := (*s.c).SetReadBuffer(8 << 20); err != nil {
			t.Fatal(err)
		}
	}
	return left, right
}

// TestLabEmulator measures real packets through the device: both directions differ, and closing restores the direct way.
func TestLabEmulator(t *testing.T) {
	l := newLab(t)
	up := Link{Rate: 10_000_000, Delay: 30 * time.Millisecond, Loss: 0.05, Queue: 8 << 20, Seed: 1}
	down := Link{Rate: 40_000_000, Delay: 5 * time.Millisecond, Queue: 8 << 20}
	e := l.open(t, up, down)
	left, right := l.sockets(t)

	t.Run("up", func(t *testing.T) { measure(t, left, right, rightAddr, up) })
	t.Run("down", func(t *testing.T) { measure(t, right, left, leftAddr, down) })
	su, sd := e.Stats()
	t.Logf("up %+v", su)
	t.Logf("down %+v", sd)
	if su.Lost == 0 || sd.Lost != 0 || su.QueueDrops != 0 || sd.QueueDrops != 0 {
		t.Error("the counters do not fit the links")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	t.Run("closed", func(t *testing.T) { measure(t, left, right, rightAddr, Link{}) })
	e = l.open(t, Link{}, Link{}) // everything of the first is gone, so that a second fits
	t.Run("again", func(t *testing.T) { measure(t, left, right, rightAddr, Link{}) })
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// measure sends a burst and compares what arrives with the link.
func measure(t *testing.T, from, to *net.UDPConn, addr string, l Link) {
	t.Helper()
	const n, payload = 1000, 1222
	const size = payload + 28 // an IP packet of 10,000 bit
	dst := &net.UDPAddr{IP: net.ParseIP(addr), Port: 4000}
	b := make([]byte, payload)
	begin := time.Now()
	go func() {
		for i := range n {
			binary.BigEndian.PutUint32(b, uint32(i))
			if _, err := from.WriteTo(b, dst); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	var first, last time.Duration
	got, previous := 0, -1
	in := make([]byte, 2000)
	for {
		if err := to.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Read(in); err != nil {
			break
		}
		last = time.Since(begin)
		if got == 0 {
			first = last
		}
		got++
		if i := int(binary.BigEndian.Uint32(in)); i <= previous {
			t.Errorf("packet %d after %d", i, previous)
		} else {
			previous = i
		}
	}
	t.Logf("%d of %d packets, the first after %v, the last after %v", got, n, first, last)
	if sigma := math.Sqrt(n * l.Loss * (1 - l.Loss)); math.Abs(n*(1-l.Loss)-float64(got)) > 5*sigma {
		t.Errorf("%d of %d packets arrived at loss %g", got, n, l.Loss)
	}
	if first < l.Delay {
		t.Errorf("the first packet after %v, before the delay of %v", first, l.Delay)
	}
	if l.Rate > 0 {
		want := l.Delay + time.Duration(n*size*8*int64(time.Second)/l.Rate)
		// A lost tail ends earlier; a busy machine ends later, but not by much, since the clock of the line is virtual.
		if last < want*95/100 || last > want+want/4+100*time.Millisecond {
			t.Errorf("the last packet after %v, want about %v", last, want)
		}
	}
}
