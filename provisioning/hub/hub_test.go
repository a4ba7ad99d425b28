package hub_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/hub"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store/sqlite"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/netstack"
)

func newNetwork(t *testing.T, o provisioningtest.Options) *provisioningtest.Network {
	t.Helper()
	st, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "coordinator.db"), sqlite.Options{})
	if err != nil {
		t.Fatalf("open the database: %v", err)
	}
	t.Cleanup(func() { st.Close() })
	return provisioningtest.New(t, st, o)
}

// fakeDevice remembers what it was told, and is its own Stack, on pipes.
type fakeDevice struct {
	mu       sync.Mutex
	configs  []tunnel.Config
	fail     error
	listened string
}

// configureTime is what a device takes in the fake time of these tests.
const configureTime = 200 * time.Millisecond

func (d *fakeDevice) Configure(_ context.Context, c tunnel.Config) error {
	time.Sleep(configureTime)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return d.fail
	}
	d.configs = append(d.configs, c)
	return nil
}

func (d *fakeDevice) last() tunnel.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.configs[len(d.configs)-1]
}

func (d *fakeDevice) setFail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

func (d *fakeDevice) Status(context.Context) (tunnel.Status, error) { return tunnel.Status{}, nil }
func (d *fakeDevice) Close() error                                  { return nil }

func (d *fakeDevice) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("the hub calls nobody")
}

func (d *fakeDevice) Listen(_ context.Context, network, address string) (net.Listener, error) {
	d.listened = network + " " + address
	return &idleListener{closed: make(chan struct{})}, nil
}

// idleListener never has a caller.
type idleListener struct {
	closed chan struct{}
	once   sync.Once
}

func (l *idleListener) Accept() (net.Conn, error) { <-l.closed; return nil, net.ErrClosed }
func (l *idleListener) Close() error              { l.once.Do(func() { close(l.closed) }); return nil }
func (l *idleListener) Addr() net.Addr            { return &net.TCPAddr{} }

// run starts a hub and returns how it ended.
func run(t *testing.T, n *provisioningtest.Network, d *fakeDevice) (*hub.Hub, context.CancelFunc, chan error) {
	t.Helper()
	h := hub.New(hub.Config{Device: d, Stack: d, Coordinator: n.Coordinator, Port: 51820})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	return h, cancel, ended
}

func TestHubKnowsExactlyTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Clinic(t, "a")
		n.Clinic(t, "b")
		d := &fakeDevice{}
		h, stop, ended := run(t, n, d)
		<-h.Ready()
		if d.listened != "tcp 10.201.0.1:8080" {
			t.Errorf("the control API listens at %s", d.listened)
		}
		pub, err := n.HubKey().Public()
		if err != nil {
			t.Fatal(err)
		}
		c := d.last()
		if got, _ := c.PrivateKey.Public(); got != pub || c.ListenPort != 51820 || len(c.Peers) != 0 ||
			!slices.Equal(c.Addresses, []netip.Prefix{netip.MustParsePrefix("10.201.0.1/32")}) ||
			!slices.Equal(c.Blackhole, []netip.Prefix{netip.MustParsePrefix("10.201.0.0/16")}) {
			t.Errorf("the empty network is configured as %+v", c)
		}
		a := n.Node(t, "a")
		if p := d.last().Peers; len(p) != 1 || p[0].AllowedIPs[0] != netip.PrefixFrom(a.Map().Self.Address, 32) || p[0].Endpoint.IsValid() {
			t.Errorf("when the box has its answer, the hub knows %+v", p)
		}
		n.Node(t, "b")
		n.Remove(t, a.ID)
		time.Sleep(2 * configureTime)
		synctest.Wait()
		if p := d.last().Peers; len(p) != 1 || p[0].PublicKey == a.Map().Self.PublicKey {
			t.Errorf("after the removal the hub knows %+v", p)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the hub ended with %v", err)
		}
	})
}

// While a site is renumbered the hub lets its box call from either address, then from the new one only.
func TestHubKnowsFormerAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Clinic(t, "a")
		d := &fakeDevice{}
		h, stop, ended := run(t, n, d)
		<-h.Ready()
		old := n.Node(t, "a").Map().Self.Address
		allowed := func() []netip.Prefix {
			t.Helper()
			time.Sleep(2 * configureTime)
			synctest.Wait()
			if p := d.last().Peers; len(p) != 1 {
				t.Fatalf("the hub knows %+v", p)
			}
			return d.last().Peers[0].AllowedIPs
		}
		moved, err := n.Renumber(t.Context(), provisioningtest.Actor, coordinator.RenumberRequest{Site: "a", Keep: time.Hour})
		if err != nil || len(moved.Nodes) != 1 {
			t.Fatalf("%+v, %v", moved, err)
		}
		next := moved.Nodes[0].New
		if got := allowed(); !slices.Equal(got, []netip.Prefix{netip.PrefixFrom(next, 32), netip.PrefixFrom(old, 32)}) {
			t.Errorf("in between it may call from %v, want %v and %v", got, next, old)
		}
		if _, err := n.EndRenumbering(t.Context(), provisioningtest.Actor, "a"); err != nil {
			t.Fatal(err)
		}
		if got := allowed(); !slices.Equal(got, []netip.Prefix{netip.PrefixFrom(next, 32)}) {
			t.Errorf("afterwards it may call from %v, want %v", got, next)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the hub ended with %v", err)
		}
	})
}

func TestHubTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, provisioningtest.Options{})
		n.Clinic(t, "a")
		d := &fakeDevice{}
		h, stop, ended := run(t, n, d)
		<-h.Ready()
		d.setFail(errors.New("no such device"))
		box := n.Node(t, "a") // answered although the hub hangs
		d.setFail(nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if p := d.last().Peers; len(p) != 1 || p[0].PublicKey != box.Map().Self.PublicKey {
			t.Errorf("the hub knows %+v", p)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the hub ended with %v", err)
		}
	})
}

func TestHubSaysWhenItCannotStart(t *testing.T) {
	n := newNetwork(t, provisioningtest.Options{})
	d := &fakeDevice{fail: errors.New("the port is taken")}
	_, stop, ended := run(t, n, d)
	defer stop()
	if err := <-ended; !errors.Is(err, d.fail) {
		t.Errorf("got %v", err)
	}
}

// TestHubOverWireGuard runs both ends of the control channel over real WireGuard on loopback.
func TestHubOverWireGuard(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	hubDevice, err := netstack.New(netstack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer hubDevice.Close()
	n := newNetwork(t, provisioningtest.Options{Init: coordinator.InitOptions{HubEndpoints: []string{"127.0.0.1:1"}}})
	n.Center(t, "lab", "192.0.2.1:51820")
	n.Clinic(t, "nord")
	n.DICOM(t, "lab", "pacs", "PACS")
	h := hub.New(hub.Config{Device: hubDevice, Stack: hubDevice, Coordinator: n.Coordinator})
	stopCtx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- h.Run(stopCtx) }()
	select {
	case <-h.Ready():
	case err := <-ended:
		t.Fatalf("the hub did not start: %v", err)
	}
	status, err := hubDevice.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}

	lab, box := n.Node(t, "lab"), n.Node(t, "nord")
	m := box.Map()
	device, err := netstack.New(netstack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	host := func(a netip.Addr) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())} }
	if err := device.Configure(ctx, tunnel.Config{
		PrivateKey: box.Key, Addresses: host(m.Self.Address),
		Peers: []tunnel.Peer{{
			PublicKey: m.Hub.PublicKey, AllowedIPs: host(m.Hub.Address), PersistentKeepalive: wire.NodeKeepalive,
			Endpoint: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), status.ListenPort),
		}},
	}); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: device.DialContext, DisableKeepAlives: true}}
	base := "http://" + netip.AddrPortFrom(m.Hub.Address, m.Hub.ControlPort).String()

	start := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s%s?have=%d", base, wire.PathWatch, m.Generation), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, wire.MaxFrame)
	frame := func() wire.Frame {
		t.Helper()
		var f wire.Frame
		if !lines.Scan() {
			t.Fatalf("the stream ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	if f := frame(); f.NetMap != nil || f.Generation < m.Generation {
		t.Errorf("the first frame is %+v", f)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("the first frame took %s: the first handshake was lost", took)
	}

	n.Grant(t, "pacs", "nord")
	f := frame()
	if f.NetMap == nil {
		t.Fatal("the grant did not change the map")
	}
	if m, err = f.NetMap.Open(box.Network); err != nil || len(m.Uses) != 1 || len(m.Peers) != 1 || m.Peers[0].Node != string(lab.ID) {
		t.Errorf("the new map is %+v (%v)", m, err)
	}

	report, err := json.Marshal(wire.Report{Format: 1, Applied: f.Generation})
	if err != nil {
		t.Fatal(err)
	}
	posted, err := client.Post(base+wire.PathReport, "application/json", bytes.NewReader(report))
	if err != nil {
		t.Fatal(err)
	}
	posted.Body.Close()
	nodes, err := n.Nodes(ctx)
	if err != nil || posted.StatusCode != http.StatusNoContent {
		t.Fatalf("the report got status %d (%v)", posted.StatusCode, err)
	}
	for _, i := range nodes {
		if i.ID == box.ID && (i.Applied != f.Generation || i.Desired != f.Generation || !i.Online) {
			t.Errorf("the node is shown with applied %d, desired %d, online %v, want %d", i.Applied, i.Desired, i.Online, f.Generation)
		}
	}

	// The peer goes at once, and with it the way on which the node could hear that it goes.
	n.Remove(t, box.ID)
	for {
		if status, err = hubDevice.Status(ctx); err != nil {
			t.Fatalf("waiting for the peer to go: %v", err)
		}
		if len(status.Peers) == 1 && status.Peers[0].PublicKey == lab.Map().Self.PublicKey {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the hub still has the peers %+v", status.Peers)
		}
		runtime.Gosched()
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the hub ended with %v", err)
	}
}
