package turn_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/tun/tuntest"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/internal/wgo"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/turn"
	"github.com/towpath/towpath/tunnel/wgkey"
)

const (
	oneWay   = 20 * time.Millisecond
	interval = 10 * time.Millisecond // between packets of a flow
	longest  = 200 * time.Millisecond
)

// inFakeTime runs the test with real WireGuard in fake time, in a process of its own without a garbage collector: wireguard-go's
// finalizers drain channels, and channels of fake time may not be touched from outside.
func inFakeTime(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if percent := debug.SetGCPercent(-1); percent < 0 {
		synctest.Test(t, f)
		return
	} else {
		debug.SetGCPercent(percent)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(cmd.Environ(), "GOGC=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("%s", out)
}

// internet is a center, which is node 0, and clinics that only the center can talk to.
type internet struct {
	t     *testing.T
	nodes []*node
	stop  chan struct{}
	done  sync.WaitGroup
}

type node struct {
	tunnel.Device
	conf    tunnel.Config
	peers   []int // whose configuration is conf.Peers
	host    *tuntest.ChannelTUN
	bind    *tunneltest.Bind
	address netip.Addr
	offline atomic.Bool

	mu       sync.Mutex
	arrivals map[byte][]time.Time // by sender
}

// wire is WireGuard alone as a tunnel.Device.
type wire struct{ dev *wgo.Device }

func (w wire) Configure(_ context.Context, c tunnel.Config) error { return w.dev.Apply(c) }
func (w wire) Status(context.Context) (tunnel.Status, error)      { return w.dev.Status() }
func (w wire) StatusOf(_ context.Context, keys []wgkey.PublicKey) (tunnel.Status, error) {
	return w.dev.StatusOf(keys)
}
func (w wire) Close() error { w.dev.Close(); return nil }

func newInternet(t *testing.T, clinics int) *internet {
	in := &internet{t: t, stop: make(chan struct{})}
	network := tunneltest.NewNetwork()
	network.Delay = oneWay
	network.Drop = func(from, to netip.AddrPort, _ []byte) bool {
		return in.at(from.Addr()).offline.Load() || in.at(to.Addr()).offline.Load()
	}
	for i := range clinics + 1 {
		n := &node{
			host: tuntest.NewChannelTUN(), address: netip.AddrFrom4([4]byte{100, 64, 0, byte(i)}), arrivals: map[byte][]time.Time{},
			conf: tunnel.Config{PrivateKey: newKey(t), ListenPort: 51820},
		}
		n.bind = network.Bind(underlay(i))
		dev, err := wgo.New(n.host.TUN(), n.bind, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		n.Device = turn.New(wire{dev}, turn.Options{})
		in.nodes = append(in.nodes, n)
	}
	for i := 1; i <= clinics; i++ {
		in.befriend(i, 0, netip.AddrPortFrom(underlay(0), 51820), 25*time.Second)
		in.befriend(0, i, netip.AddrPort{}, 0) // it calls
	}
	for i := range in.nodes {
		in.apply(i)
	}
	for i := range in.nodes {
		in.done.Go(func() { in.receive(i) })
	}
	return in
}

// talk starts traffic between the center and all clinics, both ways.
func (in *internet) talk() {
	for i := 1; i < len(in.nodes); i++ {
		in.done.Go(func() { in.send(i, 0) })
		in.done.Go(func() { in.send(0, i) })
	}
}

func underlay(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) }

// elsewhere is the address of a node that has moved.
func elsewhere(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}) }

func (in *internet) at(a netip.Addr) *node { return in.nodes[a.As4()[3]] }

func (in *internet) befriend(i, j int, endpoint netip.AddrPort, keepalive time.Duration) {
	n := in.nodes[i]
	n.peers = append(n.peers, j)
	n.conf.Peers = append(n.conf.Peers, tunnel.Peer{
		PublicKey: public(in.t, in.nodes[j].conf.PrivateKey), Endpoint: endpoint, PersistentKeepalive: keepalive,
		AllowedIPs: []netip.Prefix{netip.PrefixFrom(in.nodes[j].address, 32)},
	})
}

func (in *internet) apply(i int) {
	in.t.Helper()
	if err := in.nodes[i].Configure(context.Background(), in.nodes[i].conf); err != nil {
		in.t.Fatal(err)
	}
}

