package hl7_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/hl7/mllp"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/spool/seal"
)

// listen runs h on a real socket until the benchmark ends.
func listen(b *testing.B, h proxy.Handler) string {
	b.Helper()
	l, err := loopback{}.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := proxy.NewServer(proxy.ServerConfig{Name: "bench", Listener: l, Handler: h, MaxPerSource: -1})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	return l.Addr().String()
}

// echo sends every message back as it came.
var echo = proxy.HandlerFunc(func(_ context.Context, c net.Conn) proxy.Result {
	buf := make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		if err == nil {
			_, err = c.Write(buf[:n])
		}
		if err != nil {
			return proxy.Result{Outcome: proxy.OutcomeDone}
		}
	}
})

// acknowledging is an application.
var acknowledging = proxy.HandlerFunc(func(_ context.Context, c net.Conn) proxy.Result {
	buf := make([]byte, 1<<16)
	d := mllp.NewDecoder(0)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return proxy.Result{Outcome: proxy.OutcomeDone}
		}
		d.Feed(buf[:n])
		if msg, ok, _ := d.Next(); ok {
			framed, _ := mllp.Append(nil, ackFor(msg, hl7.AA))
			if _, err := c.Write(framed); err != nil {
				return proxy.Result{Outcome: proxy.OutcomeAborted}
			}
		}
	}
})

// client sends frames with control IDs of their own, one at a time.
type client struct {
	net.Conn
	frame []byte
	id    []byte // within frame
	buf   []byte
}

const benchID = "BENCH00000000000"

func newClient(b *testing.B, address, receiver string) *client {
	b.Helper()
	c, err := loopback{}.DialContext(context.Background(), "tcp", address)
	if err != nil {
		b.Error(err)
		return nil
	}
	frame, err := mllp.Append(nil, hl7.SampleResult(time.Now(), benchID, parties(receiver)))
	if err != nil {
		b.Error(err)
		return nil
	}
	at := bytes.Index(frame, []byte(benchID))
	return &client{Conn: c, frame: frame, id: frame[at : at+len(benchID)], buf: make([]byte, 4096)}
}

func (c *client) exchange(number int64) error {
	copy(c.id, fmt.Appendf(nil, "B%015d", number))
	if _, err := c.Write(c.frame); err != nil {
		return err
	}
	d := mllp.NewDecoder(0)
	for {
		n, err := c.Read(c.buf)
		if err != nil {
			return err
		}
		d.Feed(c.buf[:n])
		if _, ok, _ := d.Next(); ok {
			return nil
		}
	}
}

// benchRouter runs a gateway. With a key its queue is encrypted, as on a box.
func benchRouter(b *testing.B, target string, to seal.PublicKey) string {
	b.Helper()
	q, err := spool.Open(b.TempDir(), spool.Options{MinFreeBytes: -1})
	if err != nil {
		b.Fatal(err)
	}
	if !to.IsZero() {
		q.SealTo(to)
	}
	ledger, err := hl7.OpenLedger(b.TempDir(), hl7.LedgerOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = q.Close(), ledger.Close() })
	r, err := hl7.NewRouter(hl7.RouterConfig{Queue: q, Ledger: ledger, Routes: []hl7.Route{
		{Service: "results", Mode: hl7.Queued, QueueName: "results", Receiver: "QUEUED"},
		{Service: "orders", Mode: hl7.PassThrough, Network: loopback{}, Target: target},
	}})
	if err != nil {
		b.Fatal(err)
	}
	return listen(b, r)
}

// parallel sends n messages over so many connections and returns how long that took.
func parallel(b *testing.B, address string, connections, n int) time.Duration {
	b.Helper()
	var next atomic.Int64
	clients := make([]*client, connections)
	for i := range clients {
		if clients[i] = newClient(b, address, "QUEUED"); clients[i] == nil {
			b.FailNow()
		}
		defer func() { _ = clients[i].Close() }()
	}
	var wg sync.WaitGroup
	began := time.Now()
	for _, c := range clients {
		wg.Go(func() {
			for {
				number := next.Add(1)
				if number > int64(n) {
					return
				}
				if err := c.exchange(number); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// processorTime is what this process has used, the benchmark's clients included.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkQueued measures messages that are synced before they are answered, over sixteen connections and over one, in a plain queue and an encrypted one, and compares them with a bare echo
// in the same run.
func BenchmarkQueued(b *testing.B) {
	key, err := seal.NewPrivateKey()
	if err != nil {
		b.Fatal(err)
	}
	for _, form := range []struct {
		name        string
		connections int
		to          seal.PublicKey
	}{
		{"plain", 16, seal.PublicKey{}}, {"sealed", 16, key.Public()}, {"plain/1", 1, seal.PublicKey{}}, {"sealed/1", 1, key.Public()},
	} {
		b.Run(form.name, func(b *testing.B) {
			gateway, bare := benchRouter(b, "127.0.0.1:1", form.to), listen(b, echo)
			for b.Loop() {
				const n = 2000
				straight := parallel(b, bare, form.connections, n)
				before := processorTime(b)
				queued := parallel(b, gateway, form.connections, n)
				b.ReportMetric(float64(n)/queued.Seconds(), "msg/s")
				b.ReportMetric(queued.Seconds()/straight.Seconds(), "x-echo")
				b.ReportMetric(float64((processorTime(b)-before).Microseconds())/n, "cpu-µs/msg")
			}
		})
	}
}

// BenchmarkPassThrough measures how much later than the far end itself the gateway answers on one connection, and compares the whole with a
// bare echo in the same run.
func BenchmarkPassThrough(b *testing.B) {
	far := listen(b, acknowledging)
	series := func(address string, n int) time.Duration {
		c := newClient(b, address, "CARDIO")
		if c == nil {
			b.FailNow()
		}
		defer func() { _ = c.Close() }()
		began := time.Now()
		for i := range n {
			if err := c.exchange(int64(i)); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(began) / time.Duration(n)
	}
	gateway, bare := benchRouter(b, far, seal.PublicKey{}), listen(b, echo)
	for b.Loop() {
		const n = 500
		straight, direct, through := series(bare, n), series(far, n), series(gateway, n)
		b.ReportMetric(float64((through - direct).Microseconds()), "µs-after-far-ack")
		b.ReportMetric(float64(through)/float64(straight), "x-echo")
	}
}
