package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/internal/iface"
	"github.com/towpath/towpath/tunnel/internal/reach"
	"github.com/towpath/towpath/tunnel/link"
)

const (
	// DefaultInterface is the name of the interface unless Options say otherwise.
	DefaultInterface = "tow0"
	// DefaultFwMark is the mark of the encrypted packets unless Options say otherwise. It is that of package userspace.
	DefaultFwMark = tunnel.MarkOuter
)

// closeTimeout bounds the removal of addresses and routes when a device is closed.
const closeTimeout = 5 * time.Second

// Options are the parts that do not change during the life of a Device.
type Options struct {
	// Log takes warnings, and changes of the network at debug. Nil discards all.
	Log *slog.Logger
	// Interface is the name of the WireGuard interface; empty means DefaultInterface.
	Interface string
	// Linker sets addresses and routes; nil means those of the kernel.
	Linker link.Linker
	// FwMark is set on every encrypted packet; 0 means DefaultFwMark.
	FwMark uint32
	// KeepBlackhole leaves the unreachable routes of the overlay in place when the device is closed, so that other programs' overlay
	// traffic does not leave in the clear until it is back.
	KeepBlackhole bool
}

// Device is a WireGuard interface of the kernel. It implements tunnel.Device and tunnel.Stack.
//
// It belongs to the network namespace of the thread that calls Configure first; all calls must be made in the same.
type Device struct {
	log    *slog.Logger
	name   string
	linker link.Linker
	mark   uint32
	keep   bool
	open   *iface.Sockets

	mu      sync.Mutex // held by Configure and Close
	control atomic.Pointer[wgctrl.Client]
	hold    net.PacketConn
	// endpoints are those configured last: the kernel only knows where peers have roamed to.
	endpoints endpoints
	closed    atomic.Bool
}

var (
	_ tunnel.Device = (*Device)(nil)
	_ tunnel.Stack  = (*Device)(nil)
)

// New makes a device that does nothing until it is configured.
func New(o Options) (*Device, error) {
	d := &Device{log: o.Log, linker: o.Linker, mark: o.FwMark, keep: o.KeepBlackhole}
	var err error
	if d.name, err = iface.Name(o.Interface, DefaultInterface); err != nil {
		return nil, err
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.log = d.log.With("device", d.name)
	d.open = iface.New(d.name)
	if d.linker == nil {
		d.linker = link.Kernel{Log: d.log}
	}
	if d.mark == 0 {
		d.mark = DefaultFwMark
	}
	return d, nil
}

// Configure implements tunnel.Device. The first call creates the interface, or takes over the one of a process that was killed: sessions of
// its peers that stay go on. If another hand removed the interface, it is made again. Peers that go away lose their sessions before their
// routes go, and new peers are known before their routes come; of those, the unreachable ones come first. Connections and listeners that the
// configuration no longer allows end at once.
func (d *Device) Configure(ctx context.Context, c tunnel.Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.closed.Load() {
		return reach.ErrClosed
	}
	can := reach.New(c)
	l, err := iface.Link(d.name, c, can)
	if err != nil {
		return err
	}
	if err := d.ensure(l.MTU); err != nil {
		return err
	}
	applied := d.apply(c)
	// Even if WireGuard refuses: routes into a tunnel that does not work are better than none, which let the overlay's traffic out.
	linked := d.linker.Apply(ctx, l)
	if errors.Is(linked, syscall.EADDRINUSE) { // setting the interface up opens the port
		linked = d.retryPort(ctx, c.ListenPort, l, linked)
	}
	if err := errors.Join(applied, linked); err != nil {
		return err
	}
	d.open.Enforce(can)
	return nil
}

// retryPort takes any other port instead of the one that the kernel remembers from before, if that is good enough.
func (d *Device) retryPort(ctx context.Context, port uint16, l link.Config, err error) error {
	if port == 0 {
		if err := d.control.Load().ConfigureDevice(d.name, wgtypes.Config{ListenPort: new(int)}); err != nil {
			return fmt.Errorf("configure WireGuard in the kernel: %w", err)
		}
		return d.linker.Apply(ctx, l)
	}
	return reach.PortError(port, err)
}

// ensure makes sure that there is an interface, and that it is ours alone.
func (d *Device) ensure(mtu int) error {
	if d.hold == nil {
		hold, err := holdName(d.name)
		if err != nil {
			return err
		}
		d.hold = hold
	}
	made, err := makeInterface(d.name, mtu)
	if err != nil {
		return err
	}
	if made {
		clear(d.endpoints)
	} else if d.control.Load() == nil {
		d.log.Info("took over the WireGuard interface of an earlier process")
	}
	if d.control.Load() != nil {
		return nil
	}
	control, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("talk to WireGuard in the kernel: %w", err)
	}
	d.control.Store(control)
	return nil
}

// Status implements tunnel.Device. Before the first Configure it has the name of the backend only.
func (d *Device) Status(ctx context.Context) (tunnel.Status, error) {
	if err := ctx.Err(); err != nil {
		return tunnel.Status{}, err
	}
	if d.closed.Load() {
		return tunnel.Status{}, reach.ErrClosed
	}
	s := tunnel.Status{Backend: "kernel " + d.name}
	control := d.control.Load()
	if control == nil {
		return s, nil
	}
	dev, err := control.Device(d.name)
	if d.closed.Load() {
		return tunnel.Status{}, reach.ErrClosed
	}
	if err != nil {
		return s, readError(d.name, err)
	}
	report(&s, dev)
	return s, nil
}

// DialContext implements tunnel.Stack for "tcp", "tcp4" and "tcp6". The socket is bound to the interface and an own address. An
// address that no peer has fails at once; one whose peer does not answer fails when ctx ends.
func (d *Device) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d.open.DialContext(ctx, network, address)
}

// Listen implements tunnel.Stack. The address must be one of the device's own; port 0 takes a free one. Connections that come from
// another interface are not accepted.
func (d *Device) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return d.open.Listen(ctx, network, address)
}

// Close implements tunnel.Device. Connections and listeners made through the device fail from now on.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Swap(true) {
		return nil
	}
	d.open.End()
	var err error
	if control := d.control.Load(); control != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		err = errors.Join(d.linker.Remove(ctx, d.name, d.keep), removeInterface(d.name), control.Close())
	}
	if d.hold != nil {
		err = errors.Join(err, d.hold.Close())
	}
	if err != nil {
		return fmt.Errorf("clean up after interface %s: %w", d.name, err)
	}
	return nil
}
