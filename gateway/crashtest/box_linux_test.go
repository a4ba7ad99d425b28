package crashtest

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath/towpath/gateway/lan"
	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/codec"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/spool/seal"
	"github.com/towpath/towpath/proxy/transfer"
)

const (
	outQueue  = "dicom.pacs"
	inQueue   = "in.pacs"
	calledAE  = "PACS"
	boxEnv    = "TOWPATH_CRASH_BOX"
	startLine = "ready"
)

// boxConfig is all that a box is told at its start.
type boxConfig struct {
	Name, Dir string
	// Key seals the queue, Seed is that of the center's key for receipts.
	Key, Seed []byte
	// Far is where the clinic sends, PACS where the center does.
	Far, PACS string
	// Quiet leaves the disk alone.
	Quiet bool
	// Early strikes while the box starts.
	Early *order
}

// order is what a running box is told, one a line.
type order struct {
	Do    string // "arm", "calm", "stats" or "quit"
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
	l, err := network.Listen(context.Background(), "tcp", "127.0.0.1:0") // also makes the runtime open what watchDisk spares
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
	go func() {
		_ = proxy.NewServer(proxy.ServerConfig{
			Name: cfg.Name, Listener: l, Handler: handler, Log: log, MaxPerSource: -1, MaxConns: -1,
		}).Serve(context.Background())
	}()
	fmt.Println(startLine, l.Addr().String())
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
	b.spool.OnDelivered(func(_ spool.Item, r spool.Receipt) {
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
