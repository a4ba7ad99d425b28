package relay_test

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/internal/wgo"
	"github.com/towpath/towpath/tunnel/relay"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/wgkey"
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

// Times of the lab.
const (
	labDelay = 20 * time.Millisecond
	keepOpen = 25 * time.Second
)

// lab is an internet with the device of a hub, its relay, and WireGuard devices that have nothing of ours.
type lab struct {
	t       *testing.T
	network *tunneltest.Network
	// direct counts datagrams between members that did not go through the hub.
	mu     sync.Mutex
	direct int
	sent   map[netip.AddrPort]int // bytes from the hub, by where to

	file  string
	hub   *box
	relay *relay.Relay
	stop  func()
	boxes []*box

	work   sync.WaitGroup
	closed chan struct{}
}

// box is a WireGuard device. Its place in the lab says its addresses.
type box struct {
	lab  *lab
	n    int
	key  wgkey.PrivateKey
	bind *tunneltest.Bind
	dev  *wgo.Device
	host *tuntest.ChannelTUN
	conf tunnel.Config

	mu       sync.Mutex
	arrivals map[byte][]time.Time // by the last byte of the sender's address
}

const labPort = 51820

func (b *box) inner() netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, byte(b.n)}) }
func (b *box) outer() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(b.n)}), labPort)
}

func (b *box) public() wgkey.PublicKey {
	k, err := b.key.Public()
	if err != nil {
		b.lab.t.Fatal(err)
	}
	return k
}

// newRelayLab makes a hub, at place 0, and members from place 1 on. Those from place unmanaged on have no session with the hub.
func newRelayLab(t *testing.T, members, unmanaged int, pairs [][2]int) *lab {
	l := &lab{t: t, network: tunneltest.NewNetwork(), sent: map[netip.AddrPort]int{}, closed: make(chan struct{}), file: filepath.Join(t.TempDir(), "relay.json")}
	l.network.Delay = labDelay
	hub := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, 0}), labPort)
	l.network.Drop = func(from, to netip.AddrPort, p []byte) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if from == hub {
			l.sent[to] += len(p)
		}
		if from != hub && to != hub {
			l.direct++
		}
		return false
	}
	for i := range members + 1 {
		b := &box{lab: l, n: i, arrivals: map[byte][]time.Time{}}
		var err error
		if b.key, err = wgkey.NewPrivateKey(); err != nil {
			t.Fatal(err)
		}
		b.conf = tunnel.Config{PrivateKey: b.key, ListenPort: labPort}
		l.boxes = append(l.boxes, b)
	}
	l.hub = l.boxes[0]
	for _, b := range l.boxes[1:] {
		if b.n < unmanaged {
			b.befriend(l.hub, l.hub.outer(), keepOpen)
			l.hub.befriend(b, netip.AddrPort{}, 0)
		}
	}
	for _, p := range pairs {
		l.boxes[p[0]+1].befriend(l.boxes[p[1]+1], l.hub.outer(), keepOpen)
		l.boxes[p[1]+1].befriend(l.boxes[p[0]+1], netip.AddrPort{}, 0)
	}
	l.startHub(unmanaged, pairs)
	for _, b := range l.boxes[1:] {
		b.start(l.network.Bind(b.outer().Addr()))
	}
	return l
}

func (b *box) befriend(o *box, at netip.AddrPort, keepalive time.Duration) {
	b.conf.Peers = append(b.conf.Peers, tunnel.Peer{
		PublicKey: o.public(), Endpoint: at, PersistentKeepalive: keepalive, AllowedIPs: []netip.Prefix{netip.PrefixFrom(o.inner(), 32)},
	})
}

// startHub starts the hub's device with its relay; nil pairs mean that it goes on from its file.
func (l *lab) startHub(unmanaged int, pairs [][2]int) {
	l.t.Helper()
	l.relay = relay.New(relay.Options{File: l.file})
	if pairs != nil {
		a := relay.Admission{Own: []wgkey.PublicKey{l.hub.public()}, Pairs: pairs}
		for _, b := range l.boxes[1:] {
			a.Members = append(a.Members, relay.Member{Key: b.public(), Unmanaged: b.n >= unmanaged})
		}
		if err := l.relay.Admit(a); err != nil {
			l.t.Fatal(err)
		}
	}
	l.hub.bind = l.network.Bind(l.hub.outer().Addr())
	l.hub.start(l.relay.Bind(l.hub.bind))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.relay.Run(ctx, status{l.hub.dev}) }()
	l.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Errorf("the relay ended with %v", err)
		}
		l.hub.dev.Close()
	}
}

