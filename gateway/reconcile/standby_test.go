package reconcile_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/standby"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
)

// pairOfCenter is clinicMap with a second gateway at the center, which the PACS at an address of its own can be reached through.
func pairOfCenter(t *testing.T) wire.NetMap {
	t.Helper()
	m := clinicMap(t)
	i := slices.IndexFunc(m.Peers, func(p wire.Peer) bool { return p.Site == "center" })
	first := m.Peers[i]
	first.AllowedIPs = append(slices.Clone(first.AllowedIPs), netip.MustParsePrefix("10.201.9.1/32"))
	second := first
	second.Node, second.PublicKey, second.AllowedIPs = "node_d", public(t), []netip.Prefix{netip.MustParsePrefix("10.201.0.18/32")}
	m.Peers = append(slices.Clone(m.Peers), second)
	m.Peers[i] = first
	for j := range m.Uses {
		if m.Uses[j].Service == "pacs" {
			m.Uses[j].Address = at("10.201.9.1:11112")
		}
	}
	m.Shared = []wire.Shared{{Site: "center", Gateways: []string{first.Node, "node_d"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.201.9.1/32")}}}
	return m
}

// A move changes what two peers are allowed, and to whom queues are handed over: nothing else of the tunnel, so that all sessions stay.
func TestMoveIsOneChangeOfTwoPeers(t *testing.T) {
	m, l := pairOfCenter(t), local(t)
	compile := func(m wire.NetMap) reconcile.Desired {
		d, err := reconcile.Compile(m, l)
		if err != nil || len(d.Problems) > 0 {
			t.Fatal(err, d.Problems)
		}
		return d
	}
	before, after := compile(m), compile(standby.Place(m, map[string]string{"center": "node_d"}))
	c := tunnel.Diff(before.Tunnel, after.Tunnel)
	if len(c.Updated) != 2 || len(c.Added)+len(c.Removed) != 0 || c.PrivateKey != nil || c.ListenPort != nil {
		t.Fatalf("more than two peers' addresses change: %+v", c)
	}
	moved := m.Shared[0].Prefixes
	for _, u := range c.Updated {
		lost, got := u.RemovedIPs, u.AddedIPs
		if u.PublicKey == m.Peers[len(m.Peers)-1].PublicKey {
			lost, got = got, lost
		}
		if !slices.Equal(lost, moved) || len(got) != 0 || u.Endpoint != nil || u.PersistentKeepalive != nil {
			t.Errorf("%+v is not just what moves", u)
		}
	}
	i := slices.IndexFunc(after.Deliveries, func(d reconcile.Delivery) bool { return d.Service == "pacs" })
	if d := after.Deliveries[i]; d.Gateway != at("10.201.0.18:7421") || d.Peer != "node_d" || d.Target != at("10.201.9.1:11112") {
		t.Errorf("objects go to %+v", d)
	}
}

// A gateway that is one of several says to those who may use a service whether it answers on its LAN. One that stands alone does not listen.
func TestGatewayOfSeveralAnswers(t *testing.T) {
	alone := centerMap(t, clinicMap(t))
	m := alone
	m.Shared = []wire.Shared{{Site: "center", Gateways: []string{"node_b", "node_c"}}}
	if d := compiled(t, alone); len(d.Looks) != 0 || slices.ContainsFunc(d.Listeners, func(l reconcile.Listener) bool { return l.Protocol == "standby" }) {
		t.Errorf("one that stands alone: %+v", d.Looks)
	}
	f := newFixture(t)
	pacs, err := f.lan.Listen(t.Context(), "tcp", "192.168.9.5:104")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := pacs.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	c, err := f.overlay.From(addr("10.201.1.1")).DialContext(t.Context(), "tcp", "10.201.0.17:7422")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	says := func(want string) func() bool {
		return func() bool { return ask(t, c, in) == want+"\n" }
	}
	eventually(t, "the archive answers", says(`{"up":["pacs"]}`))
	f.lan.SetDown("192.168.9.5:104", errors.New("no route to host"))
	began := time.Now()
	eventually(t, "the archive is gone", says(`{"up":[]}`))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v to see that the archive is gone", took)
	}
	_ = pacs.Close()
	stranger, err := f.overlay.From(addr("10.201.1.99")).DialContext(t.Context(), "tcp", "10.201.0.17:7422")
	if err == nil {
		defer func() { _ = stranger.Close() }()
		if _, err := io.ReadAll(stranger); err != nil {
			t.Errorf("a stranger is not turned away: %v", err)
		}
	}
}

func ask(t *testing.T, c net.Conn, in *bufio.Reader) string {
	t.Helper()
	if _, err := io.WriteString(c, "?\n"); err != nil {
		t.Fatal(err)
	}
	line, err := in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// A Desired that the tunnel does not take is told from one of which only a listener fails.
func TestTunnelErrorIsToldApart(t *testing.T) {
	f := newFixture(t)
	f.dev.fail = errors.New("busy")
	err := f.Apply(t.Context(), compiled(t, clinicMap(t)))
	if _, ok := errors.AsType[*reconcile.TunnelError](err); !ok || !errors.Is(err, f.dev.fail) {
		t.Errorf("%v is no TunnelError", err)
	}
	f.dev.fail = nil
	m := clinicMap(t)
	if l, err := f.overlay.Listen(t.Context(), "tcp", "10.201.1.1:2575"); err == nil {
		defer func() { _ = l.Close() }()
	}
	err = f.Apply(t.Context(), compiled(t, m))
	if _, ok := errors.AsType[*reconcile.TunnelError](err); ok || err == nil {
		t.Errorf("a listener that fails: %v", err)
	}
}
