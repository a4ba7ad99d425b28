package gateway

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/localapi"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/tunnel"
)

// fakeDevice remembers what it was told and reaches nothing.
type fakeDevice struct {
	mu     sync.Mutex
	config tunnel.Config
	fail   error
	status func() tunnel.Status
	dial   func(context.Context) (net.Conn, error)
}

// source is where what is dialed now comes from.
func (f *fakeDevice) source() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.config.Addresses[0].Addr().String()
}

func (f *fakeDevice) Configure(_ context.Context, c tunnel.Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		f.config = c
	}
	return f.fail
}

func (f *fakeDevice) Status(context.Context) (tunnel.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.status != nil {
		return f.status(), nil
	}
	s := tunnel.Status{Backend: "fake"}
	for _, p := range f.config.Peers {
		s.Peers = append(s.Peers, tunnel.PeerStatus{PublicKey: p.PublicKey, Endpoint: p.Endpoint})
	}
	return s, nil
}

func (f *fakeDevice) Close() error { return nil }

var errNoRoute = errors.New("no route to host")

func (f *fakeDevice) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	if f.dial != nil {
		return f.dial(ctx)
	}
	return nil, errNoRoute
}

func (f *fakeDevice) Listen(ctx context.Context, network, _ string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, network, "127.0.0.1:0")
}

// box is a Gateway with what the test needs to play its coordinator.
type box struct {
	*Gateway
	dev *fakeDevice
	key ed25519.PrivateKey
	m   wire.NetMap
}