type status struct{ dev *wgo.Device }

func (s status) Status(context.Context) (tunnel.Status, error) { return s.dev.Status() }

func (b *box) start(bind conn.Bind) {
	b.lab.t.Helper()
	if own, ok := bind.(*tunneltest.Bind); ok {
		b.bind = own
	}
	b.host = tuntest.NewChannelTUN()
	var err error
	if b.dev, err = wgo.New(b.host.TUN(), bind, 0, nil); err != nil {
		b.lab.t.Fatal(err)
	}
	if err := b.dev.Apply(b.conf); err != nil {
		b.lab.t.Fatal(err)
	}
	host := b.host
	go func() {
		for {
			select {
			case p := <-host.Inbound:
				b.mu.Lock()
				b.arrivals[p[15]] = append(b.arrivals[p[15]], time.Now())
				b.mu.Unlock()
			case <-b.lab.closed:
				return
			}
		}
	}()
}

// send sends packets to another box at an interval.
func (b *box) send(o *box, n int, every time.Duration) {
	for range n {
		p := make([]byte, 64) // an IPv4 header (RFC 791 §3.1) with no more in it than WireGuard looks at
		p[0] = 0x45
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		copy(p[12:], b.inner().AsSlice())
		copy(p[16:], o.inner().AsSlice())
		b.host.Outbound <- p
		time.Sleep(every)
	}
}

// got is what has arrived from another box.
func (b *box) got(o *box) []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]time.Time(nil), b.arrivals[byte(o.n)]...)
}

func (l *lab) close() {
	l.work.Wait()
	l.stop()
	for _, b := range l.boxes[1:] {
		b.dev.Close()
	}
	close(l.closed)
}

// Two boxes that only know the hub's address talk through it, beside their own sessions with the hub.
func TestTwoBoxesTalkThroughTheHub(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		l := newRelayLab(t, 3, 9, [][2]int{{0, 1}})
		defer l.close()
		center, clinic, stranger := l.boxes[2], l.boxes[1], l.boxes[3]
		// The third knows the center's key and is not to meet it.
		stranger.befriend(center, l.hub.outer(), keepOpen)
		center.befriend(stranger, netip.AddrPort{}, 0)
		for _, b := range []*box{stranger, center} {
			if err := b.dev.Apply(b.conf); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		began := time.Now()
		l.work.Go(func() { stranger.send(center, 20, time.Second) })
		clinic.send(center, 100, 10*time.Millisecond)
		center.send(clinic, 100, 10*time.Millisecond)
		clinic.send(l.hub, 10, 10*time.Millisecond)
		time.Sleep(20 * time.Second)
		if n := len(center.got(clinic)); n != 100 {
			t.Errorf("%d of 100 packets arrived at the center", n)
		}
		if n := len(clinic.got(center)); n != 100 {
			t.Errorf("%d of 100 packets arrived at the clinic", n)
		}
		if n := len(l.hub.got(clinic)); n != 10 {
			t.Errorf("%d of 10 packets arrived at the hub", n)
		}
		if first := center.got(clinic); len(first) > 0 && first[0].Sub(began) > 10*labDelay {
			t.Errorf("the first packet took %v", first[0].Sub(began))
		}
		if n := len(center.got(stranger)); n > 0 || l.direct > 0 {
			t.Errorf("%d packets of the stranger arrived, and %d went past the hub", n, l.direct)
		}
		if d := l.relay.Counters().Dropped; d[relay.NoPair] == 0 {
			t.Errorf("dropped %v", d)
		}
		// Hours with new keys every two minutes.
		clinic.send(center, 600, 20*time.Second)
		time.Sleep(time.Second)
		if n := len(center.got(clinic)); n < 699 {
			t.Errorf("of 600 packets in hours %d arrived", n-100)
		}
	})
}

