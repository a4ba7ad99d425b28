package steer_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"github.com/towpath/towpath/tunnel/path"
	"github.com/towpath/towpath/tunnel/steer"
	"github.com/towpath/towpath/tunnel/tunneltest/fakenet"
	"github.com/towpath/towpath/tunnel/wgkey"
)

// kept holds all devices until the process ends: their finalizers would touch channels of a bubble that is gone.
var kept = make(chan *device.Device, 4096)

const oneWay = 20 * time.Millisecond

// place is a kind of connection to the internet.
type place struct {
	name  string
	boxes []fakenet.Kind
	// rank orders what punching can pass; see direct.
	rank int
}

// The kinds of connections. A relay-only one lets UDP out to the relay and to nobody else.
const (
	open = iota
	restricted
	portRestricted
	symmetric
	relayOnly
)

func places(relay netip.AddrPort) []place {
	home := fakenet.Kind{Name: "home", Translates: true, Filtering: fakenet.SameEndpoint}
	return []place{
		{"open", nil, open},
		{"full-cone", []fakenet.Kind{{Translates: true}}, open},
		{"restricted", []fakenet.Kind{{Translates: true, Filtering: fakenet.SameAddress}}, restricted},
		{"port-restricted", []fakenet.Kind{home}, portRestricted},
		{"cgnat", []fakenet.Kind{home, home}, portRestricted},
		{"firewall", []fakenet.Kind{{Filtering: fakenet.SameEndpoint}}, portRestricted},
		{"symmetric", []fakenet.Kind{{Translates: true, PerDestination: true, Filtering: fakenet.SameEndpoint}}, symmetric},
		{"relay-only", []fakenet.Kind{{Filtering: fakenet.SameEndpoint, Only: relay}}, relayOnly},
	}
}

// direct says which pairs can reach each other: an endpoint-dependent mapping is found by an end that accepts any port, and by no other.
func direct(a, b place) bool {
	high, low := max(a.rank, b.rank), min(a.rank, b.rank)
	return high <= portRestricted || high == symmetric && low <= restricted
}

type node struct {
	host  *fakenet.Host
	key   wgkey.PrivateKey
	pub   wgkey.PublicKey
	bind  *steer.Bind
	dev   *device.Device
	tun   *tuntest.ChannelTUN
	inner netip.Addr
	got   atomic.Int64
	last  atomic.Int64 // arrival, nanoseconds
	gap   atomic.Int64 // longest between arrivals, nanoseconds
}

type world struct {
	t     *testing.T
	net   *fakenet.Network
	relay netip.AddrPort
	nodes [2]*node
	seen  [2]netip.AddrPort
	stop  chan struct{}
}

func addressIn(v6 bool, v4Text, v6Text string) netip.Addr {
	if v6 {
		return netip.MustParseAddr(v6Text)
	}
	return netip.MustParseAddr(v4Text)
}

func relayAt(v6 bool) netip.AddrPort {
	return netip.AddrPortFrom(addressIn(v6, "198.51.100.1", "2001:db8:ffff::1"), 51820)
}

// newWorld builds two nodes with a tunnel between them through the relay.
func newWorld(t *testing.T, v6 bool, kinds [2]place) *world {
	w := &world{t: t, net: fakenet.New(oneWay), relay: relayAt(v6), stop: make(chan struct{})}
	w.net.Relay(w.relay)
	for i, k := range kinds {
		var outside []netip.Addr
		for j := range k.boxes {
			outside = append(outside, addressIn(v6, fmt.Sprintf("203.0.113.%d", 10*i+j+1), fmt.Sprintf("2001:db8:%d::%d", i+1, j+2)))
		}
		at := addressIn(v6, fmt.Sprintf("192.0.2.%d", i+1), fmt.Sprintf("2001:db8:%d::99", i+1))
		w.nodes[i] = w.newNode(i, w.net.Host(netip.AddrPortFrom(at, 51820), k.boxes, outside))
	}
	w.seen = w.net.Meet(w.nodes[0].host, w.nodes[1].host)
	go w.every(20*time.Second, func() { w.net.Meet(w.nodes[0].host, w.nodes[1].host) })
	for i, n := range w.nodes {
		o := w.nodes[1-i]
		w.configure(i, nil)
		// No keepalive: only node 0 calls, so that two calls do not cross.
		text := fmt.Sprintf("public_key=%s\nendpoint=%s\nallowed_ip=%s/32\n", o.pub.Hex(), steer.Alias(o.pub), o.inner)
		w.must(n.dev.IpcSet(text))
	}
	return w
}

