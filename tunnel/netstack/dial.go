package netstack

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/towpath/towpath/tunnel/internal/reach"
)

// DialContext implements tunnel.Stack for "tcp", "tcp4" and "tcp6". An address that no peer has fails at once; one whose peer does not
// answer fails when ctx ends.
func (d *Device) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	a, err := reach.ParseAddress(network, address)
	if err != nil {
		return nil, reach.Error("dial", network, a, err)
	}
	c, err := d.dial(ctx, a)
	if err != nil {
		return nil, reach.Error("dial", network, a, err)
	}
	return c, nil
}

func (d *Device) dial(ctx context.Context, a netip.AddrPort) (*tcpConn, error) {
	r, can, err := d.ready(ctx)
	if err != nil {
		return nil, err
	}
	if err := can.CheckDial(a.Addr()); err != nil {
		return nil, err
	}
	wq := new(waiter.Queue)
	ep, terr := r.stack.NewEndpoint(tcp.ProtocolNumber, protocol(a.Addr()), wq)
	if terr != nil {
		return nil, errno(terr)
	}
	if err := connect(ctx, r, ep, wq, can.Source(a.Addr()), a); err != nil {
		ep.Abort()
		if d.closed.Load() {
			return nil, reach.ErrClosed
		}
		return nil, err
	}
	return newConn(ep, wq, &r.open)
}

func connect(ctx context.Context, r *running, ep tcpip.Endpoint, wq *waiter.Queue, from netip.Addr, to netip.AddrPort) error {
	if err := ep.Bind(fullAddress(netip.AddrPortFrom(from, 0))); err != nil {
		return fmt.Errorf("from %v: %w", from, errno(err))
	}
	entry, connected := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	err := ep.Connect(fullAddress(to))
	if _, started := err.(*tcpip.ErrConnectStarted); !started {
		return errno(err)
	}
	select {
	case <-connected:
		return errno(ep.LastError())
	case <-r.queue.done:
		return reach.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Listen implements tunnel.Stack. The address must be one of the device's own; port 0 takes a free one.
func (d *Device) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	a, err := reach.ParseAddress(network, address)
	if err != nil {
		return nil, reach.Error("listen", network, a, err)
	}
	l, err := d.listen(ctx, a)
	if err != nil {
		return nil, reach.Error("listen", network, a, err)
	}
	return l, nil
}

func (d *Device) listen(ctx context.Context, a netip.AddrPort) (*listener, error) {
	r, can, err := d.ready(ctx)
	if err != nil {
		return nil, err
	}
	if err := can.CheckListen(a.Addr()); err != nil {
		return nil, err
	}
	return listen(r.stack, a, &r.open)
}

func (d *Device) ready(ctx context.Context) (*running, *reach.Reach, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if d.closed.Load() {
		return nil, nil, reach.ErrClosed
	}
	can := d.reach.Load()
	if can == nil {
		return nil, nil, reach.ErrNotConfigured
	}
	return d.run.Load(), can, nil
}
