package userspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/capture"
	"github.com/towpath/towpath/tunnel/internal/iface"
	"github.com/towpath/towpath/tunnel/internal/reach"
	"github.com/towpath/towpath/tunnel/internal/wgo"
	"github.com/towpath/towpath/tunnel/link"
	"github.com/towpath/towpath/tunnel/wgkey"
)

const (
	// DefaultInterface is the name of the interface unless Options say otherwise.
	DefaultInterface = "tow0"
	// DefaultFwMark is the mark of the encrypted packets unless Options say otherwise.
	DefaultFwMark = tunnel.MarkOuter
)

// closeTimeout bounds the removal of addresses and routes when a device is closed.
const closeTimeout = 5 * time.Second

// Options are the parts that do not change during the life of a Device.
type Options struct {
	// Log takes what wireguard-go says (warnings, and the rest at debug) and warnings of this package. Nil discards all.
	Log *slog.Logger
	// Interface is the name of the TUN interface; empty means DefaultInterface.
	Interface string
	// Linker sets addresses and routes; nil means those of the kernel.
	Linker link.Linker
	// Bind carries the encrypted packets; nil means UDP sockets, IPv4 and IPv6.
	Bind conn.Bind
	// FwMark is set on every encrypted packet; 0 means DefaultFwMark.
	FwMark uint32
	// KeepBlackhole leaves the unreachable routes of the overlay in place when the device is closed, so that other programs' overlay
	// traffic does not leave in the clear until it is back.
	KeepBlackhole bool
	// Tap is shown every packet between WireGuard and the interface; it may be nil.
	Tap *capture.Tap
}

// Device is a WireGuard device with a TUN interface. It implements tunnel.Device and tunnel.Stack.
//
// Sockets belong to the network namespace of the thread that calls Configure, DialContext or Listen; all must be the same.
type Device struct {
	log    *slog.Logger
	name   string
	linker link.Linker
	bind   conn.Bind
	mark   uint32
	keep   bool
	tap    *capture.Tap

	mu     sync.Mutex // held by Configure and Close
	wg     atomic.Pointer[wgo.Device]
	tun    *quietTun
	uapi   *wgo.Socket // may be nil
	open   *iface.Sockets
	closed atomic.Bool
}

var (
	_ tunnel.Device = (*Device)(nil)
	_ tunnel.Stack  = (*Device)(nil)
)

// New makes a device that does nothing until it is configured.
func New(o Options) (*Device, error) {
	d := &Device{log: o.Log, name: o.Interface, linker: o.Linker, bind: o.Bind, mark: o.FwMark, keep: o.KeepBlackhole, tap: o.Tap}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if d.name, err = iface.Name(d.name, DefaultInterface); err != nil {
		return nil, err
	}
	d.log = d.log.With("device", d.name)
	d.open = iface.New(d.name)
	if d.linker == nil {
		d.linker = link.Kernel{Log: d.log}
	}
	if d.bind == nil {
		d.bind = conn.NewDefaultBind()
	}
	if d.mark == 0 {
		d.mark = DefaultFwMark
	}
	return d, nil
}

// Configure implements tunnel.Device. The first call creates the interface, and so does one after somebody has deleted it. Peers that go away lose their sessions before their routes
// go, and new peers are known before their routes come; of those, the unreachable ones come first. Connections and listeners that
// the configuration no longer allows end at once.
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
	d.bury()
	if d.wg.Load() == nil {
		if err := d.start(l.MTU); err != nil {
			return err
		}
	}
	d.tun.setMTU(l.MTU)
	// Even if WireGuard refuses: routes into a tunnel that does not work are better than none, which let the overlay's traffic out.
	if err := errors.Join(d.wg.Load().Apply(c), d.linker.Apply(ctx, l)); err != nil {
		return err
	}
	d.open.Enforce(can)
	return nil
}

// bury takes away what is left when somebody has deleted the interface, so that there can be another. What was open through it ends.
func (d *Device) bury() {
	wg := d.wg.Load()
	if wg == nil || !wg.Dead() {
		return
	}
	d.log.Warn("the tunnel's interface is gone; it is made anew")
	d.open.Enforce(reach.New(tunnel.Config{}))
	if d.uapi != nil {
		_ = d.uapi.Close()
		d.uapi = nil
	}
	wg.Close()
	d.wg.Store(nil)
}

func (d *Device) start(mtu int) error {
	t, err := tun.CreateTUN(d.name, mtu)
	if err != nil {
		return explain(d.name, err)
	}
	d.tun = newQuietTun(t, mtu, d.tap)
	wg, err := wgo.New(d.tun, d.bind, d.mark, d.log)
	if err != nil {
		return err
	}
	if d.uapi, err = wg.Listen(d.name); err != nil {
		d.log.Warn("wg(8) cannot show this interface", "error", err)
	}
	d.wg.Store(wg)
	return nil
}

func explain(name string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		hint = ": this needs the capability NET_ADMIN; run as root or use the netstack backend"
	case errors.Is(err, syscall.EBUSY):
		hint = ": another program holds it; stop that one or choose another interface name"
	case errors.Is(err, syscall.EINVAL):
		hint = ": an interface of another kind has this name; remove it or choose another name"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV):
		hint = ": load the kernel module tun, pass /dev/net/tun into the container, or use the netstack backend"
	}
	return fmt.Errorf("create the TUN interface %s: %w%s", name, err, hint)
}

// Status implements tunnel.Device. Before the first Configure it has the name of the backend only.
func (d *Device) Status(ctx context.Context) (tunnel.Status, error) {
	return d.status(ctx, (*wgo.Device).Status)
}

// StatusOf is Status for a few peers only. With thousands it costs less than half as much.
func (d *Device) StatusOf(ctx context.Context, keys []wgkey.PublicKey) (tunnel.Status, error) {
	return d.status(ctx, func(wg *wgo.Device) (tunnel.Status, error) { return wg.StatusOf(keys) })
}

func (d *Device) status(ctx context.Context, ask func(*wgo.Device) (tunnel.Status, error)) (tunnel.Status, error) {
	if err := ctx.Err(); err != nil {
		return tunnel.Status{}, err
	}
	if d.closed.Load() {
		return tunnel.Status{}, reach.ErrClosed
	}
	var s tunnel.Status
	var err error
	if wg := d.wg.Load(); wg != nil {
		s, err = ask(wg)
	}
	s.Backend = "userspace " + d.name
	return s, err
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
	wg := d.wg.Load()
	if wg == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := d.linker.Remove(ctx, d.name, d.keep)
	if d.uapi != nil {
		err = errors.Join(err, d.uapi.Close())
	}
	wg.Close() // and with it the interface
	if err != nil {
		return fmt.Errorf("clean up after interface %s: %w", d.name, err)
	}
	return nil
}
