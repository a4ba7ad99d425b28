package hl7_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/hl7/mllp"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
)

const (
	nearAddress = "10.0.0.1:2575"
	farAddress  = "100.64.0.9:2575"
)

// serve runs a handler on address until the test ends.
func serve(t *testing.T, n *proxytest.Network, address string, h proxy.Handler) *proxy.Server {
	t.Helper()
	l, err := n.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := proxy.NewServer(proxy.ServerConfig{Name: address, Listener: l, Handler: h})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Errorf("Serve %s: %v", address, err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return s
}

// far is a receiver that keeps what it gets and answers as told.
type far struct {
	mu     sync.Mutex
	raw    [][]byte
	answer func(n int, msg []byte) []byte // nil answers with AA; an empty answer says nothing
	// answers replaces answer for those who say more than one thing.
	answers func(n int, msg []byte) [][]byte
	conns   []net.Conn
}

func (f *far) Serve(ctx context.Context, c net.Conn) proxy.Result {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	f.mu.Lock()
	f.conns = append(f.conns, c)
	f.mu.Unlock()
	d := mllp.NewDecoder(0)
	buf := make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return proxy.Result{Outcome: proxy.OutcomeDone}
		}
		d.Feed(buf[:n])
		for {
			msg, ok, err := d.Next()
			if err != nil || !ok {
				break
			}
			for _, reply := range f.replies(msg) {
				framed, err := mllp.Append(nil, reply)
				if err == nil {
					_, err = c.Write(framed)
				}
				if err != nil {
					return proxy.Result{Outcome: proxy.OutcomeAborted}
				}
			}
		}
	}
}

func (f *far) replies(msg []byte) [][]byte {
	f.mu.Lock()
	f.raw = append(f.raw, msg)
	number, answer, answers := len(f.raw), f.answer, f.answers
	f.mu.Unlock()
	switch {
	case answers != nil:
		return answers(number, msg)
	case answer == nil:
		return [][]byte{ackFor(msg, hl7.AA)}
	}
	if reply := answer(number, msg); len(reply) > 0 {
		return [][]byte{reply}
	}
	return nil
}

// hangUp closes all connections.
func (f *far) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
}

func (f *far) received() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.raw)
}

func ackFor(msg []byte, code hl7.Code) []byte {
	h, err := hl7.ParseHeader(msg)
	if err != nil {
		return nil
	}
	return h.Ack(code, "said the far end")
}

// box is a gateway with one queued and one pass-through route.
type box struct {
	net    *proxytest.Network
	queue  *spool.Spool
	far    *far
	server *proxy.Server
	log    *syncBuffer
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *syncBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// bothModes are the routes of newBox: by receiver QUEUED, or else pass-through.
func bothModes(n proxy.Network) []hl7.Route {
	return []hl7.Route{
		{Service: "results", Mode: hl7.Queued, QueueName: "results", Receiver: "QUEUED"},
		{Service: "orders", Mode: hl7.PassThrough, Network: n, Target: farAddress},
	}
}

func newBox(t *testing.T, far *far) *box { return newBoxWith(t, far, spool.Options{}, bothModes) }

func newBoxWith(t *testing.T, far *far, opts spool.Options, routes func(proxy.Network) []hl7.Route) *box {
	t.Helper()
	return newBoxOf(t, far, opts, func(b *box) hl7.RouterConfig {
		return hl7.RouterConfig{Routes: routes(b.net), Queue: b.queue, Log: b.log.logger()}
	})
}

func newBoxOf(t *testing.T, far *far, opts spool.Options, config func(*box) hl7.RouterConfig) *box {
	t.Helper()
	b := &box{net: proxytest.NewNetwork(), far: far, log: &syncBuffer{}}
	opts.MinFreeBytes, opts.Ordered = -1, func(string) bool { return true }
	var err error
	if b.queue, err = spool.Open(t.TempDir(), opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.queue.Close() })
	r, err := hl7.NewRouter(config(b))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, b.net, farAddress, far)
	b.server = serve(t, b.net, nearAddress, r)
	return b
}

// secondAddress is another listener of a box.
const secondAddress = "10.0.0.1:9999"

