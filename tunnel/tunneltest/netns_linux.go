package tunneltest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/tunnel"
)

// NeedRoot skips the test, saying so, unless it may make network namespaces and TUN interfaces.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("needs root and a TUN driver: %v", err)
	}
}

// Namespace is a network namespace of a test.
type Namespace struct {
	handle netns.NsHandle
}

// NewNamespace makes an empty namespace, with only its loopback interface up, that goes away with the test.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	NeedRoot(t)
	n := &Namespace{}
	err := onOwnThread(func() (err error) {
		if n.handle, err = netns.New(); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { _ = n.handle.Close() })
	return n
}

// Do runs f inside the namespace, on a thread of its own. Goroutines that f starts are elsewhere; sockets that it opens stay inside.
func (n *Namespace) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return f()
	})
}

// onOwnThread ends the thread with f, so that nothing else ever runs in its namespace. It returns also if f fails the test.
func onOwnThread(f func() error) error {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		err = f()
	}()
	<-done
	return err
}

// Switch connects namespaces by Ethernet.
type Switch struct {
	t      testing.TB
	ns     *Namespace
	bridge string
	ports  int
}

// NewSwitch makes a switch that goes away with the test.
func NewSwitch(t testing.TB) *Switch {
	t.Helper()
	s := &Switch{t: t, ns: NewNamespace(t), bridge: "br0"}
	err := s.ns.Do(func() error {
		b := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: s.bridge}}
		if err := netlink.LinkAdd(b); err != nil {
			return err
		}
		return netlink.LinkSetUp(b)
	})
	if err != nil {
		t.Fatalf("make a switch: %v", err)
	}
	return s
}

// Plug gives the namespace an interface eth0 on the switch with the address.
func (s *Switch) Plug(n *Namespace, a netip.Prefix) {
	s.t.Helper()
	s.ports++
	port := fmt.Sprintf("port%d", s.ports)
	err := s.ns.Do(func() error {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: "eth0", PeerNamespace: netlink.NsFd(n.handle),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		bridge, err := netlink.LinkByName(s.bridge)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(veth, bridge); err != nil {
			return err
		}
		return netlink.LinkSetUp(veth)
	})
	if err == nil {
		err = n.Do(func() error {
			eth, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			ip := &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}
			addr := &netlink.Addr{IPNet: ip}
			if a.Addr().Is6() {
				addr.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(eth, addr); err != nil {
				return err
			}
			return netlink.LinkSetUp(eth)
		})
	}
	if err != nil {
		s.t.Fatalf("plug in %v: %v", a, err)
	}
}

// Inside makes all calls of a device inside the namespace.
func (n *Namespace) Inside(d Endpointed) Endpointed { return &inside{n, d} }

type inside struct {
	ns     *Namespace
	device Endpointed
}

func (i *inside) Configure(ctx context.Context, c tunnel.Config) error {
	return i.ns.Do(func() error { return i.device.Configure(ctx, c) })
}

func (i *inside) Status(ctx context.Context) (s tunnel.Status, err error) {
	err = i.ns.Do(func() (err error) {
		s, err = i.device.Status(ctx)
		return err
	})
	return s, err
}

func (i *inside) Close() error { return i.ns.Do(i.device.Close) }

func (i *inside) DialContext(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = i.ns.Do(func() (err error) {
		c, err = i.device.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

func (i *inside) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	err = i.ns.Do(func() (err error) {
		l, err = i.device.Listen(ctx, network, address)
		return err
	})
	return l, err
}

// Adopt moves a network interface of the calling thread's namespace into this one.
func (n *Namespace) Adopt(l netlink.Link) error {
	if err := netlink.LinkSetNsFd(l, int(n.handle)); err != nil {
		return fmt.Errorf("move %s: %w", l.Attrs().Name, err)
	}
	return nil
}
