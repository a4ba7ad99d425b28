package wanbench

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/codec"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/transfer"
)

const transferPort = ":7400"

// pair is a clinic that sends and a center that receives, each with a queue on disk.
type pair struct {
	tb       testing.TB
	ends     *ends
	from, to *spool.Spool
	receiver *transfer.Receiver
	sender   *transfer.Sender
	queue    string
	urgent   chan struct{} // one for each urgent item stored
}

func newPair(tb testing.TB, e *ends, withCodec bool) *pair {
	tb.Helper()
	p := &pair{tb: tb, ends: e, queue: "pacs", urgent: make(chan struct{}, 100)}
	for _, s := range []**spool.Spool{&p.from, &p.to} {
		q, err := spool.Open(tb.TempDir(), spool.Options{MinFreeBytes: -1})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = q.Close() })
		*s = q
	}
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		tb.Fatal(err)
	}
	name := transfer.QueueName("pacs", "clinic")
	inbox := transfer.NewSpoolInbox(p.to, func(transfer.Item) (string, error) { return name, nil }, func() []string { return []string{name} })
	p.receiver, err = transfer.NewReceiver(transfer.ReceiverConfig{
		Dir: tb.TempDir(), Secret: make([]byte, 32), Inbox: watched{inbox, p.urgent}, Node: "center", Signer: key, Codec: codec.New(1),
	})
	if err != nil {
		tb.Fatal(err)
	}
	l, err := e.center.Listen(tb.Context(), "tcp", centerAddress+transferPort)
	if err != nil {
		tb.Fatal(err)
	}
	p.background(proxy.NewServer(proxy.ServerConfig{Name: "transfer", Listener: l, Handler: p.receiver, MaxPerSource: -1}).Serve, func() {
		if err := p.receiver.Close(); err != nil {
			tb.Error(err)
		}
	})
	cfg := transfer.SenderConfig{
		Network: e.clinic, Address: centerAddress + transferPort, Node: "clinic", Peer: "center", PeerKey: public,
		Outbox: transfer.NewSpoolOutbox(p.from, transfer.SpoolRoute{Queue: p.queue, Service: "pacs"}), Workers: max(1, runtime.NumCPU()-1),
	}
	if withCodec {
		cfg.Codec = codec.New(cfg.Workers)
	}
	if p.sender, err = transfer.NewSender(cfg); err != nil {
		tb.Fatal(err)
	}
	return p
}

// background runs until the end of the test.
func (p *pair) background(run func(context.Context) error, after func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	p.tb.Cleanup(func() {
		cancel()
		<-done
		after()
	})
}

func (p *pair) start() { p.background(p.sender.Run, func() {}) }

// put queues a payload at the clinic.
func (p *pair) put(payload []byte, priority int) {
	w, err := p.from.Create(spool.Meta{Queue: p.queue, Priority: priority})
	if err == nil {
		if _, err = w.Write(payload); err == nil {
			_, err = w.Commit()
		}
	}
	if err != nil {
		p.tb.Fatal(err)
	}
}

// await waits until so many items are with the center. It returns the rate in bytes per second after the first quarter.
func (p *pair) await(n uint64) (steady float64) {
	begun := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	next := begun
	var from time.Time
	var bytes int64
	for p.sender.Progress().Taken < n {
		if testing.Verbose() && time.Now().After(next) {
			next = next.Add(500 * time.Millisecond)
			up := p.ends.up.Stats()
			p.tb.Logf("%4.1f s: %s; drops %d", time.Since(begun).Seconds(), describe(p.sender.Progress()), up.QueueDrops)
		}
		if time.Since(begun) > 3*time.Minute {
			p.tb.Fatalf("%d of %d items: %+v", p.sender.Progress().Taken, n, p.sender.Progress())
		}
		if now := p.sender.Progress(); from.IsZero() && now.Taken >= n/4 {
			from, bytes = time.Now(), now.PayloadBytes
		}
		<-tick.C
	}
	return float64(p.sender.Progress().PayloadBytes-bytes) / time.Since(from).Seconds()
}

// connected waits for the first session.
func (p *pair) connected() {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !p.sender.Progress().Connected || p.sender.Progress().RTT == 0 {
		<-tick.C
	}
}

func describe(p transfer.Progress) string {
	return fmt.Sprintf("rate %.2f MB/s window %d KB lanes %d rtt %v queueing %v encoded/raw %d/%d line %.1f MB", p.Rate/1e6, p.Window>>10, p.Lanes,
		p.RTT.Round(100*time.Microsecond), p.Queueing.Round(100*time.Microsecond), p.EncodedBlocks, p.RawBlocks, float64(p.LineBytes)/1e6)
}

// awaitUrgent waits until another urgent image is at the center.
func (p *pair) awaitUrgent() { <-p.urgent }

// awaitBusy waits until the line is full.
func (p *pair) awaitBusy() {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	before := p.sender.Progress().LineBytes
	for p.sender.Progress().LineBytes < before+3_000_000 {
		<-tick.C
	}
}

// watched is an Inbox that tells of urgent items.
type watched struct {
	transfer.Inbox
	urgent chan struct{}
}

func (w watched) Store(ctx context.Context, it transfer.Item, payload io.Reader) error {
	err := w.Inbox.Store(ctx, it, payload)
	if err == nil && it.Priority >= transfer.Urgent {
		w.urgent <- struct{}{}
	}
	return err
}