func (w *world) newNode(i int, h *fakenet.Host) *node {
	n := &node{host: h, bind: steer.New(h), tun: tuntest.NewChannelTUN(), inner: netip.AddrFrom4([4]byte{100, 100, 0, byte(i + 1)})}
	var err error
	n.key, err = wgkey.NewPrivateKey()
	w.must(err)
	n.pub, err = n.key.Public()
	w.must(err)
	n.dev = device.NewDevice(n.tun.TUN(), n.bind, device.NewLogger(device.LogLevelSilent, ""))
	kept <- n.dev
	steer.Prepare(n.dev)
	w.must(n.dev.IpcSet("private_key=" + n.key.RevealHex() + "\nlisten_port=51820\n"))
	w.must(n.dev.Up())
	go n.receive(w.stop)
	return n
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
}

// configure tells node i where the other may be.
func (w *world) configure(i int, at []netip.AddrPort) {
	p := steer.Peer{PublicKey: w.nodes[1-i].pub, Relay: w.relay}
	for _, a := range at {
		p.Candidates = append(p.Candidates, path.Candidate{Address: a, Source: path.Observed})
	}
	w.must(w.nodes[i].bind.Configure(steer.Config{PrivateKey: w.nodes[i].key, Peers: []steer.Peer{p}}))
}

// reveal tells both nodes what the hub has seen, the second one a little later.
func (w *world) reveal(later time.Duration) {
	w.configure(0, []netip.AddrPort{w.seen[1]})
	time.Sleep(later)
	w.configure(1, []netip.AddrPort{w.seen[0]})
}

func (w *world) close() {
	close(w.stop)
	for _, n := range w.nodes {
		n.bind.Shutdown()
		n.dev.Close()
	}
}

func (w *world) every(d time.Duration, f func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f()
		case <-w.stop:
			return
		}
	}
}

func (n *node) receive(stop chan struct{}) {
	for {
		select {
		case <-n.tun.Inbound:
			now := time.Now().UnixNano()
			if last := n.last.Swap(now); last != 0 {
				n.gap.Store(max(n.gap.Load(), now-last))
			}
			n.got.Add(1)
		case <-stop:
			return
		}
	}
}

// send sends one packet through the tunnel.
func (n *node) send(to netip.Addr) {
	p := make([]byte, 60)
	p[0], p[8], p[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], n.inner.AsSlice())
	copy(p[16:], to.AsSlice())
	n.tun.Outbound <- p
}

// traffic sends 100 packets a second both ways for d and returns how many were lost, the most of the two ways.
func (w *world) traffic(d time.Duration) int {
	var before [2]int64
	for i, n := range w.nodes {
		before[i] = n.got.Load()
		n.last.Store(0)
		n.gap.Store(0)
	}
	count := int(d / (10 * time.Millisecond))
	for range count {
		for i, n := range w.nodes {
			n.send(w.nodes[1-i].inner)
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(10 * oneWay)
	synctest.Wait()
	lost := 0
	for i, n := range w.nodes {
		lost = max(lost, count-int(n.got.Load()-before[i]))
	}
	return lost
}

// until waits until both nodes are in a state that f accepts, and returns how long that took; false if it took more than limit.
func (w *world) until(limit time.Duration, f func(path.Status) bool) (time.Duration, bool) {
	begin := time.Now()
	for time.Since(begin) <= limit {
		done := true
		for i := range w.nodes {
			done = done && f(w.status(i))
		}
		if done {
			return time.Since(begin), true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0, false
}

func (w *world) status(i int) path.Status {
	s, ok := w.nodes[i].bind.Status(w.nodes[1-i].pub)
	if !ok {
		w.t.Fatal("the peer is not steered")
	}
	return s
}

func isDirect(s path.Status) bool  { return s.Way.IsValid() }
func isRelayed(s path.Status) bool { return !s.Way.IsValid() }

// tunnel waits for the tunnel and returns how long that took.
func (w *world) tunnel() time.Duration {
	w.t.Helper()
	begin := time.Now()
	w.nodes[0].send(w.nodes[1].inner)
	for range 2000 {
		if w.nodes[1].got.Load() > 0 {
			return time.Since(begin)
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatal("no tunnel through the relay")
	return 0
}
