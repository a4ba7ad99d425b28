package overlaytest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/standby"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/hub"
	"github.com/towpath/towpath/provisioning/provisioningtest"
	"github.com/towpath/towpath/provisioning/store/sqlite"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/turn"
)

const (
	hubWAN    = "198.51.100.9:51820"
	firstWAN  = "198.51.100.1:51820"
	secondWAN = "198.51.100.2:51820"
	pacsAt    = "192.168.9.5:104"
	hisAt     = "192.168.9.6:2575"
	// holdDown is shorter than on boxes, so that a return can be waited for.
	holdDown = 3 * time.Second
)

// daemon is a whole gateway.
type daemon struct {
	*gateway.Gateway
	id     string
	dir    string
	device *netstack.Device
	lan    *proxytest.Network
	stop   func()
}

// pair is a real coordinator, a center with two gateways, and a clinic that uses its archive, which has an address of its own, and its HL7
// system, which has none.
type pair struct {
	t             *testing.T
	net           *provisioningtest.Network
	internet      *tunneltest.Network
	first, second *daemon
	clinic        *daemon
	pacs          []*archive
	his           []*receiver
	sent          []string
	seed          uint64
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, internet: tunneltest.NewNetwork()}
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "coordinator.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	p.net = provisioningtest.New(t, st, provisioningtest.Options{Init: coordinator.InitOptions{HubEndpoints: []string{hubWAN}}})
	p.runHub()
	p.net.Center(t, "lab", firstWAN)
	p.net.Clinic(t, "nord")
	if _, err := p.net.Allocate(t.Context(), provisioningtest.Actor, coordinator.NewAllocation{
		Site: "lab", Purpose: provisioning.PurposeServices, Size: coordinator.Size{Hosts: 6},
	}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []coordinator.NewService{
		{Site: "lab", Name: "pacs", Protocol: wire.DICOM, AETitle: "PACS", Target: pacsAt, FixedAddress: true},
		{Site: "lab", Name: "his", Protocol: wire.HL7, Mode: wire.PassThrough, Target: hisAt},
	} {
		if _, err := p.net.CreateService(t.Context(), provisioningtest.Actor, s); err != nil {
			t.Fatal(err)
		}
		p.net.Grant(t, s.Name, "nord")
	}
	p.first, p.second, p.clinic = p.enroll("lab", 1), p.enroll("lab", 2), p.enroll("nord", 3)
	if err := p.net.PlaceNode(t.Context(), provisioningtest.Actor, provisioning.NodeID(p.second.id), coordinator.NodePlace{Endpoint: new(secondWAN)}); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*daemon{p.first, p.second} {
		p.pacs, p.his = append(p.pacs, newArchive(t, g.lan, pacsAt, "PACS")), append(p.his, newReceiver(t, g.lan, hisAt))
	}
	return p
}

func (p *pair) runHub() {
	dev := p.device(9)
	h := hub.New(hub.Config{Device: dev, Stack: dev, Coordinator: p.net.Coordinator, Port: 51820})
	p.background(func(ctx context.Context) error { return h.Run(ctx) })
	<-h.Ready()
}

// background runs something until the test ends.
func (p *pair) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, http.ErrServerClosed) {
			p.t.Errorf("it ended with %v", err)
		}
	})
	p.t.Cleanup(stop)
	return stop
}

func (p *pair) device(i byte) *netstack.Device {
	p.t.Helper()
	d, err := netstack.New(netstack.Options{Bind: p.internet.Bind(netip.AddrFrom4([4]byte{198, 51, 100, i}))})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = d.Close() })
	return d
}