// A plain device behind a translator, which nobody knows, reaches the one that it may.
func TestPlainDeviceReachesTheCenter(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		l := newRelayLab(t, 2, 2, [][2]int{{1, 0}})
		defer l.close()
		center, fritz := l.boxes[1], l.boxes[2]
		time.Sleep(time.Second)
		fritz.send(center, 50, 10*time.Millisecond)
		center.send(fritz, 50, 10*time.Millisecond)
		time.Sleep(time.Second)
		if a, b := len(center.got(fritz)), len(fritz.got(center)); a != 50 || b != 50 {
			t.Errorf("%d and %d of 50 packets arrived: %+v", a, b, l.relay.Counters())
		}
		// The translator forgets the mapping. WireGuard notices after a while, and calls again.
		if err := fritz.bind.Move(netip.MustParseAddr("203.0.113.7")); err != nil {
			t.Fatal(err)
		}
		moved := time.Now()
		fritz.send(center, 60, time.Second)
		all := center.got(fritz)
		if len(all) < 51 {
			t.Fatalf("nothing arrives after the move: %+v", l.relay.Counters())
		}
		t.Logf("after a new address at the plain device the first packet came in %v", all[50].Sub(moved))
		if all[50].Sub(moved) > 30*time.Second {
			t.Errorf("after the move the first packet came in %v", all[50].Sub(moved))
		}
	})
}

// A managed box that moves takes its sessions along as soon as the hub has heard it.
func TestABoxMoves(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		l := newRelayLab(t, 2, 9, [][2]int{{0, 1}})
		defer l.close()
		clinic, center := l.boxes[1], l.boxes[2]
		time.Sleep(time.Second)
		clinic.send(center, 100, 10*time.Millisecond)
		if err := clinic.bind.Move(netip.MustParseAddr("203.0.113.7")); err != nil {
			t.Fatal(err)
		}
		moved := time.Now()
		l.work.Go(func() { clinic.send(l.hub, 10, time.Second) }) // as the control channel does, if less often
		clinic.send(center, 300, 10*time.Millisecond)
		time.Sleep(time.Second)
		all := center.got(clinic)
		if len(all) < 101 {
			t.Fatalf("nothing arrives after the move: %+v", l.relay.Counters())
		}
		gap := all[100].Sub(moved)
		t.Logf("after a new address of the box the first packet came in %v, %d of 300 were lost", gap, 400-len(all))
		if gap > 3*time.Second {
			t.Errorf("after the move the first packet came in %v", gap)
		}
	})
}

// A relay that is stopped in order and started again goes on with the sessions that there are. One that has lost what it knew needs new
// handshakes.
func TestRestart(t *testing.T) {
	for name, lost := range map[string]bool{"in order": false, "with its file lost": true} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T) {
				pairs := [][2]int{{0, 1}}
				l := newRelayLab(t, 2, 9, pairs)
				defer func() { l.close() }()
				clinic, center := l.boxes[1], l.boxes[2]
				time.Sleep(time.Second)
				clinic.send(center, 50, 10*time.Millisecond)
				time.Sleep(30 * time.Second)
				before := len(center.got(clinic))
				l.stop()
				if lost {
					if err := os.Remove(l.file); err != nil {
						t.Fatal(err)
					}
				} else {
					pairs = nil // nobody tells it: the coordinator is away
				}
				l.startHub(9, pairs)
				back := time.Now()
				for _, b := range l.boxes[1:] {
					l.work.Go(func() { b.send(l.hub, 90, time.Second) }) // the control channel, which wants an answer
				}
				l.work.Go(func() { center.send(clinic, 900, 100*time.Millisecond) })
				clinic.send(center, 900, 100*time.Millisecond)
				time.Sleep(time.Second)
				all := center.got(clinic)
				if len(all) == before {
					t.Fatalf("nothing arrives after the restart: %+v", l.relay.Counters())
				}
				gap := all[before].Sub(back)
				t.Logf("after the restart the first packet came in %v, %d of 900 were lost", gap, 900-len(all)+before)
				// Both ends call at one time, and may miss each other several times, 5 s each (WireGuard's REKEY_TIMEOUT).
				if !lost && gap > 10*labDelay || gap > 85*time.Second {
					t.Errorf("after the restart the first packet came in %v", gap)
				}
			})
		})
	}
}
