package netstack

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/conn"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/capture"
	"github.com/towpath/towpath/tunnel/internal/reach"
	"github.com/towpath/towpath/tunnel/internal/wgo"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// Options are the parts that do not change during the life of a Device.
type Options struct {
	// Log takes what wireguard-go says: warnings, and the rest at debug. Nil discards it.
	Log *slog.Logger
	// Bind carries the encrypted packets. Nil means UDP sockets of the host, IPv4 and IPv6.
	Bind conn.Bind
	// Name appears in logs and in Status; empty means "netstack".
	Name string
	// Socket is the name under which wg(8) finds the device, if this process may make its socket; empty means that it cannot be found.
	Socket string
	// FwMark is set on every encrypted packet, if this process may (CAP_NET_ADMIN, socket(7)); without that right packets are not marked.
	// 0 sets none.
	FwMark uint32
	// Tap is shown every packet between WireGuard and the stack; it may be nil.
	Tap *capture.Tap
}

// Device is a WireGuard device inside this process. It implements tunnel.Device and tunnel.Stack.
type Device struct {
	log  *slog.Logger
	bind conn.Bind
	name string
	find string
	mark uint32
	tap  *capture.Tap

	mu     sync.Mutex // held by Configure and Close
	run    atomic.Pointer[running]
	reach  atomic.Pointer[reach.Reach] // nil until a Configure has succeeded
	closed atomic.Bool
}

// running is what the first Configure builds.
type running struct {
	queue *queue
	stack *stack.Stack
	wg    *wgo.Device
	uapi  *wgo.Socket // may be nil
	open  reach.Set
	own   map[netip.Addr]bool
}

var (
	_ tunnel.Device = (*Device)(nil)
	_ tunnel.Stack  = (*Device)(nil)
)

// New makes a device that does nothing until it is configured.
func New(o Options) (*Device, error) {
	d := &Device{log: o.Log, bind: o.Bind, name: o.Name, find: o.Socket, tap: o.Tap}
	if d.bind == nil {
		d.bind = conn.NewDefaultBind()
	}
	if d.name == "" {
		d.name = "netstack"
	}
	if o.FwMark != 0 && mayMark() {
		d.mark = o.FwMark
	}
	return d, nil
}

// Configure implements tunnel.Device. Connections to addresses that no peer has any more, and connections and listeners on own
// addresses that are gone, end at once. A changed MTU holds for all further packets. Blackhole has no effect: there is no other way
// out.
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
	mtu := c.MTU
	if mtu == 0 {
		mtu = tunnel.DefaultMTU
	}
	r := d.run.Load()
	if r == nil {
		var err error
		if r, err = d.start(mtu); err != nil {
			return err
		}
		d.run.Store(r)
	}
	next := reach.New(c)
	for _, a := range next.Own() {
		if !r.own[a] {
			if err := addAddress(r.stack, a); err != nil {
				return err
			}
			r.own[a] = true
		}
	}
	r.queue.setMTU(mtu)
	if err := r.wg.Apply(c); err != nil {
		return err
	}
	d.reach.Store(next)
	r.open.Enforce(next)
	for a := range r.own {
		if next.CheckListen(a) != nil {
			delete(r.own, a)
			if err := removeAddress(r.stack, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Device) start(mtu int) (*running, error) {
	r := &running{queue: newQueue(d.name, mtu), own: map[netip.Addr]bool{}}
	l := &link{queue: r.queue}
	var err error
	if r.stack, err = newStack(l); err != nil {
		return nil, err
	}
	log := d.log
	if log != nil {
		log = log.With("device", d.name)
	}
	if r.wg, err = wgo.New(&tunDevice{queue: r.queue, in: &coalescer{link: l}, tap: d.tap}, d.bind, d.mark, log); err != nil {
		r.stack.Close()
		return nil, err
	}
	if d.find == "" {
		return r, nil
	}
	if r.uapi, err = r.wg.Listen(d.find); err != nil && log != nil {
		log.Debug("wg(8) cannot show this device", "error", err)
	}
	return r, nil
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
	r := d.run.Load()
	if r == nil {
		return tunnel.Status{Backend: d.name}, nil
	}
	s, err := ask(r.wg)
	s.Backend = d.name
	return s, err
}

// Close implements tunnel.Device. Connections and listeners fail from now on with an error that wraps net.ErrClosed.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Swap(true) {
		return nil
	}
	r := d.run.Load()
	if r == nil {
		return nil
	}
	r.open.EndAll(reach.ErrClosed)
	var err error
	if r.uapi != nil {
		err = r.uapi.Close()
	}
	r.wg.Close()
	r.stack.Close()
	r.stack.Wait()
	if err != nil {
		return fmt.Errorf("close the configuration socket of %s: %w", d.name, err)
	}
	return nil
}
