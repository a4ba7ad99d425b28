package overlaytest

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/netmap"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/tunnel/netstack"
	"github.com/towpath/towpath/tunnel/tunneltest"
	"github.com/towpath/towpath/tunnel/wgkey"
)

var issued = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// box is one site's box: everything of a gateway that a map reaches.
type box struct {
	id     provisioning.NodeID
	key    wgkey.PrivateKey
	device *netstack.Device
	lan    *proxytest.Network
	queue  *spool.Spool
	health health.Set
	runner *reconcile.Runner
}

// live are the sources of the sessions on the overlay side.
func (b *box) live() (sources []netip.Addr) {
	for _, l := range b.runner.Listeners() {
		for _, s := range l.Live {
			if l.Spec.Side == reconcile.Overlay {
				sources = append(sources, s.Remote.Addr())
			}
		}
	}
	return sources
}

// world is a center "lab" and the clinics "nord" and "sued", which have the same LAN.
type world struct {
	t    *testing.T
	plan netmap.Snapshot
	box  map[string]*box
	maps map[string]wire.NetMap
}

const (
	clinicLAN = "192.168.178.0/24"
	boxLAN    = "192.168.178.1" // at every site: LANs may be the same
	device    = "192.168.178.20:104"
	labWAN    = "198.51.100.1:51820"
)

// ids of the sites; the node of site "s1" is "n1".
var ids = map[string]string{"lab": "s1", "nord": "s2", "sued": "s3"}

func newWorld(t *testing.T) *world {
	t.Helper()
	internet := tunneltest.NewNetwork()
	w := &world{t: t, box: map[string]*box{}, maps: map[string]wire.NetMap{}}
	w.plan = netmap.Snapshot{
		Network: "net", Now: issued, Expires: issued.AddDate(0, 1, 0),
		Hub:    wire.Hub{PublicKey: wgkey.PublicKey{99, 1}, Endpoints: []string{"198.51.100.99:51820"}, Address: addr("10.201.0.1"), ControlPort: 8080},
		Ranges: []provisioning.Range{{ID: 1, Kind: provisioning.RangePool, Prefix: prefix("10.201.0.0/16")}},
	}
	w.allocate("10.201.0.0/28", "hub", provisioning.PurposeOverlay, "")
	for i, name := range []string{"lab", "nord", "sued"} {
		site := provisioning.Site{ID: provisioning.SiteID(ids[name]), Name: name, Kind: wire.Clinic}
		if name == "lab" {
			site.Kind, site.Endpoint = wire.Center, labWAN
		}
		w.plan.Sites = append(w.plan.Sites, site)
		w.allocate(fmt.Sprintf("10.201.%d.0/28", i+1), ids[name], provisioning.PurposeOverlay, "")
		b := newBox(t, internet, addr(fmt.Sprintf("198.51.100.%d", i+1)))
		b.id = provisioning.NodeID(fmt.Sprintf("n%d", i+1))
		w.box[name] = b
		public, err := b.key.Public()
		if err != nil {
			t.Fatal(err)
		}
		w.plan.Nodes = append(w.plan.Nodes, provisioning.Node{
			ID: b.id, Site: site.ID, Kind: wire.Gateway, PublicKey: public, Address: addr(fmt.Sprintf("10.201.%d.1", i+1)),
		})
	}
	w.allocate("10.201.22.0/24", ids["nord"], provisioning.PurposeMapped, clinicLAN)
	w.allocate("10.201.23.0/24", ids["sued"], provisioning.PurposeMapped, clinicLAN)
	return w
}

