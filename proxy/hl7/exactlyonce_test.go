package hl7_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

const applicationAddress = "192.168.7.7:2575"

// hop is one gateway that can be killed and started again on the same disk.
type hop struct {
	t       *verdict
	dir     string
	address string
	routes  func(h *hop) []hl7.Route
	net     *proxytest.Network
	target  string // of the queue, or ""

	spool  *spool.Spool
	ledger *hl7.Ledger
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (h *hop) start() {
	var err error
	if h.ledger, err = hl7.OpenLedger(filepath.Join(h.dir, "ledger"), hl7.LedgerOptions{}); err != nil {
		h.t.Fatal(err)
	}
	h.spool, err = spool.Open(filepath.Join(h.dir, "spool"), spool.Options{
		MinFreeBytes: -1, Ordered: func(string) bool { return true }, Backoff: spool.Backoff{Min: time.Second, Max: 10 * time.Second},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.ledger.Adopt(h.spool); err != nil {
		h.t.Fatal(err)
	}
	r, err := hl7.NewRouter(hl7.RouterConfig{Routes: h.routes(h), Queue: h.spool, Ledger: h.ledger})
	if err != nil {
		h.t.Fatal(err)
	}
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(context.Background())
	var l net.Listener
	for i := 0; ; i++ {
		if l, err = h.net.Listen(ctx, "tcp", h.address); err == nil {
			break
		} else if i > 100 {
			h.t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
	s := proxy.NewServer(proxy.ServerConfig{Name: h.address, Listener: l, Handler: r})
	h.wg.Go(func() { _ = s.Serve(ctx) })
	if h.target == "" {
		return
	}
	h.wg.Go(func() {
		sink := hl7.NewSink(hl7.SinkConfig{Network: h.net, Target: h.target, Ledger: h.ledger, AckTimeout: 45 * time.Second})
		_ = spool.Deliver(ctx, spool.DeliverConfig{Queue: h.spool, Name: "results", Sink: sink})
	})
}

// stop ends the gateway. When it is killed its queue is gone first, so that nothing under way can be ended in order.
func (h *hop) stop(kill bool) {
	if kill {
		_ = h.spool.Close()
	}
	h.cancel()
	h.wg.Wait()
	_ = h.spool.Close()
	_ = h.ledger.Close()
}

// weather breaks connections.
type weather struct {
	mu   sync.Mutex
	plan map[string][]proxytest.Faults // by address, for the next connections
}

func (w *weather) wrap(address string, c net.Conn) net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := w.plan[address]
	if len(next) == 0 {
		return c
	}
	w.plan[address] = next[1:]
	return proxytest.Faulty(c, next[0])
}

func drawFaults(t *rapid.T, label string) []proxytest.Faults {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) proxytest.Faults {
		f := proxytest.Faults{}
		at := int64(rapid.IntRange(1, 1500).Draw(t, "at"))
		switch rapid.SampledFrom([]string{"none", "read", "write", "stall", "slow"}).Draw(t, "fault") {
		case "read":
			f.CutRead = at
		case "write":
			f.CutWrite = at
		case "stall":
			f.StallRead = at
		case "slow":
			f.Chunk, f.Delay = 200, 2*time.Second
		}
		return f
	}), 0, 6).Draw(t, label)
}

// persistent sends a message until it was taken, and at times once more.
func persistent(t *verdict, n proxy.Network, msg []byte, again int) {
	for tries := 0; ; tries++ {
		a, err := hl7.Send(context.Background(), hl7.SendConfig{Network: n, Target: nearAddress, AckTimeout: 20 * time.Second}, msg)
		switch {
		case err == nil && a.Code.OK():
			if again--; again < 0 {
				return
			}
		case err == nil && a.Code.Final():
			t.fail("the gateway answers %s: %s", a.Code, a.Text)
			return
		case tries > 200:
			t.fail("a message was never taken: %v", err)
			return
		}
		time.Sleep(time.Second)
	}
}

// TestExactlyOnceInOrder sends through two gateways while connections break at any byte, stall or crawl, gateways are stopped and killed,
// answers come late and the sender repeats itself. The folder of the receiving application gets each message once, in order. An application
// behind MLLP does, too, but for a message in doubt: one whose answer was late or lost on its last hop, which nobody can ask about. It gets
// that again at once, before any other.
func TestExactlyOnceInOrder(t *testing.T) {
	for _, folder := range []bool{true, false} {
		t.Run(map[bool]string{true: "folder", false: "application"}[folder], func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				root := t.TempDir()
				scenario := drawScenario(rt, folder)
				v := &verdict{}
				synctest.Test(t, func(*testing.T) { scenario.run(v, root) })
				if v.text != "" {
					rt.Fatal(v.text)
				}
			})
		})
	}
}

type scenario struct {
	folder   bool
	messages int
	again    []int
	faults   map[string][]proxytest.Faults
	answers  []time.Duration // how long the application takes
	events   []event
}

// event stops a gateway after a time.
type event struct {
	after  time.Duration
	center bool
	kill   bool
}