// relisten serves secondAddress with another Router.
func (b *box) relisten(t *testing.T, cfg hl7.RouterConfig) {
	t.Helper()
	r, err := hl7.NewRouter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, b.net, secondAddress, r)
}

// deliver runs a Sink to the far end until the test ends.
func (b *box) deliver(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		sink := hl7.NewSink(hl7.SinkConfig{Network: b.net, Target: farAddress, Log: b.log.logger()})
		err := spool.Deliver(ctx, spool.DeliverConfig{Queue: b.queue, Name: "results", Sink: sink, Log: b.log.logger()})
		if err != nil {
			t.Errorf("Deliver: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func (b *box) send(t *testing.T, msg []byte) hl7.Ack {
	t.Helper()
	return b.sendTo(t, nearAddress, msg)
}

func (b *box) sendTo(t *testing.T, address string, msg []byte) hl7.Ack {
	t.Helper()
	a, err := hl7.Send(t.Context(), hl7.SendConfig{Network: b.net, Target: address}, msg)
	if err != nil {
		t.Fatalf("Send: %v", err)
	}
	return a
}

// near is a sender that does only what the test says.
type near struct {
	net.Conn
	t       *testing.T
	decoder *mllp.Decoder
}

func (b *box) dial(t *testing.T) *near {
	t.Helper()
	c, err := b.net.DialContext(t.Context(), "tcp", nearAddress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &near{Conn: c, t: t, decoder: mllp.NewDecoder(0)}
}

func (n *near) say(msg []byte) {
	n.t.Helper()
	framed, err := mllp.Append(nil, msg)
	if err == nil {
		_, err = n.Write(framed)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// hear returns the next message, or nil when the connection has ended.
func (n *near) hear() []byte {
	n.t.Helper()
	buf := make([]byte, 1<<16)
	for {
		msg, ok, err := n.decoder.Next()
		if err != nil {
			n.t.Fatal(err)
		}
		if ok {
			return msg
		}
		k, err := n.Read(buf)
		if err != nil {
			return nil
		}
		n.decoder.Feed(buf[:k])
	}
}

func (n *near) hearAck() hl7.Ack {
	n.t.Helper()
	msg := n.hear()
	a, err := hl7.ParseAck(msg)
	if err != nil {
		n.t.Fatalf("heard %q: %v", msg, err)
	}
	return a
}

// outcome waits until one session has ended and returns how.
func (b *box) outcome(t *testing.T) proxy.Outcome {
	t.Helper()
	synctest.Wait()
	time.Sleep(2 * time.Second) // for an orderly close
	synctest.Wait()
	for o := range b.server.Totals().Outcomes {
		return o
	}
	t.Fatal("the session goes on")
	return ""
}

func parties(receiver string) hl7.Parties {
	return hl7.Parties{SendingApplication: "PRAXIS", SendingFacility: "WEST", ReceivingApplication: receiver, ReceivingFacility: "CENTER"}
}

func TestQueuedEndToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, &far{})
		msg := hl7.SampleResult(time.Now(), "R-1", parties("QUEUED"))
		if a := b.send(t, msg); a.Code != hl7.AA || a.ControlID != "R-1" {
			t.Fatalf("answer %v to %q", a.Code, a.ControlID)
		}
		if len(b.far.received()) != 0 {
			t.Fatal("nobody delivers yet")
		}
		b.deliver(t)
		synctest.Wait()
		if got := b.far.received(); len(got) != 1 || !bytes.Equal(got[0], msg) {
			t.Fatalf("the far end got %q", got)
		}
		if st := b.queue.Stats(); len(st) != 1 || st[0].Queued != 0 || st[0].Delivered != 1 {
			t.Fatalf("stats %+v", st)
		}
	})
}

func TestPassThroughEndToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, &far{})
		msg := hl7.SampleOrder(time.Now(), "O-1", parties("CARDIO"))
		if a := b.send(t, msg); a.Code != hl7.AA || a.ControlID != "O-1" || a.Text != "said the far end" {
			t.Fatalf("answer %+v", a)
		}
		if got := b.far.received(); len(got) != 1 || !bytes.Equal(got[0], msg) {
			t.Fatalf("the far end got %q", got)
		}
	})
}