func newBox(t *testing.T, internet *tunneltest.Network, underlay netip.Addr) *box {
	t.Helper()
	b := &box{lan: proxytest.NewNetwork()}
	var err error
	if b.key, err = wgkey.NewPrivateKey(); err != nil {
		t.Fatal(err)
	}
	if b.device, err = netstack.New(netstack.Options{Bind: internet.Bind(underlay)}); err != nil {
		t.Fatal(err)
	}
	if b.queue, err = spool.Open(t.TempDir(), spool.Options{
		MinFreeBytes: -1, Ordered: reconcile.Ordered, Backoff: spool.Backoff{Min: 50 * time.Millisecond, Max: 200 * time.Millisecond},
	}); err != nil {
		t.Fatal(err)
	}
	b.runner = reconcile.NewRunner(reconcile.RunnerConfig{
		Device: b.device, LANNet: b.lan, OverlayNet: b.device, Queue: b.queue, Health: &b.health, Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() {
		_ = b.device.Close() // first, so that nobody waits for an orderly end
		b.runner.Stop()
		_ = b.queue.Close()
	})
	return b
}

func (w *world) allocate(p, owner string, purpose provisioning.RangePurpose, maps string) *provisioning.Range {
	r := provisioning.Range{
		ID: int64(len(w.plan.Ranges) + 1), Kind: provisioning.RangeAllocation, Prefix: prefix(p), Owner: owner, Purpose: purpose,
	}
	if maps != "" {
		r.Maps = prefix(maps)
	}
	w.plan.Ranges = append(w.plan.Ranges, r)
	return &w.plan.Ranges[len(w.plan.Ranges)-1]
}

// offer adds a service and grants it at the LAN port of the same number.
func (w *world) offer(v provisioning.Service, at string, users ...string) {
	v.ID, v.Site, v.Created = provisioning.ServiceID("v-"+v.Name), provisioning.SiteID(ids[at]), issued
	w.plan.Services = append(w.plan.Services, v)
	for _, u := range users {
		w.plan.Grants = append(w.plan.Grants, provisioning.Grant{Service: v.ID, Site: provisioning.SiteID(ids[u]), LANPort: v.Port, Created: issued})
	}
}

// publish makes the next generation and applies it at the sites in that order.
func (w *world) publish(order ...string) {
	w.t.Helper()
	w.plan.Generation++
	x := netmap.NewIndex(w.plan)
	if o := x.Omissions(); len(o) != 0 {
		w.t.Fatalf("generation %d leaves out %v", w.plan.Generation, o)
	}
	for _, name := range order {
		b := w.box[name]
		m, err := x.Compile(b.id, issued, w.plan.Expires)
		if err != nil {
			w.t.Fatal(err)
		}
		w.maps[name] = m
		w.apply(name, w.desired(name))
	}
}

func (w *world) desired(name string) reconcile.Desired {
	w.t.Helper()
	l := reconcile.Local{
		PrivateKey: w.box[name].key, LANAddress: addr(boxLAN), Endpoints: map[string]netip.AddrPort{labWAN: netip.MustParseAddrPort(labWAN)},
	}
	if name == "lab" {
		l.ListenPort = 51820
	}
	d, err := reconcile.Compile(w.maps[name], l)
	if err != nil || len(d.Problems) != 0 {
		w.t.Fatalf("generation %d at %s: %v, %v", w.plan.Generation, name, d.Problems, err)
	}
	return d
}

func (w *world) apply(name string, d reconcile.Desired) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), tunneltest.Patience)
	defer cancel()
	if err := w.box[name].runner.Apply(ctx, d); err != nil {
		w.t.Fatalf("generation %d at %s: %v", w.plan.Generation, name, err)
	}
}

// reach reports how an attempt to connect through a box's tunnel ends, and gives up after a while in which a sound one succeeds.
func (w *world) reach(from, to string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 3*tunneltest.Silence)
	defer cancel()
	c, err := w.box[from].device.DialContext(ctx, "tcp", to)
	if err == nil {
		_ = c.Close()
	}
	return err
}

// way is one that must not be there.
type way struct{ from, to, why string }

// deny tries ways, all at once.
func (w *world) deny(ways ...way) {
	w.t.Helper()
	var all sync.WaitGroup
	for _, x := range ways {
		all.Go(func() {
			if err := w.reach(x.from, x.to); err == nil {
				w.t.Errorf("%s reaches %s, %s", x.from, x.to, x.why)
			}
		})
	}
	all.Wait()
}

// eventually polls for what must become true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * tunneltest.Patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", 2*tunneltest.Patience, what)
		}
	}
}
