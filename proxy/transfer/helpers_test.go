package transfer_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/codec"
	"github.com/towpath/towpath/proxy/proxytest"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/transfer"
)

const (
	senderNode   = "clinic"
	receiverNode = "center"
	address      = "10.201.1.1:7400"
	patience     = 60 * time.Second
)

// state of an item in a memory outbox.
type state int

const (
	queued state = iota
	leased
	carried
	parked
	done
)

// outbox is an Outbox in memory; it outlives Senders, as a disk does.
type outbox struct {
	mu      sync.Mutex
	items   map[string]*boxed
	order   []string
	wake    chan struct{}
	illegal []string
	// lose makes that many Carried fail as if the machine had stopped before.
	lose int
	// unkept makes that many Final fail as if the disk did.
	unkept int
}

type boxed struct {
	item    transfer.Item
	payload []byte
	state   state
	due     time.Time
	final   transfer.Receipt
	taken   transfer.Receipt
	spoiled bool
}

func newOutbox() *outbox { return &outbox{items: map[string]*boxed{}, wake: make(chan struct{}, 1)} }

func (o *outbox) add(id string, payload []byte, priority int) transfer.Item {
	it := transfer.Item{
		Origin: transfer.Origin{ID: id, SHA256: sha256.Sum256(payload)}, Size: int64(len(payload)), Service: "pacs",
		Attributes: map[string]string{"object": id}, Priority: priority, Created: time.Unix(1700000000, 5).UTC(),
	}
	o.mu.Lock()
	o.items[id] = &boxed{item: it, payload: payload}
	o.order = append(o.order, id)
	o.mu.Unlock()
	o.nudge()
	return it
}

func (o *outbox) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) take() (transfer.Parcel, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var best *boxed
	wait := time.Hour
	for _, id := range o.order {
		b := o.items[id]
		if b.state != queued {
			continue
		}
		if d := time.Until(b.due); d > 0 {
			wait = min(wait, d)
			continue
		}
		if best == nil || b.item.Priority > best.item.Priority {
			best = b
		}
	}
	if best == nil {
		return nil, wait
	}
	best.state = leased
	return &parcel{o, best}, 0
}

func (o *outbox) Next(ctx context.Context) (transfer.Parcel, error) {
	for {
		p, wait := o.take()
		if p != nil {
			return p, nil
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-o.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

func (o *outbox) Carried() ([]transfer.Origin, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []transfer.Origin
	for _, id := range o.order {
		if b := o.items[id]; b.state == carried {
			list = append(list, b.item.Origin)
		}
	}
	return list, nil
}

var errDisk = errors.New("no space left on device")

func (o *outbox) Final(id string, r transfer.Receipt) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.items[id]
	switch {
	case b == nil || b.state == done || b.item.SHA256 != r.SHA256:
		return transfer.ErrUnknown
	case b.state == leased:
		return spool.ErrLeased
	case o.unkept > 0:
		o.unkept--
		return errDisk
	}
	b.final = r
	if b.state = done; r.Kind == transfer.Parked {
		b.state = parked
	}
	return nil
}

func (o *outbox) Requeue(id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.items[id]
	if b == nil || b.state != carried {
		return transfer.ErrUnknown
	}
	b.state = queued
	o.nudge()
	return nil
}

func (o *outbox) in(s state) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, b := range o.items {
		if b.state == s {
			n++
		}
	}
	return n
}

// restart is what a crash leaves: leases are forgotten.
func (o *outbox) restart() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, b := range o.items {
		if b.state == leased {
			b.state = queued
		}
	}
}

type parcel struct {
	o *outbox
	b *boxed
}

func (p *parcel) Item() transfer.Item { return p.b.item }

func (p *parcel) Open() (io.ReadCloser, error) {
	if p.b.spoiled {
		return nil, fmt.Errorf("open: %w", spool.ErrCorrupt)
	}
	return io.NopCloser(bytes.NewBuffer(slices.Clone(p.b.payload))), nil
}

func (p *parcel) end(s state, due time.Time) error {
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	if p.b.state != leased {
		p.o.illegal = append(p.o.illegal, fmt.Sprintf("%s ended in state %d", p.b.item.ID, p.b.state))
		return errors.New("the lease has ended")
	}
	p.b.state, p.b.due = s, due
	p.o.nudge()
	return nil
}

