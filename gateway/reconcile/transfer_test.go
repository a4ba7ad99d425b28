package reconcile_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/transfer"
)

// centerMap is the other end of clinicMap: it offers the PACS.
func centerMap(t *testing.T, clinic wire.NetMap) wire.NetMap {
	t.Helper()
	m := clinicMap(t)
	m.Self = wire.Self{Node: "node_c", PublicKey: public(t), Site: "center", SiteKind: wire.Center, Address: netip.MustParseAddr("10.201.0.17")}
	m.Peers = []wire.Peer{{
		Node: clinic.Self.Node, Site: clinic.Self.Site, PublicKey: public(t), AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.201.1.1/32")},
	}}
	m.Offers = []wire.Offer{{
		Service: "pacs", Protocol: wire.DICOM, AETitle: "PACS", Port: 11112, Target: "192.168.9.5:104",
		From: []wire.Source{{Site: "north", Prefix: netip.MustParsePrefix("10.201.1.1/32")}},
	}}
	m.Uses = nil
	return m
}

// gatewayPair is a clinic and a center on one overlay.
type gatewayPair struct {
	clinic, center *fixture
	clinicMap      wire.NetMap
	centerMap      wire.NetMap

	mu       sync.Mutex
	receipts []transfer.Receipt
}

func (p *gatewayPair) heard() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.receipts)
}

// end makes one of the two, on a queue that may have been there before.
func (p *gatewayPair) end(t *testing.T, node, dir string, overlay, lan *proxytest.Network) *fixture {
	t.Helper()
	q, err := spool.Open(dir, spool.Options{MinFreeBytes: -1, Ordered: reconcile.Ordered})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{dev: &idleDevice{}, lan: lan, overlay: overlay, queue: q}
	q.OnDelivered(func(_ spool.Item, r spool.Receipt) {
		if signed, err := transfer.ParseReceipt(r.Signed); err == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.receipts = append(p.receipts, signed)
		}
	})
	signer := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{node[len(node)-1]}, ed25519.SeedSize))
	f.Runner = reconcile.NewRunner(reconcile.RunnerConfig{
		Device: f.dev, LANNet: f.lan, OverlayNet: f.overlay, Queue: q, Health: &f.health, Log: slog.New(slog.DiscardHandler),
		Transfer: reconcile.TransferConfig{
			Spool: q, Node: node, Signer: signer, Workers: 1, Secret: bytes.Repeat([]byte{1}, 32),
		},
	})
	t.Cleanup(func() { f.Stop(); _ = q.Close() })
	return f
}

func newGatewayPair(t *testing.T) *gatewayPair {
	t.Helper()
	n := proxytest.NewNetwork()
	p := &gatewayPair{clinicMap: clinicMap(t)}
	p.centerMap = centerMap(t, p.clinicMap)
	p.clinic = p.end(t, "node_a", t.TempDir(), n.From(netip.MustParseAddr("10.201.1.1")), proxytest.NewNetwork())
	p.center = p.end(t, "node_c", t.TempDir(), n.From(netip.MustParseAddr("10.201.0.17")), proxytest.NewNetwork())
	return p
}

func (p *gatewayPair) apply(t *testing.T) {
	t.Helper()
	// The center's target is on the LAN of its own; what it listens at there does not matter.
	for f, m := range map[*fixture]wire.NetMap{p.clinic: p.clinicMap, p.center: p.centerMap} {
		if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
			t.Fatal(err)
		}
	}
}

