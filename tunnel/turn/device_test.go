package turn_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/turn"
	"github.com/towpath/towpath/tunnel/userspace"
	"github.com/towpath/towpath/tunnel/wgkey"
)

func TestContractInMemory(t *testing.T) {
	tunneltest.Device(t, func(t testing.TB, n int) []tunneltest.Node {
		network := tunneltest.NewNetwork()
		nodes := make([]tunneltest.Node, n)
		for i := range nodes {
			nodes[i] = wrap(t, stack(t, netstack.Options{Bind: network.Bind(underlay(i + 1))}), underlay(i+1))
		}
		return nodes
	})
}

func TestContractUserspace(t *testing.T) {
	tunneltest.NeedRoot(t)
	tunneltest.Device(t, func(t testing.TB, n int) []tunneltest.Node {
		s := tunneltest.NewSwitch(t)
		nodes := make([]tunneltest.Node, n)
		for i := range nodes {
			ns := tunneltest.NewNamespace(t)
			s.Plug(ns, netip.PrefixFrom(underlay(i+1), 24))
			d, err := userspace.New(userspace.Options{Interface: fmt.Sprintf("towturn%d", i)})
			if err != nil {
				t.Fatal(err)
			}
			nodes[i] = wrap(t, ns.Inside(d), underlay(i+1))
		}
		return nodes
	})
}

func stack(t testing.TB, o netstack.Options) *netstack.Device {
	t.Helper()
	d, err := netstack.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func wrap(t testing.TB, d tunneltest.Endpointed, at netip.Addr) tunneltest.Node {
	s := turn.NewStacked(d, turn.Options{})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return tunneltest.Node{Device: s, Underlay: at}
}

// One TCP connection over loopback outlives changes of either end's key, without losing a byte.
func TestStreamSurvives(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	testStreamSurvives(t, newPair(t, wrap(t, stack(t, netstack.Options{}), local), wrap(t, stack(t, netstack.Options{}), local)))
}

func testStreamSurvives(t *testing.T, p *pair) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ln, err := p.nodes[1].Device.Listen(ctx, "tcp", "100.64.0.1:104")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := p.nodes[0].Device.DialContext(ctx, "tcp", "100.64.0.1:104")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()

	stop, sent := make(chan struct{}), make(chan []byte, 1)
	go func() {
		defer func() { _ = client.(interface{ CloseWrite() error }).CloseWrite() }()
		sent <- stream(t, client, stop)
	}()
	received := make(chan []byte, 1)
	progress := make(chan int, 1)
	go func() { received <- drain(t, server, progress) }()

	for range 3 {
		for i := range p.nodes {
			key := newKey(t)
			other := &p.confs[1-i].Peers[0]
			other.Next = public(t, key)
			p.apply(1 - i)
			p.confs[i].PrivateKey = key
			start := time.Now()
			p.apply(i)
			for p.owner(1-i) != other.Next {
				if time.Since(start) > tunneltest.Patience {
					t.Fatal("the other end does not notice the new key")
				}
				time.Sleep(time.Millisecond)
			}
			took := time.Since(start)
			other.PublicKey, other.Next = other.Next, wgkey.PublicKey{}
			p.apply(1 - i)
			for range 3 { // it goes on
				select {
				case <-progress:
				case <-ctx.Done():
					t.Fatal("the stream stands still")
				}
			}
			t.Logf("node %d: the other end has moved after %v", i, took.Round(time.Millisecond))
		}
	}
	close(stop)
	if a, b := <-sent, <-received; !bytes.Equal(a, b) {
		t.Error("what arrives is not what was sent")
	}
}

// stream sends pieces until told to stop and returns a digest of all.
func stream(t testing.TB, c net.Conn, stop <-chan struct{}) []byte {
	h := sha256.New()
	piece := make([]byte, 16<<10)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return h.Sum(nil)
		case <-tick.C:
		}
		piece[n%len(piece)]++
		h.Write(piece)
		if _, err := c.Write(piece); err != nil {
			t.Errorf("write: %v", err)
			return nil
		}
	}
}

