package crashtest

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/codec"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/spool/seal"
	"github.com/towpath/towpath/proxy/transfer"
)

const (
	outQueue  = "dicom.pacs"
	inQueue   = "in.pacs"
	hl7Queue  = "hl7.orders"
	calledAE  = "PACS"
	boxEnv    = "TOWPATH_CRASH_BOX"
	startLine = "ready"
)

// boxConfig is all that a box is told at its start.
type boxConfig struct {
	Name, Dir string
	// Host is where it listens.
	Host string
	// Key seals the queue, Seed is that of the center's key for receipts.
	Key, Seed []byte
	// Far is where the clinic sends objects, FarHL7 where it sends messages. PACS and HIS are where the center sends both.
	Far, FarHL7, PACS, HIS string
	// Quiet leaves the disk alone.
	Quiet bool
	// Early strikes while the box starts.
	Early *order
}

// order is what a running box is told, one a line.
type order struct {
	Do    string // "arm", "calm", "stats", "stacks" or "quit"
	Op    string
	After int
	Times int
	Errno int
}

func (o order) trouble() *trouble {
	return &trouble{op: o.Op, after: o.After, times: o.Times, errno: unix.Errno(o.Errno)}
}

// runBox is a box's whole program.
func runBox(text string) error {
	var cfg boxConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	var network lan.Network
	l, err := network.Listen(context.Background(), "tcp", net.JoinHostPort(cfg.Host, "0")) // also makes the runtime open what watchDisk spares
	if err != nil {
		return err
	}
	messages, err := network.Listen(context.Background(), "tcp", net.JoinHostPort(cfg.Host, "0"))
	if err != nil {
		return err
	}
	d := &disk{}
	if !cfg.Quiet {
		if d, err = watchDisk(cfg.Dir, os.NewFile(3, "tell")); err != nil {
			return err
		}
	}
	if cfg.Early != nil {
		d.arm(cfg.Early.trouble())
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b := &box{cfg: cfg, log: log, network: &network}
	if err := b.open(); err != nil {
		return err
	}
	var handler proxy.Handler
	if cfg.Name == "clinic" {
		handler, err = b.clinic()
	} else {
		handler, err = b.center()
	}
	if err != nil {
		return err
	}
	taker, err := b.hl7()
	if err != nil {
		return err
	}
	serve := func(name string, l net.Listener, h proxy.Handler) {
		_ = proxy.NewServer(proxy.ServerConfig{Name: name, Listener: l, Handler: h, Log: log, MaxPerSource: -1, MaxConns: -1}).Serve(context.Background())
	}
	go serve(cfg.Name, l, handler)
	go serve(cfg.Name+"-hl7", messages, taker)
	fmt.Println(startLine, l.Addr().String(), messages.Addr().String())
	return b.obey(d)
}

type box struct {
	cfg     boxConfig
	log     *slog.Logger
	network *lan.Network
	spool   *spool.Spool
}

func (b *box) open() error {
	key, err := seal.ParsePrivateKey(b.cfg.Key)
	if err != nil {
		return err
	}
	b.spool, err = spool.Open(filepath.Join(b.cfg.Dir, "spool"), spool.Options{
		MinFreeBytes: -1, Backoff: spool.Backoff{Min: time.Millisecond, Max: 50 * time.Millisecond}, Log: b.log,
		Ordered: func(queue string) bool { return queue == hl7Queue },
	})
	if err != nil {
		return err
	}
	b.spool.SealTo(key.Public())
	b.spool.Unlock(key)
	return nil
}

func (b *box) clinic() (proxy.Handler, error) {
	public := ed25519.NewKeyFromSeed(b.cfg.Seed).Public().(ed25519.PublicKey)
	b.spool.OnDelivered(func(it spool.Item, r spool.Receipt) {
		if it.Meta.Queue != outQueue { // nobody signs for messages
			return
		}
		signed, err := transfer.ParseReceipt(r.Signed)
		if err == nil {
			err = signed.Verify(public)
		}
		if err != nil {
			fmt.Println("forged", err)
			return
		}
		fmt.Println("receipt", hex.EncodeToString(signed.SHA256[:]))
	})
	sender, err := transfer.NewSender(transfer.SenderConfig{
		Network: b.network, Address: b.cfg.Far, Node: "clinic", Peer: "center", PeerKey: public, Codec: codec.New(1), Workers: 1, Lanes: 2,
		Outbox:   transfer.NewSpoolOutbox(b.spool, transfer.SpoolRoute{Queue: outQueue, Service: "pacs"}),
		RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond, FullPause: 20 * time.Millisecond, Log: b.log,
	})
	if err != nil {
		return nil, err
	}
	go func() {
		if err := sender.Run(context.Background()); err != nil {
			b.log.Error("sending ended", "error", err)
		}
	}()
	return dicom.NewRouter(dicom.RouterConfig{
		Queue: b.spool, Routes: []dicom.Route{{Service: "pacs", AETitle: calledAE, Mode: dicom.Queued, QueueName: outQueue, Hold: true}}, Log: b.log,
	})
}

func (b *box) center() (proxy.Handler, error) {
	r, err := transfer.NewReceiver(transfer.ReceiverConfig{
		Dir: filepath.Join(b.spool.Dir(), "transfer"), Secret: b.cfg.Key, Node: "center", Signer: ed25519.NewKeyFromSeed(b.cfg.Seed), Codec: codec.New(1),
		Inbox:    transfer.NewSpoolInbox(b.spool, func(transfer.Item) (string, error) { return inQueue, nil }, func() []string { return []string{inQueue} }),
		InMemory: 32 << 10, Log: b.log,
	})
	if err != nil {
		return nil, err
	}
	ledger, err := dicom.OpenLedger(filepath.Join(b.spool.Dir(), "books", inQueue+".ledger"), dicom.LedgerOptions{})
	if err != nil {
		return nil, err
	}
	sink := r.Sink(dicom.NewSink(dicom.SinkConfig{
		Network: b.network, Target: b.cfg.PACS, CalledAE: calledAE, Ledger: ledger, SettleTime: 20 * time.Millisecond, OrderHold: time.Second, Log: b.log,
	}))
	go func() {
		if err := spool.Deliver(context.Background(), spool.DeliverConfig{Queue: b.spool, Name: inQueue, Sink: sink, Log: b.log}); err != nil {
			b.log.Error("delivery ended", "error", err)
		}
	}()
	return r, nil
}

// hl7 queues messages at the clinic, and at the center holds the line until the HIS has answered; either remembers what it has taken.
func (b *box) hl7() (proxy.Handler, error) {
	ledger, err := hl7.OpenLedger(filepath.Join(b.cfg.Dir, "hl7"), hl7.LedgerOptions{Log: b.log})
	if err != nil {
		return nil, err
	}
	if err := ledger.Adopt(b.spool); err != nil {
		return nil, err
	}
	route := hl7.Route{Service: "orders", Mode: hl7.PassThrough, Network: b.network, Target: b.cfg.HIS, Once: true}
	if b.cfg.Name == "clinic" {
		route = hl7.Route{Service: "orders", Mode: hl7.Queued, QueueName: hl7Queue}
		sink := hl7.NewSink(hl7.SinkConfig{Service: "orders", Network: b.network, Target: b.cfg.FarHL7, AckTimeout: 2 * time.Second, Ledger: ledger, Log: b.log})
		go func() {
			if err := spool.Deliver(context.Background(), spool.DeliverConfig{Queue: b.spool, Name: hl7Queue, Sink: sink, Log: b.log}); err != nil {
				b.log.Error("delivery of messages ended", "error", err)
			}
		}()
	}
	return hl7.NewRouter(hl7.RouterConfig{Routes: []hl7.Route{route}, Queue: b.spool, Ledger: ledger, AckTimeout: time.Second, Log: b.log})
}

// obey does what the campaign says until it says nothing more.
func (b *box) obey(d *disk) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		switch o.Do {
		case "arm":
			d.arm(o.trouble())
		case "calm":
			d.arm(nil)
		case "quit":
			return nil
		case "stacks":
			buf := make([]byte, 1<<20)
			text, err := json.Marshal(string(buf[:runtime.Stack(buf, true)]))
			if err != nil {
				return err
			}
			fmt.Println("stacks", string(text))
		case "stats":
			var sum spool.QueueStats
			for _, s := range b.spool.Stats() {
				sum.Queued, sum.Carried, sum.Parked = sum.Queued+s.Queued, sum.Carried+s.Carried, sum.Parked+s.Parked
				sum.LastError, sum.ParkedError = s.LastError, s.ParkedError
			}
			u, err := b.spool.Usage()
			if err != nil {
				return err
			}
			text, err := json.Marshal(counts{sum.Queued, sum.Carried, sum.Parked, u.Quarantined, strings.TrimSpace(sum.LastError + " " + sum.ParkedError)})
			if err != nil {
				return err
			}
			fmt.Println("stats", string(text))
		}
	}
	return in.Err()
}

// counts are what a box has.
type counts struct {
	Queued, Carried, Parked, Quarantined int
	Error                                string
}

func (c counts) empty() bool { return c.Queued+c.Carried+c.Parked == 0 }
