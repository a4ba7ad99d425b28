package relay_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/relay"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// realLab is three devices on loopback, with real sockets: a hub with a relay, and two that know the hub's port alone; or each other's.
type realLab struct {
	dev  [3]*netstack.Device
	conf [3]tunnel.Config
	port [3]uint16
	keys [3]wgkey.PublicKey
	rel  *relay.Relay
}

func newRealLab(tb testing.TB, relayed bool) *realLab {
	tb.Helper()
	l := &realLab{rel: relay.New(relay.Options{Limits: relay.Limits{PairBytes: 1 << 40, TotalBytes: 1 << 40}})}
	for i := range l.dev {
		key, err := wgkey.NewPrivateKey()
		if err != nil {
			tb.Fatal(err)
		}
		if l.keys[i], err = key.Public(); err != nil {
			tb.Fatal(err)
		}
		o := netstack.Options{Name: fmt.Sprint("node", i)}
		if i == 0 {
			o.Bind = l.rel.Bind(conn.NewDefaultBind())
		}
		if l.dev[i], err = netstack.New(o); err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = l.dev[i].Close() })
		l.conf[i] = tunnel.Config{PrivateKey: key, Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}), 32)}, MTU: 1420}
		l.apply(tb, i)
		st, err := l.dev[i].Status(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		l.port[i] = st.ListenPort
	}
	if err := l.rel.Admit(relay.Admission{
		Own: l.keys[:1], Members: []relay.Member{{Key: l.keys[1]}, {Key: l.keys[2]}}, Pairs: [][2]int{{0, 1}},
	}); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.rel.Run(ctx, l.dev[0]) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	l.know(0, 1, 0)
	l.know(0, 2, 0)
	l.know(1, 0, l.port[0])
	l.know(2, 0, l.port[0])
	way := [2]uint16{l.port[0], 0}
	if !relayed {
		way[0] = l.port[2]
	}
	l.know(1, 2, way[0])
	l.know(2, 1, way[1])
	for i := range l.dev {
		l.apply(tb, i)
	}
	return l
}

func (l *realLab) know(i, j int, port uint16) {
	p := tunnel.Peer{PublicKey: l.keys[j], AllowedIPs: l.conf[j].Addresses}
	if port != 0 {
		p.Endpoint = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
		p.PersistentKeepalive = 25 * time.Second
	}
	l.conf[i].Peers = append(l.conf[i].Peers, p)
}

func (l *realLab) apply(tb testing.TB, i int) {
	tb.Helper()
	if err := l.dev[i].Configure(tb.Context(), l.conf[i]); err != nil {
		tb.Fatal(err)
	}
}

// stream connects node 1 to node 2 and returns what came in when it has ended.
func (l *realLab) stream(tb testing.TB) (net.Conn, <-chan int64) {
	tb.Helper()
	ln, err := l.dev[2].Listen(tb.Context(), "tcp", "10.9.0.3:104")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	got := make(chan int64, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			got <- -1
			return
		}
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
		_ = c.Close()
		got <- n
	}()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	c, err := l.dev[1].DialContext(ctx, "tcp", "10.9.0.3:104")
	if err != nil {
		tb.Fatalf("%v; the relay counted %+v", err, l.rel.Counters())
	}
	return c, got
}

// floodRatio is how many packets of a flood come with each 64 KiB of a pair, which are about fifty packets. A machine whose cores are all busy
// with receiving loses others' packets too, whatever is done with them, so that this is no race of speeds.
const floodRatio = 200

// A flood of garbage and of replayed initiations does not stop a pair that works. Nobody who floods gets more than it sent.
func TestFloodsDoNotStopAPair(t *testing.T) {
	l := newRealLab(t, true)
	c, got := l.stream(t)
	flood, err := net.Dial("udp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.port[0]).String())
	if err != nil {
		t.Fatal(err)
	}
	var sent, back atomic.Int64
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		b := make([]byte, 2048)
		for {
			n, err := flood.Read(b)
			if err != nil {
				return
			}
			back.Add(int64(n))
		}
	}()
	var packets [][]byte
	for i := range uint32(64) {
		packets = append(packets, initiation(l.keys[2], i), initiation(l.keys[0], i), initiation(keyOf(9), i), response(l.keys[1], i, i), cookie(i), data(i, 1400))
	}
	const total = 2 << 20
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	buf := make([]byte, 64<<10)
	for n := 0; n < total; n += len(buf) {
		for i := range floodRatio {
			m, err := flood.Write(packets[(n/len(buf)*floodRatio+i)%len(packets)])
			if err != nil {
				t.Fatal(err)
			}
			sent.Add(int64(m))
		}
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Close()
	if n := <-got; n != total {
		t.Errorf("%d of %d bytes arrived", n, total)
	}
	_ = flood.Close()
	<-reading
	if sent.Load() == 0 || back.Load() > sent.Load() {
		t.Errorf("who flooded sent %d bytes and got %d", sent.Load(), back.Load())
	}
	t.Logf("%d bytes of flood, %d came back, %+v", sent.Load(), back.Load(), l.rel.Counters())
}

// BenchmarkThroughput compares what a pair carries through the relay with what it carries directly. One operation is 256 KiB.
func BenchmarkThroughput(b *testing.B) {
	for _, relayed := range []bool{false, true} {
		b.Run(map[bool]string{false: "direct", true: "relayed"}[relayed], func(b *testing.B) {
			l := newRealLab(b, relayed)
			c, got := l.stream(b)
			buf := make([]byte, 256<<10)
			b.SetBytes(int64(len(buf)))
			b.ResetTimer()
			for range b.N {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.Close()
			if n := <-got; n != int64(b.N)*int64(len(buf)) {
				b.Errorf("%d bytes arrived", n)
			}
			b.StopTimer()
			if n := l.rel.Counters().Packets; relayed != (n > uint64(b.N)) {
				b.Errorf("the relay carried %d packets", n)
			}
		})
	}
}

// BenchmarkPacket is what a packet of a session costs in the table.
func BenchmarkPacket(b *testing.B) {
	table := relay.NewTable(relay.Limits{PairBytes: 1 << 40, TotalBytes: 1 << 40})
	if err := table.Admit(admission()); err != nil {
		b.Fatal(err)
	}
	now := start
	table.Locate(now, []relay.Place{{Key: keyOf(center), At: atCenter, Handshake: now}, {Key: keyOf(north), At: atNorth, Handshake: now}})
	table.Packet(now, atNorth, initiation(keyOf(center), 1))
	table.Packet(now, atCenter, response(keyOf(north), 2, 1))
	table.NoteOwn(9, atSouth)
	for name, p := range map[string][]byte{"relayed": data(2, 1400), "own": data(9, 1400), "strange": data(77, 1400)} {
		from := map[string]netip.AddrPort{"relayed": atNorth, "own": atSouth, "strange": atPlain}[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.Packet(now, from, p)
			}
		})
	}
}
