package hl7_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/hl7/mllp"
	"github.com/towpath/towpath/proxy/spool"
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

// exchange sends a frame and reads until the answer's end.
func exchange(b *testing.B, c net.Conn, frame, buf []byte) {
	if _, err := c.Write(frame); err != nil {
		b.Error(err)
		return
	}
	d := mllp.NewDecoder(0)
	for {
		n, err := c.Read(buf)
		if err != nil {
			b.Error(err)
			return
		}
		d.Feed(buf[:n])
		if _, ok, _ := d.Next(); ok {
			return
		}
	}
}

func benchRouter(b *testing.B, target string) string {
	b.Helper()
	q, err := spool.Open(b.TempDir(), spool.Options{MinFreeBytes: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = q.Close() })
	r, err := hl7.NewRouter(hl7.RouterConfig{Queue: q, Routes: []hl7.Route{
		{Service: "results", Mode: hl7.Queued, QueueName: "results", Receiver: "QUEUED"},
		{Service: "orders", Mode: hl7.PassThrough, Network: loopback{}, Target: target},
	}})
	if err != nil {
		b.Fatal(err)
	}
	return listen(b, r)
}

// BenchmarkQueued measures messages that are synced before they are answered, over sixteen connections.
func BenchmarkQueued(b *testing.B) {
	address := benchRouter(b, "127.0.0.1:1")
	frame, err := mllp.Append(nil, hl7.SampleResult(time.Now(), "B-1", parties("QUEUED")))
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(8) // times two processors
	b.RunParallel(func(pb *testing.PB) {
		c, err := loopback{}.DialContext(context.Background(), "tcp", address)
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		buf := make([]byte, 4096)
		for pb.Next() {
			exchange(b, c, frame, buf)
		}
	})
}

// BenchmarkPassThrough compares the way through the gateway with the bare one.
func BenchmarkPassThrough(b *testing.B) {
	echo := listen(b, proxy.HandlerFunc(func(_ context.Context, c net.Conn) proxy.Result {
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
	}))
	frame, err := mllp.Append(nil, hl7.SampleOrder(time.Now(), "B-1", parties("CARDIO")))
	if err != nil {
		b.Fatal(err)
	}
	for name, address := range map[string]string{"bare": echo, "gateway": benchRouter(b, echo)} {
		b.Run(name, func(b *testing.B) {
			c, err := loopback{}.DialContext(b.Context(), "tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			buf := make([]byte, 4096)
			for b.Loop() {
				exchange(b, c, frame, buf)
			}
		})
	}
}
