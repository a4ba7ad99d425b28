package netstack_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	stock "golang.zx2c4.com/wireguard/tun/netstack"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/uapi"
)

const benchMTU = 1420

// BenchmarkThroughput compares this package with the library's own netstack, between two devices of one process over UDP loopback.
// One operation is 256 KiB.
func BenchmarkThroughput(b *testing.B) {
	for _, kind := range []struct {
		name string
		make func(testing.TB) (stack, tunnel.Config)
	}{
		{"towpath", ours}, {"stock", theirs},
	} {
		for _, streams := range []int{1, 4} {
			b.Run(fmt.Sprintf("%s/streams=%d", kind.name, streams), func(b *testing.B) { throughput(b, kind.make, streams) })
		}
	}
}

// stack is what both kinds can do.
type stack interface {
	configure(tunnel.Config) error
	port() uint16
	listen(netip.AddrPort) (net.Listener, error)
	dial(context.Context, netip.AddrPort) (net.Conn, error)
}

func throughput(b *testing.B, newStack func(testing.TB) (stack, tunnel.Config), streams int) {
	const chunk = 256 << 10
	var stacks [2]stack
	var confs [2]tunnel.Config
	for i := range stacks {
		stacks[i], confs[i] = newStack(b)
		confs[i].Addresses = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, byte(i + 1)}), 32)}
		if err := stacks[i].configure(confs[i]); err != nil {
			b.Fatal(err)
		}
	}
	for i := range stacks {
		key, err := confs[1-i].PrivateKey.Public()
		if err != nil {
			b.Fatal(err)
		}
		confs[i].Peers = []tunnel.Peer{{
			PublicKey: key, AllowedIPs: confs[1-i].Addresses,
			Endpoint: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), stacks[1-i].port()),
		}}
		if err := stacks[i].configure(confs[i]); err != nil {
			b.Fatal(err)
		}
	}
	at := netip.MustParseAddrPort("100.64.0.2:104")
	ln, err := stacks[1].listen(at)
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	done := make(chan int64, streams)
	var conns []net.Conn
	for range streams {
		c, err := stacks[0].dial(b.Context(), at)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		s, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		conns = append(conns, c)
		go func() {
			n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, make([]byte, chunk))
			done <- n
		}()
	}
	data := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ReportAllocs()
	b.ResetTimer()
	for i, c := range conns {
		n := b.N / streams
		if i < b.N%streams {
			n++
		}
		go func() {
			for range n {
				if _, err := c.Write(data); err != nil {
					b.Error(err)
					break
				}
			}
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		}()
	}
	var total int64
	for range streams {
		total += <-done
	}
	b.StopTimer()
	if want := int64(b.N) * chunk; total != want {
		b.Errorf("%d bytes arrived of %d", total, want)
	}
}

func ours(t testing.TB) (stack, tunnel.Config) { //nolint:iface // two implementations of one signature
	d, err := netstack.New(netstack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return ourStack{d}, config(t, "100.64.0.1/32", benchMTU)
}

type ourStack struct{ *netstack.Device }

func (s ourStack) configure(c tunnel.Config) error { return s.Configure(context.Background(), c) }
func (s ourStack) port() uint16 {
	st, _ := s.Status(context.Background())
	return st.ListenPort
}

func (s ourStack) listen(a netip.AddrPort) (net.Listener, error) {
	return s.Listen(context.Background(), "tcp", a.String())
}

func (s ourStack) dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	return s.DialContext(ctx, "tcp", a.String())
}

func theirs(t testing.TB) (stack, tunnel.Config) { //nolint:iface // as above
	return &theirStack{t: t}, config(t, "100.64.0.1/32", benchMTU)
}

type theirStack struct {
	t   testing.TB
	dev *device.Device
	net *stock.Net
	old tunnel.Config
}

func (s *theirStack) configure(c tunnel.Config) error {
	if s.dev == nil {
		tun, n, err := stock.CreateNetTUN([]netip.Addr{c.Addresses[0].Addr()}, nil, benchMTU)
		if err != nil {
			return err
		}
		s.net, s.dev = n, device.NewDevice(tun, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
		s.t.Cleanup(s.dev.Close)
	}
	text := uapi.Render(tunnel.Diff(s.old, c))
	s.old = c
	if err := s.dev.IpcSetOperation(bytes.NewReader(text)); err != nil {
		return err
	}
	return s.dev.Up()
}

func (s *theirStack) port() uint16 {
	var b bytes.Buffer
	if err := s.dev.IpcGetOperation(&b); err != nil {
		return 0
	}
	d, _ := uapi.Parse(&b)
	return d.ListenPort
}

func (s *theirStack) listen(a netip.AddrPort) (net.Listener, error) {
	return s.net.ListenTCPAddrPort(a)
}

func (s *theirStack) dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	return s.net.DialContextTCPAddrPort(ctx, a)
}