func (in *internet) send(i, j int) {
	p := make([]byte, 64) // an IPv4 header (RFC 791 §3.1) with no more in it than WireGuard looks at
	p[0] = 0x45
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], in.nodes[i].address.AsSlice())
	copy(p[16:], in.nodes[j].address.AsSlice())
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-in.stop:
			return
		}
		select {
		case in.nodes[i].host.Outbound <- p:
		case <-in.stop:
			return
		}
	}
}

func (in *internet) receive(i int) {
	n := in.nodes[i]
	for {
		select {
		case p := <-n.host.Inbound:
			n.mu.Lock()
			n.arrivals[p[15]] = append(n.arrivals[p[15]], time.Now())
			n.mu.Unlock()
		case <-in.stop:
			return
		}
	}
}

func (in *internet) close() {
	for _, n := range in.nodes {
		if err := n.Close(); err != nil {
			in.t.Error(err)
		}
	}
	close(in.stop)
	in.done.Wait()
	time.Sleep(time.Minute) // what is under way arrives
}

// announce tells everybody who has node j as a peer that it will have another key, and returns the key.
func (in *internet) announce(j int) wgkey.PrivateKey {
	in.t.Helper()
	key := newKey(in.t)
	in.each(j, func(p *tunnel.Peer) { p.Next = public(in.t, key) })
	return key
}

// rotate gives node j the key.
func (in *internet) rotate(j int, key wgkey.PrivateKey) {
	in.t.Helper()
	in.nodes[j].conf.PrivateKey = key
	in.apply(j)
}

// settle tells everybody that the announced key of node j is the only one.
func (in *internet) settle(j int) {
	in.t.Helper()
	in.each(j, func(p *tunnel.Peer) { p.PublicKey, p.Next = p.Next, wgkey.PublicKey{} })
}

func (in *internet) each(j int, change func(*tunnel.Peer)) {
	in.t.Helper()
	for i, n := range in.nodes {
		for k, peer := range n.peers {
			if peer == j {
				n.conf.Peers = append([]tunnel.Peer(nil), n.conf.Peers...)
				change(&n.conf.Peers[k])
				in.apply(i)
			}
		}
	}
}

// gap is the longest time since start in which nothing arrived on one way, the end included.
func (in *internet) gap(from, to int, start time.Time) (gap time.Duration) {
	n := in.nodes[to]
	n.mu.Lock()
	defer n.mu.Unlock()
	last := start
	for _, at := range n.arrivals[byte(from)] {
		if at.After(start) {
			gap = max(gap, at.Sub(last))
			last = at
		}
	}
	return max(gap, time.Since(last))
}

// wantGaps checks both ways between the center and the clinics.
func (in *internet) wantGaps(what string, start time.Time, limit time.Duration, clinics ...int) {
	in.t.Helper()
	var up, down time.Duration
	for _, i := range clinics {
		up, down = max(up, in.gap(i, 0, start)), max(down, in.gap(0, i, start))
	}
	in.t.Logf("%s: longest gap to the center %v, to a clinic %v", what, up, down)
	if up > limit || down > limit {
		in.t.Errorf("%s: nothing arrived at the center for %v, at a clinic for %v; want at most %v", what, up, down, limit)
	}
}

// sessions are the last handshakes of a node by address and key.
func (in *internet) sessions(i int) map[string]time.Time {
	in.t.Helper()
	s, err := in.nodes[i].Status(context.Background())
	if err != nil {
		in.t.Fatal(err)
	}
	m := map[string]time.Time{}
	for _, p := range s.Peers {
		m[fmt.Sprint(p.AllowedIPs, p.PublicKey)] = p.LastHandshake
	}
	return m
}

// inUse is the key that node i uses for node j.
func (in *internet) inUse(i, j int) (k wgkey.PublicKey) {
	in.t.Helper()
	s, err := in.nodes[i].Status(context.Background())
	if err != nil {
		in.t.Fatal(err)
	}
	for _, p := range s.Peers {
		if len(p.AllowedIPs) == 1 && p.AllowedIPs[0].Addr() == in.nodes[j].address {
			k = p.PublicKey
		}
	}
	return k
}

func newKey(t testing.TB) wgkey.PrivateKey {
	t.Helper()
	k, err := wgkey.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(t testing.TB, k wgkey.PrivateKey) wgkey.PublicKey {
	t.Helper()
	p, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	return p
}
