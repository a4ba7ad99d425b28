package wanbench

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/tunneltest/wan"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// datagramOverhead is what IP and UDP add on the line, in bytes.
const datagramOverhead = 28

// lineBind sends by an emulated line.
type lineBind struct {
	*tunneltest.Bind
	line *wan.Line
	to   atomic.Value // conn.Endpoint: there is one peer
}

func newLineBind(b *tunneltest.Bind, l wan.Link) *lineBind {
	n := &lineBind{Bind: b}
	n.line = wan.NewLine(l, func(p []byte) {
		if to, ok := n.to.Load().(tunneltest.Endpoint); ok {
			_ = b.Send([][]byte{p[datagramOverhead:]}, to)
		}
	})
	return n
}

// Send implements conn.Bind.
func (n *lineBind) Send(bufs [][]byte, to conn.Endpoint) error {
	n.to.Store(to)
	var b [2048]byte
	for _, p := range bufs {
		n.line.Send(b[:datagramOverhead+copy(b[datagramOverhead:], p)])
	}
	return nil
}

// ends are two boxes and the line between them: up goes from the clinic to the center.
type ends struct {
	clinic, center *netstack.Device
	up, down       *wan.Line
}

const (
	clinicAddress = "100.64.0.1"
	centerAddress = "100.64.0.2"
)

func newEnds(tb testing.TB, up, down wan.Link) *ends {
	tb.Helper()
	internet := tunneltest.NewNetwork()
	e := &ends{}
	var confs [2]tunnel.Config
	var devices [2]*netstack.Device
	for i, under := range []string{"198.51.100.1", "198.51.100.2"} {
		bind := newLineBind(internet.Bind(netip.MustParseAddr(under)), []wan.Link{up, down}[i])
		d, err := netstack.New(netstack.Options{Bind: bind})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = d.Close(); bind.line.Close() })
		key, err := wgkey.NewPrivateKey()
		if err != nil {
			tb.Fatal(err)
		}
		confs[i] = tunnel.Config{
			PrivateKey: key, ListenPort: 51820,
			Addresses: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr([]string{clinicAddress, centerAddress}[i]), 32)},
		}
		devices[i] = d
		if i == 0 {
			e.up = bind.line
		} else {
			e.down = bind.line
		}
	}
	for i, under := range []string{"198.51.100.2:51820", "198.51.100.1:51820"} {
		key, err := confs[1-i].PrivateKey.Public()
		if err != nil {
			tb.Fatal(err)
		}
		confs[i].Peers = []tunnel.Peer{{PublicKey: key, AllowedIPs: confs[1-i].Addresses, Endpoint: netip.MustParseAddrPort(under)}}
		ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
		if err := devices[i].Configure(ctx, confs[i]); err != nil {
			tb.Fatal(err)
		}
		cancel()
	}
	e.clinic, e.center = devices[0], devices[1]
	return e
}
