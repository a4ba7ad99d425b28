package reconcile_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

// hl7Map is the map of a clinic with two uses on one port, a folder that takes acknowledgments, and an application of release 2.
func hl7Map(t *testing.T) wire.NetMap {
	t.Helper()
	m := clinicMap(t)
	from := m.Offers[0].From
	at := netip.MustParseAddrPort("10.201.0.17:2575")
	m.Offers = []wire.Offer{
		{
			Service: "findings", Protocol: wire.HL7, Mode: wire.Queued, Receiver: "PRAXIS", Port: 2575, Target: "folder:findings", From: from,
			HL7: wire.HL7Options{Acks: true},
		},
		{
			Service: "query", Protocol: wire.HL7, Mode: wire.PassThrough, Port: 2576, Target: "192.168.1.9:2576", From: from,
			HL7: wire.HL7Options{CommitTarget: true, AckTimeout: 60},
		},
	}
	m.Uses = []wire.Use{
		{
			Service: "orders", Site: "center", Protocol: wire.HL7, Mode: wire.Queued, LANPort: 2575, Address: at,
			HL7: wire.HL7Options{Types: "ORM", Behind: wire.Stop, Retries: 2},
		},
		{
			Service: "archive", Site: "center", Protocol: wire.HL7, Mode: wire.Queued, LANPort: 2575, Address: at,
			HL7: wire.HL7Options{Copy: true},
		},
	}
	return m
}

func TestCompileHL7(t *testing.T) {
	d := compiled(t, hl7Map(t))
	routes := map[string]reconcile.Route{}
	for _, l := range d.Listeners {
		for _, r := range l.Routes {
			routes[r.Service] = r
		}
	}
	want := map[string]reconcile.Route{
		"findings": {Service: "findings", Mode: wire.PassThrough, Via: reconcile.LAN, Folder: "findings", Once: true, HL7: wire.HL7Options{Acks: true}},
		"query": {
			Service: "query", Mode: wire.PassThrough, Via: reconcile.LAN, Target: "192.168.1.9:2576",
			HL7: wire.HL7Options{CommitTarget: true, AckTimeout: 60},
		},
		"orders":  {Service: "orders", Mode: wire.Queued, Queue: "hl7.orders", HL7: wire.HL7Options{Types: "ORM", Behind: wire.Stop, Retries: 2}},
		"archive": {Service: "archive", Mode: wire.Queued, Queue: "hl7.archive", HL7: wire.HL7Options{Copy: true}},
	}
	if diff := cmp.Diff(want, routes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]reconcile.Return{{Receiver: "PRAXIS", Queue: "hl7.return.findings"}}, d.Returns); diff != "" {
		t.Errorf("returns (-want +got):\n%s", diff)
	}
	if len(d.Deliveries) != 3 || d.Deliveries[2].Queue != "hl7.return.findings" || d.Deliveries[2].Folder != "findings" || d.Deliveries[2].Target.IsValid() {
		t.Errorf("deliveries %+v", d.Deliveries)
	}
	if !reconcile.Ordered("hl7.return.findings") {
		t.Error("acknowledgments go back out of order")
	}
}

