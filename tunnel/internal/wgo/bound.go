package wgo

import (
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// The queues of wireguard-go take many thousands of packets, each in a buffer of 64 KiB, and its pools of buffers have no bound. So
// packets are only read, from the interface or the network, while few are inside: the kernel's queues hold the rest, and drop what is
// too much, as TCP expects it. A packet is inside from its Read to its Send, or from its receipt to its Write.

// boundTun counts packets in as they are read, and those of the other direction out as they are written.
type boundTun struct {
	tun.Device
	out, in *window
	lent    lent // used by the one reader only
}

// Read implements tun.Device.
func (t *boundTun) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	t.out.take(t.lent.kept(bufs))
	t.out.wait()
	n, err := t.Device.Read(bufs, sizes, offset)
	t.lent.fill(bufs, n, func(int) bool { return true })
	return n, err
}

// Write implements tun.Device.
func (t *boundTun) Write(bufs [][]byte, offset int) (int, error) {
	n, err := t.Device.Write(bufs, offset)
	t.in.giveBack(len(bufs))
	return n, err
}

// boundBind is the counterpart of boundTun.
type boundBind struct {
	conn.Bind
	out, in *window
	plain   bool // UDP sockets and nothing around them
	calls   bool // others, and is not called: it had no fixed port
}

// Send implements conn.Bind.
func (b *boundBind) Send(packets [][]byte, to conn.Endpoint) error {
	err := b.Bind.Send(packets, to)
	b.out.giveBack(len(packets))
	return err
}

// Open implements conn.Bind. Only what WireGuard accepts at first sight as part of a session counts, so that others cannot fill the window.
//
// WireGuard does not watch routes for a Bind that is wrapped: a source address that it remembers would stay when the route has gone. Who calls
// others needs none; who is called answers from where he was called.
func (b *boundBind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.calls = b.calls || port == 0 // later it is the one it got
	forget := b.plain && b.calls
	receive, actual, err := b.Bind.Open(port)
	bound := make([]conn.ReceiveFunc, len(receive))
	for i, fn := range receive {
		var l lent // each has one caller
		bound[i] = func(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
			b.in.take(l.kept(packets))
			b.in.wait()
			n, err := fn(packets, sizes, eps)
			if forget {
				for _, e := range eps[:n] {
					e.ClearSrc()
				}
			}
			l.fill(packets, n, func(i int) bool {
				return sizes[i] > device.MessageKeepaliveSize && packets[i][0] == device.MessageTransportType
			})
			return n, err
		}
	}
	return bound, actual, err
}

// bound limits what a device on t and b holds at a time to about maxHeld packets in each direction.
func bound(t tun.Device, b conn.Bind) (tun.Device, conn.Bind) {
	out, in := newWindow(maxHeld), newWindow(maxHeld)
	_, plain := b.(*conn.StdNetBind)
	return &boundTun{Device: t, out: out, in: in}, &boundBind{Bind: b, out: out, in: in, plain: plain}
}
