package filter_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/tunnel/tunneltest"
)

// The neighbors of the box. Each answers at every address that the box sends it, so that what gets out is seen.
const (
	lan  = "lan0"
	wan  = "wan0"
	tow  = "tow0"
	soon = 300 * time.Millisecond
)

// street is a box with a neighbor on each interface.
type street struct {
	t         *testing.T
	box       *tunneltest.Namespace
	neighbors map[string]*tunneltest.Namespace
}

func newStreet(t *testing.T) *street {
	s := &street{t: t, box: needKernel(t), neighbors: map[string]*tunneltest.Namespace{}}
	for i, dev := range []string{lan, wan, tow} {
		n := tunneltest.NewNamespace(t)
		s.neighbors[dev] = n
		s.must(n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("0"), 0o644) }))
		nets := [][2]string{{"10.20.1.%d/24", "fd20::%d/64"}, {"198.18.1.%d/24", "2001:db8:18::%d/64"}, {"10.201.0.%d/32", "fd7a:10::%d/128"}}[i]
		s.cable(dev, n, nets)
	}
	s.must(s.box.Do(func() error {
		for _, f := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} { // the worst case
			if err := os.WriteFile("/proc/sys/"+f, []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("0"), 0o644)
	}))
	return s
}

func (s *street) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// cable joins the box, which gets the addresses that end in 1, with a neighbor, which gets 2 and all others.
func (s *street) cable(dev string, n *tunneltest.Namespace, nets [2]string) {
	s.t.Helper()
	s.must(s.box.Do(func() error {
		la := netlink.NewLinkAttrs()
		la.Name = dev
		veth := &netlink.Veth{LinkAttrs: la, PeerName: "up0"}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		peer, err := netlink.LinkByName("up0")
		if err != nil {
			return err
		}
		return n.Adopt(peer)
	}))
	for end, where := range map[int]*tunneltest.Namespace{1: s.box, 2: n} {
		name := map[int]string{1: dev, 2: "up0"}[end]
		s.must(where.Do(func() error {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			for _, format := range nets {
				a, err := netlink.ParseAddr(fmt.Sprintf(format, end))
				if err != nil {
					return err
				}
				if a.IP.To4() == nil {
					a.Flags = unix.IFA_F_NODAD
				}
				if err := netlink.AddrAdd(l, a); err != nil {
					return err
				}
			}
			return netlink.LinkSetUp(l)
		}))
	}
	s.must(n.Do(func() error { // all of that is mine
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, p := range []string{"198.18.9.0/24", "10.30.9.0/24", "10.201.7.0/24", "2001:db8:9::/64", "fd30::/64", "fd7a:10::7:0/112"} {
			dst, err := netlink.ParseIPNet(p)
			if err != nil {
				return err
			}
			r := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST}
			if err := netlink.RouteAdd(r); err != nil {
				return err
			}
		}
		return everythingTo("up0", 1, dev)
	}))
	s.answer(n)
}

// answer accepts TCP on the ports of the test.
func (s *street) answer(n *tunneltest.Namespace) {
	for _, port := range []int{104, 2575, 8080, 4242} {
		s.must(n.Do(func() error {
			l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			if err == nil {
				s.t.Cleanup(func() { _ = l.Close() })
			}
			return err
		}))
	}
}

// via makes the box send everything to an interface.
func (s *street) via(dev string) {
	s.t.Helper()
	s.must(s.box.Do(func() error { return everythingTo(dev, 2, dev) }))
}

// everythingTo makes the two default routes lead by an interface to one end of the cable of the box's dev.
func everythingTo(name string, end int, dev string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for p, format := range map[string]string{
		"0.0.0.0/0": map[string]string{lan: "10.20.1.%d", wan: "198.18.1.%d", tow: "10.201.0.%d"}[dev],
		"::/0":      map[string]string{lan: "fd20::%d", wan: "2001:db8:18::%d", tow: "fd7a:10::%d"}[dev],
	} {
		dst, err := netlink.ParseIPNet(p)
		if err != nil {
			return err
		}
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Gw: net.ParseIP(fmt.Sprintf(format, end)), Flags: int(netlink.FLAG_ONLINK)}
		if err := netlink.RouteReplace(r); err != nil {
			return err
		}
	}
	return nil
}

// dial tries TCP from a place, with a mark and from an address if these are given.
func dial(from *tunneltest.Namespace, to string, mark int, source string) error {
	return from.Do(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		d := net.Dialer{FallbackDelay: -1, Control: func(_, _ string, c syscall.RawConn) (err error) {
			if e := c.Control(func(fd uintptr) {
				if mark != 0 {
					err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
				}
			}); e != nil {
				return e
			}
			return err
		}}
		if source != "" {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source))
		}
		c, err := d.DialContext(ctx, "tcp", to)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// wire is what has come out of the box, by destination.
type wire struct {
	mu  sync.Mutex
	got map[string]bool
}

func (w *wire) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = map[string]bool{}
}

func (w *wire) has(to string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got[to]
}

// note takes one IP packet.
func (w *wire) note(b []byte) {
	var to netip.Addr
	switch {
	case len(b) >= 40 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_TCP:
		to, b = netip.AddrFrom4([4]byte(b[16:20])), b[20:]
	case len(b) >= 60 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_TCP:
		to, b = netip.AddrFrom16([16]byte(b[24:40])), b[40:]
	default:
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got[netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:])).String()] = true
}

// sniff listens behind an interface of the box: what is dropped on the way back has left all the same.
func (s *street) sniff(dev string) *wire {
	w := &wire{got: map[string]bool{}}
	var fd int
	s.must(s.neighbors[dev].Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})))
		if err != nil {
			return err
		}
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50000})
	}))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if n, from, err := unix.Recvfrom(fd, b, 0); err == nil {
				if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_HOST {
					w.note(b[:n])
				}
			}
		}
	}()
	s.t.Cleanup(func() {
		close(stop)
		<-done
		_ = unix.Close(fd)
	})
	return w
}

// segment sends a TCP segment with ACK alone, and waits for it behind the box.
func segment(from *tunneltest.Namespace, a attempt, seen *wire) error {
	to := netip.MustParseAddrPort(a.to)
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, a.raw)
	binary.BigEndian.PutUint16(b[2:], to.Port())
	b[12], b[13] = 5<<4, 0x10
	if err := from.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		err = unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
		if errors.Is(err, unix.EPERM) { // that is how a drop looks to who sends
			return nil
		}
		return err
	}); err != nil {
		return err
	}
	for end := time.Now().Add(soon); time.Now().Before(end); {
		if seen.has(a.to) {
			return nil
		}
	}
	return errors.New("it does not come out")
}