// drain reads to the end and returns a digest of all. It tells progress when 256 KiB more have come.
func drain(t testing.TB, c net.Conn, progress chan<- int) []byte {
	h := sha256.New()
	for n := 0; ; n++ {
		m, err := io.CopyN(h, c, 256<<10)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("read: %v", err)
			}
			return h.Sum(nil)
		}
		select {
		case progress <- int(m):
		default:
		}
	}
}

// pair is two nodes that are each other's peer.
type pair struct {
	t     testing.TB
	nodes []tunneltest.Node
	confs []tunnel.Config
}

func newPair(t testing.TB, nodes ...tunneltest.Node) *pair {
	t.Helper()
	p := &pair{t: t, nodes: nodes}
	for i := range nodes {
		own := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, byte(i)}), 32)
		p.confs = append(p.confs, tunnel.Config{PrivateKey: newKey(t), Addresses: []netip.Prefix{own}})
		p.apply(i)
	}
	for i := range nodes {
		s, err := p.nodes[1-i].Device.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.confs[i].Peers = []tunnel.Peer{{
			PublicKey: s.PublicKey, Endpoint: netip.AddrPortFrom(nodes[1-i].Underlay, s.ListenPort), AllowedIPs: p.confs[1-i].Addresses,
		}}
	}
	p.apply(0)
	p.apply(1)
	return p
}

func (p *pair) apply(i int) {
	p.t.Helper()
	configure(p.t, p.nodes[i].Device, p.confs[i])
}

// owner is the key that node i uses for the other one.
func (p *pair) owner(i int) (k wgkey.PublicKey) {
	p.t.Helper()
	s, err := p.nodes[i].Device.Status(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, peer := range s.Peers {
		if len(peer.AllowedIPs) > 0 {
			k = peer.PublicKey
		}
	}
	return k
}

// BenchmarkPoll is what it costs to look once for one next key among 2,000 peers. The pause after it is twenty times as long.
func BenchmarkPoll(b *testing.B) {
	d := stack(b, netstack.Options{})
	defer d.Close()
	c := tunnel.Config{PrivateKey: newKey(b)}
	for i := range uint32(2000) {
		c.Peers = append(c.Peers, tunnel.Peer{
			PublicKey: public(b, newKey(b)), AllowedIPs: []netip.Prefix{prefixOf(i)}, Endpoint: netip.MustParseAddrPort("192.0.2.1:9"),
		})
	}
	configure(b, d, c)
	pair := []wgkey.PublicKey{c.Peers[0].PublicKey, c.Peers[1].PublicKey}
	for name, look := range map[string]func() (tunnel.Status, error){
		"pair":  func() (tunnel.Status, error) { return d.StatusOf(context.Background(), pair) },
		"whole": func() (tunnel.Status, error) { return d.Status(context.Background()) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := look(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The part is what the whole says about the same peers.
func TestStatusOf(t *testing.T) {
	d := stack(t, netstack.Options{})
	defer d.Close()
	c := pairs(t, 5)
	for i := range c.Peers {
		c.Peers[i].Next, c.Peers[i].Endpoint = wgkey.PublicKey{}, somewhere
	}
	if s, err := d.StatusOf(t.Context(), nil); err != nil || s.Backend == "" {
		t.Errorf("before the first Configure: %+v, %v", s, err)
	}
	configure(t, d, c)
	whole, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	part, err := d.StatusOf(t.Context(), []wgkey.PublicKey{c.Peers[3].PublicKey, keyOf(99), c.Peers[1].PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	whole.Peers = []tunnel.PeerStatus{whole.Peers[1], whole.Peers[3]}
	if diff := cmp.Diff(whole, part, cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("part of the status (-want +got):\n%s", diff)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.StatusOf(t.Context(), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("status of a closed device: %v", err)
	}
}
