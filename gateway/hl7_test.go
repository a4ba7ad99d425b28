package gateway

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/spool"
)

// TestHL7Conditions sends a message twice, and one with the same control ID, and refuses one in a queue that keeps its order.
func TestHL7Conditions(t *testing.T) {
	b := newBox(t)
	r, err := hl7.NewRouter(hl7.RouterConfig{
		Queue: b.opt.Spool, Ledger: b.hl7.Ledger, Counters: b.hl7.Counters, Routes: []hl7.Route{{Service: "orders", Mode: hl7.Queued, QueueName: "hl7.orders"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	target := serveHL7(t, r)
	at := time.Unix(1e9, 0)
	for range 2 {
		for _, facility := range []string{"A", "B"} { // not part of what a message is known by
			msg := hl7.SampleOrder(at, "1", hl7.Parties{SendingApplication: "P", ReceivingFacility: facility})
			for range 2 {
				if a, err := hl7.Send(t.Context(), hl7.SendConfig{Network: b.lan, Target: target}, msg); err != nil || a.Code != hl7.AA {
					t.Fatalf("%+v, %v", a, err)
				}
			}
		}
	}
	now := time.Now()
	b.observeHL7(now)
	codes := func() (out []string) {
		for _, c := range b.health.List() {
			if strings.HasPrefix(c.Code, codeHL7) {
				out = append(out, c.Code+" "+string(c.Severity))
			}
		}
		slices.Sort(out)
		return out
	}
	if got, want := codes(), []string{"hl7/control-id/orders info", "hl7/duplicates/orders info"}; !slices.Equal(got, want) {
		t.Errorf("conditions %q, want %q", got, want)
	}
	st := b.Status(t.Context())
	if len(st.HL7) != 1 || st.HL7[0].Duplicates != 6 || st.HL7[0].Reused != 1 || !b.health.Healthy() {
		t.Errorf("status %+v", st.HL7)
	}
	b.observeHL7(now.Add(2 * time.Hour))
	if got := codes(); len(got) != 0 {
		t.Errorf("two hours later there is still %q", got)
	}

	// The box's own spool is not ordered in these tests; the Condition goes by what the queue says.
	ordered, err := spool.Open(t.TempDir(), spool.Options{MinFreeBytes: -1, Ordered: func(string) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ordered.Close() }()
	b.opt.Spool = ordered
	for range 2 {
		w, err := ordered.Create(spool.Meta{Queue: "hl7.orders"})
		if err == nil {
			_, err = w.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := ordered.Next(t.Context(), "hl7.orders")
	if err != nil || l.Park(&hl7.RefusedError{Code: hl7.AR}) != nil || ordered.Halt("hl7.orders", true) != nil {
		t.Fatal(err)
	}
	b.observeHL7(now.Add(2 * time.Hour))
	if got := codes(); !slices.Equal(got, []string{"hl7/halted/hl7.orders error"}) {
		t.Errorf("conditions %q", got)
	}
	if err := ordered.Halt("hl7.orders", false); err != nil {
		t.Fatal(err)
	}
	if l, err = ordered.Next(t.Context(), "hl7.orders"); err != nil || l.Done(spool.Receipt{}) != nil {
		t.Fatal(err)
	}
	b.observeHL7(now.Add(2 * time.Hour))
	if got := codes(); !slices.Equal(got, []string{"hl7/order/hl7.orders info"}) {
		t.Errorf("conditions %q", got)
	}
	if c := b.health.List(); slices.ContainsFunc(c, func(c health.Condition) bool { return strings.Contains(c.Message, "P^") }) {
		t.Errorf("%+v", c)
	}
}

// serveHL7 runs a handler on loopback and returns where.
func serveHL7(t *testing.T, h proxy.Handler) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- proxy.NewServer(proxy.ServerConfig{Name: "hl7", Listener: l, Handler: h}).Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l.Addr().String()
}

// TestFolderCondition has a folder that nobody empties.
func TestFolderCondition(t *testing.T) {
	b := newBox(t)
	f, err := hl7.NewFolder(hl7.FolderConfig{Dir: t.TempDir(), MaxFiles: 1, Ledger: b.hl7.Ledger})
	if err != nil {
		t.Fatal(err)
	}
	r, err := hl7.NewRouter(hl7.RouterConfig{
		Ledger: b.hl7.Ledger, Counters: b.hl7.Counters, Routes: []hl7.Route{{Service: "findings", Mode: hl7.Filed, Folder: f}},
	})
	if err != nil {
		t.Fatal(err)
	}
	target := serveHL7(t, r)
	cfg := hl7.SendConfig{Network: b.lan, Target: target}
	if a, err := hl7.Send(t.Context(), cfg, hl7.SampleOrder(time.Now(), "1", hl7.Parties{})); err != nil || a.Code != hl7.AA {
		t.Fatalf("%+v, %v", a, err)
	}
	b.observeHL7(time.Now())
	if c := b.health.List(); len(c) != 0 {
		t.Errorf("conditions %+v", c)
	}
	if _, err := hl7.Send(t.Context(), cfg, hl7.SampleOrder(time.Now(), "2", hl7.Parties{})); err == nil {
		t.Error("a full folder took a message")
	}
	b.observeHL7(time.Now())
	if c := b.health.List(); len(c) != 1 || c[0].Code != "hl7/folder/findings" || c[0].Severity != health.Error {
		t.Errorf("conditions %+v", c)
	}
	b.observeHL7(time.Now().Add(time.Hour))
	if c := b.health.List(); len(c) != 0 {
		t.Errorf("an hour later: %+v", c)
	}
}
