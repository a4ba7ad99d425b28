package reconcile_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/tunnel"
)

// idleDevice takes every configuration unless it is told to fail.
type idleDevice struct{ fail error }

func (d *idleDevice) Configure(context.Context, tunnel.Config) error { return d.fail }
func (d *idleDevice) Status(context.Context) (tunnel.Status, error)  { return tunnel.Status{}, nil }
func (d *idleDevice) Close() error                                   { return nil }

type fixture struct {
	*reconcile.Runner
	dev     *idleDevice
	lan     *proxytest.Network
	overlay *proxytest.Network
	queue   *spool.Spool
	health  health.Set
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	q, err := spool.Open(t.TempDir(), spool.Options{MinFreeBytes: -1, Ordered: reconcile.Ordered})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{dev: &idleDevice{}, lan: proxytest.NewNetwork(), overlay: proxytest.NewNetwork(), queue: q}
	f.Runner = reconcile.NewRunner(reconcile.RunnerConfig{
		Device: f.dev, LANNet: f.lan, OverlayNet: f.overlay, Queue: q, Health: &f.health, Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { f.Stop(); _ = q.Close() })
	return f
}

// compiled returns the Desired of a map after a change.
func compiled(t *testing.T, m wire.NetMap) reconcile.Desired {
	t.Helper()
	d, err := reconcile.Compile(m, local(t))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const (
	dicomAddr   = "192.168.1.10:11112"
	resultsAddr = "10.201.1.1:2575"
)

func open(t *testing.T, n *proxytest.Network, from, address string) net.Conn {
	t.Helper()
	c, err := n.From(netip.MustParseAddr(from)).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatalf("connect to %s: %v", address, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// closed reports whether the other end closes the connection within a moment.
func closed(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed)
}

func alive(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestAnotherSiteOrServiceDisturbsNobody(t *testing.T) {
	f, m := newFixture(t), clinicMap(t)
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	modality := open(t, f.lan, "192.168.1.50", dicomAddr)
	center := open(t, f.overlay, "10.201.0.17", resultsAddr)

	m.Generation++
	m.Uses = append(m.Uses, wire.Use{
		Service: "third", Site: "center", Protocol: wire.DICOM, Mode: wire.Queued, LANPort: 11112, AETitle: "THIRD",
		Address: netip.MustParseAddrPort("10.201.0.17:11114"),
	})
	m.Offers[0].From = append(m.Offers[0].From, wire.Source{Site: "second", Prefix: netip.MustParsePrefix("10.201.0.33/32")})
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	if !alive(modality) || !alive(center) {
		t.Error("a session ended because somebody else got a grant")
	}
	open(t, f.overlay, "10.201.0.33", resultsAddr)
}

func TestWhatIsTakenAwayEnds(t *testing.T) {
	f, m := newFixture(t), clinicMap(t)
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	center := open(t, f.overlay, "10.201.0.17", resultsAddr)
	m.Generation++
	m.Offers = nil
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	if !closed(center) {
		t.Error("the session of a service that is gone goes on")
	}
	if _, err := f.overlay.DialContext(t.Context(), "tcp", resultsAddr); err == nil {
		t.Error("a service that is gone still listens")
	}
}

func TestPortInUseIsAConditionAndTriedAgain(t *testing.T) {
	f, m := newFixture(t), clinicMap(t)
	taken, err := f.lan.Listen(t.Context(), "tcp", dicomAddr)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Apply(t.Context(), compiled(t, m)); err == nil {
		t.Fatal("a taken port must be reported")
	}
	if !f.Configured() {
		t.Error("the device was configured all the same")
	}
	found := false
	for _, c := range f.health.List() {
		found = found || strings.HasPrefix(c.Code, reconcile.CodeListener) && c.Severity == health.Error
	}
	if !found {
		t.Errorf("conditions: %v", f.health.List())
	}
	open(t, f.overlay, "10.201.0.17", resultsAddr) // the others work meanwhile
	_ = taken.Close()
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	if len(f.health.List()) != 0 {
		t.Errorf("conditions that do not hold any more: %v", f.health.List())
	}
}

func TestNothingListensWithoutATunnel(t *testing.T) {
	f, m := newFixture(t), clinicMap(t)
	f.dev.fail = errors.New("no tunnel")
	if err := f.Apply(t.Context(), compiled(t, m)); err == nil {
		t.Fatal("a device that fails must be reported")
	}
	if n := len(f.Listeners()); n != 0 {
		t.Errorf("%d listeners accept although nothing can leave", n)
	}
}