// put queues n objects at the clinic.
func (p *gatewayPair) put(t *testing.T, first, n int) {
	t.Helper()
	for i := first; i < first+n; i++ {
		w, err := p.clinic.queue.Create(spool.Meta{Queue: "dicom.pacs", Attributes: map[string]string{
			dicom.AttrSOPClass: "1.2.840.10008.5.1.4.1.1.2", dicom.AttrSOPInstance: fmt.Sprintf("1.2.%d", i),
			dicom.AttrTransferSyntax: dicom.ExplicitLittleEndian, dicom.AttrCallingAE: "CT1", dicom.AttrCalledAE: "PACS",
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(w, "\x08\x00\x18\x00UI\x06\x001.2.%02d", i%100); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// pacs runs an archive on the center's LAN and returns how many objects came, those that came again included.
func (p *gatewayPair) pacs(t *testing.T) func() int {
	t.Helper()
	var o orderly
	p.archive(t, &o)
	return func() int { return len(o.order()) }
}

// archive runs an archive on the center's LAN.
func (p *gatewayPair) archive(t *testing.T, o *orderly) {
	t.Helper()
	a, err := dicom.NewArchive(dicom.ArchiveConfig{Dir: t.TempDir(), AETitle: "PACS", OnStored: o.stored})
	if err != nil {
		t.Fatal(err)
	}
	l, err := p.center.lan.Listen(t.Context(), "tcp", "192.168.9.5:104")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { a.Serve(ctx, c); _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); p.center.Stop(); wg.Wait(); _ = a.Close() })
}

func stats(f *fixture, queue string) spool.QueueStats {
	for _, s := range f.queue.Stats() {
		if s.Queue == queue {
			return s
		}
	}
	return spool.QueueStats{}
}

// TestObjectsGoFromGatewayToGateway: the far gateway keeps and delivers them, and only its signed word ends them at the near one.
func TestObjectsGoFromGatewayToGateway(t *testing.T) {
	p := newGatewayPair(t)
	p.apply(t)
	p.put(t, 0, 20)
	eventually(t, "taking over", func() bool { return stats(p.clinic, "dicom.pacs").Carried == 20 })
	if s := stats(p.center, "in.pacs"); s.Queued != 20 || p.heard() != 0 {
		t.Fatalf("the center has %d objects while its PACS is away, %d receipts", s.Queued, p.heard())
	}
	arrived := p.pacs(t)
	eventually(t, "delivery", func() bool { return p.heard() == 20 && stats(p.clinic, "dicom.pacs").Carried == 0 })
	if n := arrived(); n != 20 {
		t.Errorf("%d objects came to the PACS", n)
	}
	// The receipt goes before the item does.
	eventually(t, "the center to have forgotten them", func() bool {
		s := stats(p.center, "in.pacs")
		return s.Queued+s.Parked+s.Carried == 0
	})
	for _, r := range p.receipts {
		if r.By != "node_c" || r.Service != "pacs" || r.Code != "0000" || len(r.Bytes()) == 0 {
			t.Fatalf("receipt %+v", r)
		}
	}
	got := p.clinic.Transfers()
	if len(got) != 1 || got[0].Site != "center" || !got[0].Connected || got[0].Accepted != 20 {
		t.Errorf("progress %+v", got)
	}
}

// TestTheCenterRestartsInTheMiddle: nothing is lost or delivered twice.
func TestTheCenterRestartsInTheMiddle(t *testing.T) {
	p := newGatewayPair(t)
	p.apply(t)
	p.put(t, 0, 30)
	eventually(t, "taking over", func() bool { return stats(p.clinic, "dicom.pacs").Carried == 30 })
	old := p.center
	dir := old.queue.Dir()
	old.Stop()
	if err := old.queue.Close(); err != nil {
		t.Fatal(err)
	}
	p.put(t, 30, 10)
	p.center = p.end(t, "node_c", dir, old.overlay, old.lan)
	p.apply(t)
	arrived := p.pacs(t)
	eventually(t, "delivery", func() bool { s := stats(p.clinic, "dicom.pacs"); return s.Carried+s.Queued == 0 })
	if n := arrived(); n != 40 {
		t.Errorf("%d objects came to the PACS, want 40", n)
	}
}

// TestARefusalIsParkedOnBothSides: the operator of either end sees why.
func TestARefusalIsParkedOnBothSides(t *testing.T) {
	p := newGatewayPair(t)
	p.centerMap.Offers[0].AETitle = "OTHER" // the PACS refuses the association, which is no refusal of the object
	p.apply(t)
	p.pacs(t)
	w, err := p.clinic.queue.Create(spool.Meta{Queue: "dicom.pacs", Attributes: map[string]string{dicom.AttrSOPClass: "nonsense"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "parking", func() bool {
		return stats(p.clinic, "dicom.pacs").Parked == 1 && stats(p.center, "in.pacs").Parked == 1
	})
	if s := stats(p.clinic, "dicom.pacs"); !strings.Contains(s.ParkedError, "what kind of object") || !strings.Contains(s.ParkedError, "node_c") {
		t.Errorf("the clinic says %q", s.ParkedError)
	}
}

// TestAPlanThatIsNotThereYet: what the center does not offer is held, not refused.
func TestAPlanThatIsNotThereYet(t *testing.T) {
	p := newGatewayPair(t)
	late := p.centerMap.Offers
	p.centerMap.Offers = []wire.Offer{late[0]}
	p.centerMap.Offers[0].Service = "other"
	p.apply(t)
	p.put(t, 0, 1)
	eventually(t, "an attempt", func() bool { return stats(p.clinic, "dicom.pacs").LastError != "" })
	if s := stats(p.clinic, "dicom.pacs"); s.Parked != 0 {
		t.Fatalf("%+v", s)
	}
	late[0].Service = "pacs"
	p.centerMap.Offers = late
	arrived := p.pacs(t)
	p.apply(t)
	eventually(t, "delivery", func() bool { return arrived() == 1 })
}

// TestWithoutTransfer: objects go straight to their service, as to a center without a gateway of ours.
func TestWithoutTransfer(t *testing.T) {
	m := clinicMap(t)
	m.Peers[0].Kind = wire.Unmanaged
	d := compiled(t, m)
	if d.Deliveries[0].Gateway.IsValid() {
		t.Error("an unmanaged device is taken for a gateway")
	}
	f := newFixture(t)
	c := centerMap(t, m)
	if err := f.Apply(t.Context(), compiled(t, c)); err != nil {
		t.Fatal(err)
	}
	for _, l := range f.Listeners() {
		if l.Spec.Protocol == "transfer" {
			t.Error("a box without transfer listens for it")
		}
	}
}

// TestTheReceivingEndComesLate: what keeps it from opening is a Condition, and when that is gone objects are taken and delivered.
func TestTheReceivingEndComesLate(t *testing.T) {
	p := newGatewayPair(t)
	inTheWay := filepath.Join(p.center.queue.Dir(), "transfer")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.center.Apply(t.Context(), compiled(t, p.centerMap)); err == nil || !p.center.health.Has(reconcile.CodeTransfer) {
		t.Fatalf("the receiving end was opened: %v", err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	p.apply(t)
	if p.center.health.Has(reconcile.CodeTransfer) {
		t.Error("the Condition is still there")
	}
	arrived := p.pacs(t)
	p.put(t, 0, 3)
	eventually(t, "delivery", func() bool { return arrived() == 3 && p.heard() == 3 })
}