// hl7Fixture is a Runner with all that HL7 needs.
func hl7Fixture(t *testing.T) (f *fixture, folders string, counters *hl7.Counters) {
	t.Helper()
	q, err := spool.Open(t.TempDir(), spool.Options{MinFreeBytes: -1, Ordered: reconcile.Ordered, Backoff: spool.Backoff{Min: time.Millisecond, Max: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := hl7.OpenLedger(t.TempDir(), hl7.LedgerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	folders, counters = t.TempDir(), &hl7.Counters{}
	f = &fixture{dev: &idleDevice{}, lan: proxytest.NewNetwork(), overlay: proxytest.NewNetwork(), queue: q}
	f.Runner = reconcile.NewRunner(reconcile.RunnerConfig{
		Device: f.dev, LANNet: f.lan, OverlayNet: f.overlay, Queue: q, Health: &f.health, Log: slog.New(slog.DiscardHandler),
		HL7: reconcile.HL7{Ledger: l, Counters: counters, Folders: folders},
	})
	t.Cleanup(func() { f.Stop(); _ = q.Close(); _ = l.Close() })
	return f, folders, counters
}

// application answers with one code.
func application(t *testing.T, n *proxytest.Network, address string, code hl7.Code) {
	t.Helper()
	ln, err := n.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := proxy.NewServer(proxy.ServerConfig{Name: address, Listener: ln, Handler: proxy.HandlerFunc(func(ctx context.Context, c net.Conn) proxy.Result {
		defer context.AfterFunc(ctx, func() { _ = c.Close() })()
		buf := make([]byte, 1<<16)
		for {
			k, err := c.Read(buf)
			if err != nil {
				return proxy.Result{Outcome: proxy.OutcomeDone}
			}
			h, err := hl7.ParseHeader([]byte(strings.Trim(string(buf[:k]), "\x0b\x1c\r")))
			if err == nil {
				_, err = io.WriteString(c, "\x0b"+string(h.Ack(code, ""))+"\x1c\r")
			}
			if err != nil {
				return proxy.Result{Outcome: proxy.OutcomeAborted}
			}
		}
	})})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in time", what)
		}
	}
}

// TestHL7ThroughARunner has the center refuse an order of the clinic: the copy is delivered, the order stops its queue, and what the center
// said becomes a file at the clinic, where a finding of the center's lies, too.
func TestHL7ThroughARunner(t *testing.T) {
	f, folders, counters := hl7Fixture(t)
	m := hl7Map(t)
	m.Uses[1].Address = netip.MustParseAddrPort("10.201.0.17:2577")
	application(t, f.overlay, "10.201.0.17:2575", hl7.AR)
	application(t, f.overlay, "10.201.0.17:2577", hl7.AA)
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	clinic := hl7.SendConfig{Network: f.lan, Target: "192.168.1.10:2575"}
	parties := hl7.Parties{SendingApplication: "PRAXIS", ReceivingApplication: "HIS"}
	for _, id := range []string{"1", "2", "2"} {
		if a, err := hl7.Send(t.Context(), clinic, hl7.SampleOrder(time.Unix(1e9, 0), id, parties)); err != nil || a.Code != hl7.AA {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	stats := func(name string) spool.QueueStats {
		for _, st := range f.queue.Stats() {
			if st.Queue == name {
				return st
			}
		}
		return spool.QueueStats{}
	}
	eventually(t, "the copies", func() bool { return stats("hl7.archive").Delivered == 2 })
	eventually(t, "the refusal", func() bool { st := stats("hl7.orders"); return st.Parked == 1 && st.Queued == 1 && st.Halted })
	files := func() []string {
		paths, err := filepath.Glob(filepath.Join(folders, "findings", "*.hl7"))
		if err != nil {
			t.Fatal(err)
		}
		return paths
	}
	eventually(t, "the way back", func() bool { return len(files()) == 1 })
	b, err := os.ReadFile(files()[0])
	if err != nil {
		t.Fatal(err)
	}
	if a, err := hl7.ParseAck(b); err != nil || a.Code != hl7.AR || a.ControlID != "1" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := hl7.Send(t.Context(), hl7.SendConfig{Network: f.overlay.From(netip.MustParseAddr("10.201.0.17")), Target: resultsAddr},
		hl7.SampleResult(time.Now(), "R", parties)); err != nil || a.Code != hl7.AA || len(files()) != 2 {
		t.Errorf("%+v, %v, %d files", a, err, len(files()))
	}
	if c := counters.List(); len(c) != 2 || c[0].Duplicates != 1 || c[1].Duplicates != 1 || c[1].Returned != 1 {
		t.Errorf("%+v", c)
	}

	// The rule changes: what waits goes on.
	m.Generation++
	m.Uses[0].HL7.Behind = ""
	if err := f.Apply(t.Context(), compiled(t, m)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next order", func() bool { return stats("hl7.orders").Parked == 2 })
}

// TestFoldersNeedAPlace has no directory for them.
func TestFoldersNeedAPlace(t *testing.T) {
	f := newFixture(t)
	if err := f.Apply(t.Context(), compiled(t, hl7Map(t))); err == nil || !strings.Contains(err.Error(), "--folders") {
		t.Errorf("%v", err)
	}
	open(t, f.overlay, "10.201.0.17", "10.201.1.1:2576") // the others work
}