func drawScenario(t *rapid.T, folder bool) scenario {
	s := scenario{folder: folder, messages: rapid.IntRange(1, 6).Draw(t, "messages"), faults: map[string][]proxytest.Faults{}}
	s.again = rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 0, 1, 2}), s.messages, s.messages).Draw(t, "again")
	for _, address := range []string{nearAddress, farAddress, applicationAddress} {
		s.faults[address] = drawFaults(t, address)
	}
	s.answers = rapid.SliceOfN(rapid.SampledFrom([]time.Duration{0, 0, time.Second, 29 * time.Second, 31 * time.Second}), 1, 8).Draw(t, "answers")
	s.answers = append(s.answers, 0) // in the end it is in time
	s.events = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
		return event{
			after:  time.Duration(rapid.IntRange(0, 90_000).Draw(t, "after")) * time.Millisecond,
			center: rapid.Bool().Draw(t, "center"), kill: rapid.Bool().Draw(t, "kill"),
		}
	}), 0, 5).Draw(t, "events")
	return s
}

// verdict is why a run failed. It is told outside of the bubble that the run is in.
type verdict struct {
	mu   sync.Mutex
	text string
}

func (v *verdict) fail(format string, a ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.text == "" {
		v.text = fmt.Sprintf(format, a...)
	}
}

func (v *verdict) Fatal(a ...any) {
	v.fail("%s", fmt.Sprint(a...))
	panic(v.text)
}

func (s scenario) run(t *verdict, root string) {
	n := proxytest.NewNetwork()
	w := &weather{plan: map[string][]proxytest.Faults{}}
	maps.Copy(w.plan, s.faults)
	n.OnDial(w.wrap)

	app := &far{answer: func(k int, msg []byte) []byte {
		time.Sleep(s.answers[k%len(s.answers)])
		return ackFor(msg, hl7.AA)
	}}
	l, err := n.Listen(context.Background(), "tcp", applicationAddress)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = proxy.NewServer(proxy.ServerConfig{Name: "app", Listener: l, Handler: app}).Serve(ctx) })

	files := filepath.Join(root, "files")
	clinic := &hop{t: t, dir: filepath.Join(root, "clinic"), address: nearAddress, net: n, target: farAddress, routes: func(*hop) []hl7.Route {
		return []hl7.Route{{Service: "results", Mode: hl7.Queued, QueueName: "results"}}
	}}
	center := &hop{t: t, dir: filepath.Join(root, "center"), address: farAddress, net: n, routes: func(h *hop) []hl7.Route {
		if !s.folder {
			return []hl7.Route{{Service: "results", Mode: hl7.PassThrough, Network: n, Target: applicationAddress, Once: true}}
		}
		f, err := hl7.NewFolder(hl7.FolderConfig{Dir: files, Ledger: h.ledger})
		if err != nil {
			t.Fatal(err)
		}
		return []hl7.Route{{Service: "results", Mode: hl7.Filed, Folder: f}}
	}}
	clinic.start()
	center.start()

	var want [][]byte
	sent := make(chan struct{})
	for i := range s.messages {
		want = append(want, order(fmt.Sprintf("M-%d", i), "ANY"))
	}
	go func() {
		defer close(sent)
		for i, msg := range want {
			persistent(t, n, msg, s.again[i])
		}
	}()
	for _, e := range s.events {
		time.Sleep(e.after)
		h := clinic
		if e.center {
			h = center
		}
		h.stop(e.kill)
		h.start()
	}
	<-sent
	for range 400 { // until the queue is empty
		if st := clinic.spool.Stats(); len(st) > 0 && st[0].Queued+st[0].Parked == 0 {
			break
		}
		time.Sleep(5 * time.Second)
	}
	time.Sleep(2 * time.Minute)
	if st := clinic.spool.Stats(); len(st) != 1 || st[0].Queued+st[0].Parked > 0 {
		t.fail("the queue is not empty: %+v", st)
	}
	clinic.stop(false)
	center.stop(false)
	cancel()
	wg.Wait()
	if s.folder {
		s.compare(t, readFolder(t, files), want, false)
		return
	}
	s.compare(t, app.received(), want, s.doubtful())
}

// doubtful reports whether an answer of the application may have been lost on its way to the gateway.
func (s scenario) doubtful() bool {
	for _, d := range s.answers {
		if d > 0 { // long enough for a kill in between
			return true
		}
	}
	for _, f := range s.faults[applicationAddress] {
		if f.CutRead > 0 || f.StallRead > 0 || f.CutWrite > 0 {
			return true
		}
	}
	return false
}

func (s scenario) compare(t *verdict, got, want [][]byte, doubtful bool) {
	for i := len(got) - 1; i > 0 && doubtful; i-- {
		if bytes.Equal(got[i], got[i-1]) {
			got = append(got[:i:i], got[i+1:]...)
		}
	}
	if len(got) != len(want) {
		t.fail("%d messages arrived, want %d: %s", len(got), len(want), ids(got))
		return
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.fail("another message is in place %d: %s", i, ids(got))
		}
	}
}

func ids(msgs [][]byte) (out []string) {
	for _, m := range msgs {
		h, err := hl7.ParseHeader(m)
		if err != nil {
			out = append(out, "broken")
			continue
		}
		out = append(out, h.ControlID())
	}
	return out
}

// readFolder returns the files that an application would collect, in the order of their names.
func readFolder(t interface{ Fatal(...any) }, dir string) (out [][]byte) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.hl7"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}