func newBox(t *testing.T) *box {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := state.Open(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	private, err := dir.PendingKey()
	if err != nil {
		t.Fatal(err)
	}
	self, err := private.Public()
	if err != nil {
		t.Fatal(err)
	}
	b := &box{dev: &fakeDevice{}, key: key, m: wire.NetMap{
		Format: wire.Format, Network: wire.NetworkID(pub), Generation: 5, Expires: time.Now().Add(90 * 24 * time.Hour),
		Self:    wire.Self{Node: "node_a", PublicKey: self, Site: "north", SiteKind: wire.Clinic, Address: netip.MustParseAddr("10.201.1.1")},
		Overlay: []netip.Prefix{netip.MustParsePrefix("10.201.0.0/16")},
		Hub:     wire.Hub{PublicKey: [32]byte{1}, Endpoints: []string{"127.0.0.1:9"}, Address: netip.MustParseAddr("10.201.0.1"), ControlPort: 8080},
	}}
	if err := dir.SaveEnrolled(state.Identity{PrivateKey: private, NetworkKey: pub, Node: "node_a", Site: "north"}, b.signed(t, b.m, key)); err != nil {
		t.Fatal(err)
	}
	id, err := dir.Identity()
	if err != nil {
		t.Fatal(err)
	}
	q, err := spool.Open(dir.Path(state.SpoolDir), spool.Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	b.Gateway, err = New(Options{
		Dir: dir, Identity: id, Device: b.dev, Spool: q, LANAddress: netip.MustParseAddr("127.0.0.1"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.runner.Stop(); _ = q.Close(); _ = dir.Close() })
	return b
}

func (b *box) signed(t *testing.T, m wire.NetMap, key ed25519.PrivateKey) wire.Signed {
	t.Helper()
	s, err := wire.Sign(m, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFramesThatAreRefused(t *testing.T) {
	b := newBox(t)
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	older, other, newerFormat := b.m, b.m, b.m
	older.Generation = 4
	other.Generation, other.Self.PublicKey = 6, [32]byte{9}
	newerFormat.Generation, newerFormat.Format = 6, wire.Format+1
	next := b.m
	next.Generation = 6
	for _, c := range []struct {
		name, says string
		s          wire.Signed
	}{
		{"a map signed by somebody else", "signature", b.signed(t, next, stranger)},
		{"an older map", "older", b.signed(t, older, b.key)},
		{"the map of another box", "another box", b.signed(t, other, b.key)},
		{"a map of newer software", "update the software", b.signed(t, newerFormat, b.key)},
		{"a changed map", "signature", wire.Signed{Payload: append([]byte(" "), b.signed(t, next, b.key).Payload...), Signature: b.signed(t, next, b.key).Signature}},
	} {
		err := b.frame(wire.Frame{NetMap: &c.s, Generation: 6, Now: time.Now()})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.says)
		}
		if got := b.have().Generation; got != 5 {
			t.Fatalf("%s moved the box to generation %d", c.name, got)
		}
		if m, err := b.opt.Dir.NetMap(b.opt.Identity.NetworkKey); err != nil || m.Generation != 5 {
			t.Fatalf("%s reached the disk: generation %d, %v", c.name, m.Generation, err)
		}
	}
}

func TestMapIsOnDiskBeforeItActs(t *testing.T) {
	b := newBox(t)
	next := b.m
	next.Generation = 6
	s := b.signed(t, next, b.key)
	if err := b.frame(wire.Frame{NetMap: &s, Generation: 7, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if m, err := b.opt.Dir.NetMap(b.opt.Identity.NetworkKey); err != nil || m.Generation != 6 {
		t.Errorf("saved generation %d, %v; want 6", m.Generation, err)
	}
	if b.have().Generation != 7 {
		t.Errorf("the map of generation 6 is true for 7 as well, but the box says %d", b.have().Generation)
	}
	if r, _ := b.report(); r.Applied != 0 {
		t.Errorf("nothing is applied yet, but the report says %d", r.Applied)
	}
	if !b.apply(t.Context()) {
		t.Fatal("apply failed")
	}
	if r, _ := b.report(); r.Applied != 7 || r.ApplyError != "" {
		t.Errorf("report: applied %d, %q; want 7", r.Applied, r.ApplyError)
	}
}

func TestDeviceThatFailsIsReportedAndTriedAgain(t *testing.T) {
	b := newBox(t)
	b.dev.fail = errors.New("the port is taken")
	if b.apply(t.Context()) {
		t.Fatal("apply must report what failed")
	}
	if r, _ := b.report(); r.Applied != 0 || !strings.Contains(r.ApplyError, "the port is taken") {
		t.Errorf("report: applied %d, %q", r.Applied, r.ApplyError)
	}
	if s := b.Status(t.Context()); s.Healthy {
		t.Error("a box whose tunnel cannot be set up is not healthy")
	}
	b.dev.fail = nil
	if !b.apply(t.Context()) || !b.Status(t.Context()).Healthy {
		t.Error("the next try must clear the Condition")
	}
}

func TestStatusOverTheSocket(t *testing.T) {
	b := newBox(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	path := b.opt.Dir.Path(state.SocketFile)
	if _, err := localapi.NewClient(path).Status(ctx); !errors.Is(err, localapi.ErrNotRunning) {
		t.Errorf("without a gateway: %v, want ErrNotRunning", err)
	}
	go func() { done <- b.Run(ctx) }()
	c := localapi.NewClient(path)
	deadline := time.Now().Add(10 * time.Second)
	for {
		s, err := c.Status(ctx)
		if err == nil && s.Site == "north" && s.Coordinator.Applied == 5 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("status: %+v, %v", s.Coordinator, err)
		}
	}
	r, err := c.Probe(ctx, localapi.ProbeRequest{Address: netip.MustParseAddrPort("10.201.9.9:104")})
	if err != nil || r.Reached || r.Error != errNoRoute.Error() {
		t.Errorf("probe: %+v, %v", r, err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("an orderly end returned %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the gateway does not end")
	}
}

func TestClockInThePast(t *testing.T) {
	b := newBox(t)
	if err := b.opt.Dir.RaiseTimeFloor(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	b.checkClock()
	found := false
	for _, c := range b.health.List() {
		found = found || c.Code == codeClock && strings.Contains(c.Message, "set it")
	}
	if !found {
		t.Errorf("conditions: %v; want one that says to set the clock", b.health.List())
	}
}

// The control channel leaves the former address when there is a new one, and not otherwise.
func TestControlChannelMovesWithTheAddress(t *testing.T) {
	b := newBox(t)
	dials := make(chan string, 8)
	b.dev.dial = func(ctx context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		from := b.dev.source()
		go serveHub(ctx, far, func() { dials <- from })
		return near, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-dials:
			if got != want {
				t.Errorf("the coordinator was called from %s, want %s", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no call from %s", want)
		}
	}
	next("10.201.1.1")
	m := b.m
	for _, change := range []func(){
		func() { m.Uses = nil },
		func() { m.Self.Address, m.Self.Former = netip.MustParseAddr("10.201.1.2"), m.Self.Address },
		func() { m.Self.Former = netip.Addr{} },
	} {
		change()
		m.Generation++
		s := b.signed(t, m, b.key)
		if err := b.frame(wire.Frame{NetMap: &s, Generation: m.Generation, Now: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	next("10.201.1.2")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(dials) > 0 {
		t.Errorf("another call from %s", <-dials)
	}
}

// serveHub answers a watch with one frame, and a report not at all.
func serveHub(ctx context.Context, c net.Conn, watched func()) {
	defer func() { _ = c.Close() }()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil || r.URL.Path != wire.PathWatch {
		return
	}
	watched()
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"generation\":5}\n")
	<-ctx.Done()
}