func (p *parcel) Carried(r transfer.Receipt) error {
	p.o.mu.Lock()
	lose := p.o.lose > 0
	if lose {
		p.o.lose--
	}
	p.b.taken = r
	p.o.mu.Unlock()
	if lose {
		_ = p.end(queued, time.Time{})
		return errors.New("the disk is broken")
	}
	return p.end(carried, time.Time{})
}

func (p *parcel) Retry(cause error) error {
	if errors.Is(cause, spool.ErrCalledOff) {
		return p.end(queued, time.Time{})
	}
	return p.end(queued, time.Now().Add(5*time.Millisecond))
}

func (p *parcel) Park(error) error { return p.end(parked, time.Time{}) }

// world is two gateways whose disks outlive their programs.
type world struct {
	tb       testing.TB
	net      *proxytest.Network
	out      *outbox
	in       *inbox
	dir      string
	key      ed25519.PrivateKey
	secret   []byte
	tuneIn   func(*transfer.ReceiverConfig)
	tuneOut  func(*transfer.SenderConfig)
	receiver *transfer.Receiver
	sender   *transfer.Sender

	stopIn, stopOut func()
	connMu          sync.Mutex
	conns           []net.Conn
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{
		tb: tb, net: proxytest.NewNetwork(), out: newOutbox(), in: newInbox(), dir: tb.TempDir(), key: key, secret: bytes.Repeat([]byte{7}, 32),
		stopIn: func() {}, stopOut: func() {},
	}
	w.net.OnDial(func(_ string, c net.Conn) net.Conn {
		w.connMu.Lock()
		defer w.connMu.Unlock()
		w.conns = append(w.conns, c)
		return c
	})
	tb.Cleanup(func() { w.stopOut(); w.stopIn() })
	return w
}

func (w *world) startReceiver() {
	w.tb.Helper()
	cfg := transfer.ReceiverConfig{
		Dir: w.dir, Secret: w.secret, Inbox: w.in, Node: receiverNode, Signer: w.key, Codec: codec.New(1),
	}
	if w.tuneIn != nil {
		w.tuneIn(&cfg)
	}
	r, err := transfer.NewReceiver(cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	l, err := w.net.Listen(w.tb.Context(), "tcp", address)
	if err != nil {
		w.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- proxy.NewServer(proxy.ServerConfig{Name: "transfer", Listener: l, Handler: r, MaxPerSource: -1, Grace: time.Second}).Serve(ctx)
	}()
	w.receiver = r
	w.stopIn = func() {
		w.stopIn = func() {}
		cancel()
		<-ended
		if err := r.Close(); err != nil {
			w.tb.Error(err)
		}
	}
}

func (w *world) startSender() {
	w.tb.Helper()
	cfg := transfer.SenderConfig{
		Network: w.net, Address: address, Node: senderNode, Peer: receiverNode, PeerKey: w.key.Public().(ed25519.PublicKey),
		Outbox: w.out, Codec: codec.New(1), Lanes: 4, RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond, FullPause: 10 * time.Millisecond,
	}
	if w.tuneOut != nil {
		w.tuneOut(&cfg)
	}
	s, err := transfer.NewSender(cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	w.sender = s
	w.stopOut = func() {
		w.stopOut = func() {}
		cancel()
		if err := <-ended; err != nil {
			w.tb.Error(err)
		}
		w.out.restart()
	}
}

// cut breaks all connections.
func (w *world) cut() {
	w.connMu.Lock()
	defer w.connMu.Unlock()
	for _, c := range w.conns {
		if p, ok := c.(*proxytest.Conn); ok {
			p.Reset()
		}
	}
	w.conns = nil
}

// eventually polls.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("in %v not: %s", patience, what)
		}
		<-tick.C
	}
}

// noise has bytes that no codec makes shorter.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	state := sha256.Sum256([]byte{seed})
	for i := 0; i < n; i += len(state) {
		copy(b[i:], state[:])
		state = sha256.Sum256(state[:])
	}
	return b
}