// enroll makes a box of a site and its state directory, as enrolment leaves it.
func (p *pair) enroll(site string, i byte) *daemon {
	p.t.Helper()
	b := p.admit(site)
	s := b.Open(p.t.Context(), http.MethodPost, wire.Have{})
	f, err := s.Next()
	s.Close()
	if err != nil || f.NetMap == nil {
		p.t.Fatalf("the map of %s: %v", site, err)
	}
	g := &daemon{id: string(b.ID), dir: filepath.Join(p.t.TempDir(), "s"), lan: proxytest.NewNetwork()}
	dir, err := state.Open(g.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := dir.SaveEnrolled(state.Identity{PrivateKey: b.Key, NetworkKey: b.Network, Node: g.id, Site: site}, *f.NetMap); err != nil {
		p.t.Fatal(err)
	}
	if err := dir.Close(); err != nil {
		p.t.Fatal(err)
	}
	p.start(g, i)
	return g
}

// admit enrolls a box that an operator approves, as a further gateway has to be.
func (p *pair) admit(site string) *provisioningtest.Node {
	p.t.Helper()
	ctx := p.t.Context()
	_, token, err := p.net.CreateToken(ctx, provisioningtest.Actor, coordinator.NewToken{Site: site, Approval: true})
	if err != nil {
		p.t.Fatal(err)
	}
	b := p.net.Box(p.t)
	if _, waits := errors.AsType[*provisioningtest.WaitingError](b.Enroll(ctx, token, wire.Facts{})); !waits {
		p.t.Fatalf("a box of %s does not wait", site)
	}
	nodes, err := p.net.Nodes(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	i := slices.IndexFunc(nodes, func(n coordinator.NodeInfo) bool { return n.State == provisioning.NodeWaiting })
	if err := p.net.ApproveNode(ctx, provisioningtest.Actor, nodes[i].ID); err != nil {
		p.t.Fatal(err)
	}
	if err := b.Enroll(ctx, token, wire.Facts{}); err != nil {
		p.t.Fatal(err)
	}
	return b
}

// start runs a box, also again.
func (p *pair) start(g *daemon, i byte) {
	p.t.Helper()
	dir, err := state.Open(g.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	id, err := dir.Identity()
	if err != nil {
		p.t.Fatal(err)
	}
	q, err := spool.Open(dir.Path(state.SpoolDir), spool.Options{
		MinFreeBytes: -1, Ordered: reconcile.Ordered, Backoff: spool.Backoff{Min: 50 * time.Millisecond, Max: 200 * time.Millisecond},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	g.device = p.device(i)
	log := slog.New(slog.DiscardHandler)
	turning := turn.NewStacked(g.device, turn.Options{Log: log})
	g.Gateway, err = gateway.New(gateway.Options{
		Dir: dir, Identity: id, Device: turning, Spool: q, LAN: g.lan, LANAddress: addr(boxLAN), ListenPort: 51820, Log: log,
		Standby: standby.Options{Hold: holdDown},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	stop := p.background(g.Run)
	device := g.device
	g.stop = sync.OnceFunc(func() {
		_ = device.Close() // first, so that nobody waits for an orderly end
		stop()
		_ = turning.Close()
		_ = q.Close()
		_ = dir.Close()
	})
	p.t.Cleanup(g.stop)
}

// used is how the clinic reaches the center.
func (p *pair) used() standby.State {
	for _, s := range p.clinic.Status(p.t.Context()).Standby {
		if s.Site == "lab" {
			return s
		}
	}
	return standby.State{}
}

func (p *pair) healthy() bool {
	s := p.used()
	return len(s.Gateways) == 2 && !slices.ContainsFunc(s.Gateways, func(x standby.GatewayState) bool { return !x.Healthy })
}

// queue gives objects to the clinic's box, which keeps what the center does not take yet.
func (p *pair) queue(n int) {
	p.t.Helper()
	p.seed++
	objects, uids := study(p.t, p.seed, n)
	if got, err := send(p.t, p.clinic.lan, boxLAN+":11112", "PACS", objects); err != nil || got != n {
		p.t.Fatalf("%d of %d objects were taken: %v", got, n, err)
	}
	p.sent = append(p.sent, uids...)
}

// arrived waits until all objects are at the center's archive, whichever gateway brought them.
func (p *pair) arrived(when string) {
	p.t.Helper()
	want := slices.Sorted(slices.Values(p.sent))
	eventually(p.t, "all objects arrive "+when, func() bool {
		got := distinct(slices.Concat(p.pacs[0].objects(), p.pacs[1].objects()))
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

// talks exchanges a message with the center's HL7 system through the clinic's box, and wants it to come through the gateway in use. A busy machine
// may make it another one meanwhile: then it is tried again.
func (p *pair) talks() {
	p.t.Helper()
	eventually(p.t, "the center's HL7 system answers", func() bool {
		p.seed++
		id, before := fmt.Sprint("m", p.seed), p.used()
		err := converse(p.t, p.clinic.lan, boxLAN+":2575").say(id)
		if after := p.used(); err != nil || before.Active != after.Active || !before.Since.Equal(after.Since) {
			return false
		}
		through := 0
		if before.Active == p.second.id {
			through = 1
		}
		if !slices.Contains(p.his[through].messages(), id) {
			p.t.Errorf("message %s did not come through gateway %s", id, before.Active)
		}
		return true
	})
}

// moves waits until the clinic uses a gateway, and reports how long that took. It is not fair where the machine is so busy that this test itself had to
// wait.
func (p *pair) moves(to *daemon, since time.Time) (took time.Duration, fair bool) {
	p.t.Helper()
	fair = true
	last := time.Now()
	eventually(p.t, "the clinic uses "+to.id, func() bool {
		now := time.Now()
		fair = fair && now.Sub(last) < 50*time.Millisecond
		last = now
		return p.used().Active == to.id
	})
	return time.Since(since), fair
}

// A center's gateway dies, or only its way to the devices. In both cases the clinic leaves it within 3 s, what was queued meanwhile arrives, and
// what is passed through works. When it is back it is used again after the hold-down, and not before.
func TestFailover(t *testing.T) {
	t.Parallel()
	down := func(g *daemon, err error) {
		for _, at := range []string{pacsAt, hisAt} {
			g.lan.SetDown(at, err)
		}
	}
	for name, c := range map[string]struct{ kill, revive func(*pair) }{
		"gateway": {
			kill:   func(p *pair) { _ = p.first.device.Close() }, // silent from here on; the rest of its end takes its time
			revive: func(p *pair) { p.first.stop(); p.start(p.first, 1) },
		},
		"LAN": {
			kill:   func(p *pair) { down(p.first, errors.New("no route to host")) },
			revive: func(p *pair) { down(p.first, nil) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			atRest := func() bool { return p.healthy() && p.used().Active == p.first.id }
			eventually(t, "both gateways are healthy, and the first is used", atRest)
			p.queue(3)
			p.arrived("before")
			p.talks()
			eventually(t, "all is at rest", atRest)

			died := time.Now()
			c.kill(p)
			p.queue(5)
			took, fair := p.moves(p.second, died)
			t.Logf("moved after %v", took.Round(time.Millisecond))
			if took > 3*time.Second && fair {
				t.Errorf("the move took %v", took)
			}
			p.queue(5)
			p.arrived("through the second gateway")
			p.talks()
			eventually(t, "a condition says so", func() bool {
				return slices.ContainsFunc(p.clinic.Status(t.Context()).Conditions, func(c health.Condition) bool { return c.Code == "failover/lab" })
			})

			back := time.Now()
			c.revive(p)
			p.queue(2)
			took, _ = p.moves(p.first, back)
			t.Logf("back after %v", took.Round(time.Millisecond))
			if took < holdDown && p.used().Why == standby.Returned {
				t.Errorf("it returned after %v, before the hold-down ended", took)
			}
			p.queue(2)
			p.arrived("through the first gateway again")
			p.talks()
		})
	}
}
