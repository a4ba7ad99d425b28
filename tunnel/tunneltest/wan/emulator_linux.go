package wan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Side is one of the two sides of the line, as the router sees it.
type Side struct {
	// Device is the router's interface on that side.
	Device string
	// Prefixes are what can be reached there. What is sent to other destinations does not pass the emulator.
	Prefixes []netip.Prefix
}

// Config says where an emulated line stands.
type Config struct {
	// Namespace is the file of the router's network namespace; empty means the one of the calling process.
	Namespace string
	// Device names the TUN device to make; at most 15 bytes.
	Device string
	// MTU of the line in bytes; 0 means 1500.
	MTU         int
	Left, Right Side
	// Up carries what comes from the left, Down what comes from the right.
	Up, Down Link
}

// Emulator is an emulated line in a router.
type Emulator struct {
	file     *os.File
	left     []netip.Prefix
	up, down *Line
	reader   sync.WaitGroup
	handle   *netlink.Handle
	rules    []*netlink.Rule
}

// The routing tables with the way into the device, one for each side. Numbers that nothing else uses.
const (
	tableFromLeft  = 7401
	tableFromRight = 7402
)

// Open puts an emulated line between the two sides of a router. It needs the right to administrate the namespace's network.
func Open(c Config) (*Emulator, error) {
	var file *os.File
	err := inNamespace(c.Namespace, func() (err error) {
		if file, err = openTUN(c.Device); err != nil {
			return err
		}
		return trustBothSides(c.Device, c.Left.Device, c.Right.Device)
	})
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, fmt.Errorf("open wan emulator: %w", err)
	}
	e := &Emulator{file: file, left: c.Left.Prefixes}
	write := func(b []byte) {
		// A device that is going down refuses packets; the far end sees a loss, as it should.
		_, _ = e.file.Write(b)
	}
	e.up, e.down = NewLine(c.Up, write), NewLine(c.Down, write)
	e.reader.Go(e.read)
	if err := e.route(c); err != nil {
		return nil, errors.Join(fmt.Errorf("open wan emulator: %w", err), e.Close())
	}
	return e, nil
}

// Stats returns the counters of both directions.
func (e *Emulator) Stats() (up, down Stats) { return e.up.Stats(), e.down.Stats() }

// Close removes the device, with it the routes, and the rules; transit packets then pass directly again.
func (e *Emulator) Close() error {
	var errs []error
	for _, r := range e.rules {
		if err := e.handle.RuleDel(r); err != nil {
			errs = append(errs, fmt.Errorf("remove rule: %w", err))
		}
	}
	e.rules = nil
	if e.handle != nil {
		e.handle.Close()
		e.handle = nil
	}
	if err := e.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		errs = append(errs, err)
	}
	e.reader.Wait()
	e.up.Close()
	e.down.Close()
	return errors.Join(errs...)
}

// read moves packets from the device to the line they belong to until the device is closed.
func (e *Emulator) read() {
	b := make([]byte, 64<<10)
	for {
		n, err := e.file.Read(b)
		if err != nil {
			return
		}
		dst, ok := destination(b[:n])
		if !ok {
			continue
		}
		line := e.up
		for _, p := range e.left {
			if p.Contains(dst) {
				line = e.down
			}
		}
		line.Send(b[:n])
	}
}

// destination reads the destination address of an IP packet.
func destination(packet []byte) (netip.Addr, bool) {
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(packet[16:20])), true
	case len(packet) >= 40 && packet[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(packet[24:40])), true
	}
	return netip.Addr{}, false
}

// route brings the device up and sends transit packets into it: what comes in on one side and belongs to the other. What comes out of
// the device matches no rule and takes the ordinary routes.
func (e *Emulator) route(c Config) error {
	var err error
	if e.handle, err = handleIn(c.Namespace); err != nil {
		return err
	}
	tun, err := e.handle.LinkByName(c.Device)
	if err != nil {
		return fmt.Errorf("find device %s: %w", c.Device, err)
	}
	mtu := c.MTU
	if mtu == 0 {
		mtu = 1500
	}
	if err := e.handle.LinkSetMTU(tun, mtu); err != nil {
		return fmt.Errorf("set MTU of %s: %w", c.Device, err)
	}
	// The queue that counts is the Line's: the device's own must not drop before it.
	if err := e.handle.LinkSetTxQLen(tun, 20_000); err != nil {
		return fmt.Errorf("set queue of %s: %w", c.Device, err)
	}
	if err := e.handle.LinkSetUp(tun); err != nil {
		return fmt.Errorf("set %s up: %w", c.Device, err)
	}
	for _, d := range []struct {
		from  Side
		to    Side
		table int
	}{{c.Left, c.Right, tableFromLeft}, {c.Right, c.Left, tableFromRight}} {
		for _, p := range d.to.Prefixes {
			dst := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
			if err := e.handle.RouteAdd(&netlink.Route{LinkIndex: tun.Attrs().Index, Dst: dst, Table: d.table}); err != nil {
				return fmt.Errorf("route %v into %s: %w", p, c.Device, err)
			}
		}
		for _, family := range families(d.to.Prefixes) {
			r := netlink.NewRule()
			r.Family, r.IifName, r.Table, r.Priority = family, d.from.Device, d.table, d.table
			if err := e.handle.RuleAdd(r); err != nil {
				return fmt.Errorf("rule for %s: %w", d.from.Device, err)
			}
			e.rules = append(e.rules, r)
		}
	}
	return nil
}

// families lists the address families of prefixes.
func families(prefixes []netip.Prefix) []int {
	var list []int
	for _, p := range prefixes {
		family := netlink.FAMILY_V4
		if p.Addr().Is6() {
			family = netlink.FAMILY_V6
		}
		if !slices.Contains(list, family) {
			list = append(list, family)
		}
	}
	return list
}

// openTUN makes a TUN device in the namespace of the calling thread.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make TUN device %q: %w", name, err)
	}
	// Only now: the poller refuses a TUN file without a device.
	return os.NewFile(uintptr(fd), name), nil
}

// trustBothSides turns off reverse-path filtering: packets come out of the TUN device with source addresses of both sides.
func trustBothSides(devices ...string) error {
	for _, d := range append(devices, "all", "default") {
		name := filepath.Join("/proc/sys/net/ipv4/conf", d, "rp_filter")
		if err := os.WriteFile(name, []byte("0"), 0o644); err != nil {
			return fmt.Errorf("turn off reverse-path filtering: %w", err)
		}
	}
	return nil
}

// inNamespace runs f on a thread that is in the namespace of the file. What f opens stays there. f must not start goroutines.
func inNamespace(file string, f func() error) error {
	if file == "" {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so that no other one inherits the namespace.
		runtime.LockOSThread()
		ns, err := netns.GetFromPath(file)
		if err != nil {
			result <- fmt.Errorf("open namespace %s: %w", file, err)
			return
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			result <- fmt.Errorf("enter namespace %s: %w", file, err)
			return
		}
		result <- f()
	}()
	return <-result
}

func handleIn(file string) (*netlink.Handle, error) {
	if file == "" {
		return netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	ns, err := netns.GetFromPath(file)
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", file, err)
	}
	defer ns.Close()
	return netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
}
