package transfer

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy/codec"
)

// What a zero ReceiverConfig means, in bytes where nothing else is said.
const (
	DefaultMemory       = 48 << 20
	DefaultInMemory     = 1 << 20
	DefaultPartialBytes = 8 << 30
	DefaultPartialAge   = 7 * 24 * time.Hour
	DefaultMaxItems     = 512
	DefaultMaxKept      = 200_000
	DefaultSweepEvery   = time.Minute
)

// urgentMemory is what urgent items may take beyond ReceiverConfig.Memory.
const urgentMemory = 16 << 20

var errClosed = errors.New("the transfer is shutting down")

// ReceiverConfig describes the receiving end of a gateway.
type ReceiverConfig struct {
	// Dir holds the journal and partial items. It is made if need be, and belongs to one Receiver.
	Dir string
	// Secret seals partial items on disk; at least 16 bytes from a key store, or empty: then they do not outlive the Receiver.
	Secret []byte
	Inbox  Inbox
	// Node is this gateway, Signer its Ed25519 key for receipts.
	Node   string
	Signer crypto.Signer
	// Peer says which node may speak from an address of the overlay. Nil believes what the peer says.
	Peer func(source netip.Addr) (node string, ok bool)
	// Codec decodes; nil refuses encoded blocks.
	Codec *codec.Codec
	// Memory bounds the payloads that are in memory, InMemory is the longest that is not written to a file first.
	Memory, InMemory int64
	// PartialBytes and PartialAge bound the partial items on disk.
	PartialBytes int64
	PartialAge   time.Duration
	// MaxItems is how many items a peer may offer that are not taken yet; MaxKept how many taken ones may wait for their end.
	MaxItems, MaxKept int
	// SweepEvery is how often it is looked whether what was taken is still in the Inbox.
	SweepEvery time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Receiver takes items from the Senders of other gateways: serve its connections with a proxy.Server that allows MaxLanes connections a source
// and twice that in all per peer. It is safe for concurrent use.
type Receiver struct {
	cfg     ReceiverConfig
	log     *slog.Logger
	public  ed25519.PublicKey
	journal *journal
	parts   *partFolder
	slots   chan struct{} // how many items are stored at a time
	cancel  context.CancelFunc
	ended   context.Context //nolint:containedctx // ends what outlives a connection: see Close
	wg      sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	sessions map[string]*inSession // by node
	incoming map[key]*incoming
	waiting  []*incoming // most urgent first
	passed   int         // urgent ones in a row that were asked for
	used     int64       // cost of all that is not waiting
	seq      uint64
}

// storeAtOnce is how many items are handed to the Inbox at a time: they share syncs.
const storeAtOnce = 64

// NewReceiver opens the directory and compares its journal with the Inbox.
func NewReceiver(cfg ReceiverConfig) (*Receiver, error) {
	cfg = cfg.withDefaults()
	public, ok := cfg.Signer.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("open the transfer: the key for receipts is a %T, not an Ed25519 one", cfg.Signer.Public())
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the transfer: %w", err)
	}
	parts, err := openPartFolder(cfg.Dir+"/partial", cfg.Secret, cfg.PartialBytes, cfg.PartialAge)
	if err != nil {
		return nil, fmt.Errorf("open the transfer: %w", err)
	}
	j, err := openJournal(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open the transfer: %w", err)
	}
	r := &Receiver{
		cfg: cfg, log: cfg.Log.With("subsystem", "transfer"), public: public, journal: j, parts: parts,
		slots: make(chan struct{}, storeAtOnce), sessions: map[string]*inSession{}, incoming: map[key]*incoming{},
	}
	r.ended, r.cancel = context.WithCancel(context.Background())
	if err := r.reconcile(); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("open the transfer: %w", err)
	}
	r.wg.Go(r.sweep)
	return r, nil
}

func (c ReceiverConfig) withDefaults() ReceiverConfig {
	c.Memory = cmp.Or(c.Memory, DefaultMemory)
	c.InMemory = cmp.Or(c.InMemory, DefaultInMemory)
	c.PartialBytes = cmp.Or(c.PartialBytes, DefaultPartialBytes)
	c.PartialAge = cmp.Or(c.PartialAge, DefaultPartialAge)
	c.MaxItems = cmp.Or(c.MaxItems, DefaultMaxItems)
	c.MaxKept = cmp.Or(c.MaxKept, DefaultMaxKept)
	c.SweepEvery = cmp.Or(c.SweepEvery, DefaultSweepEvery)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// reconcile records what the Inbox holds without a record (the machine stopped between the two), and ends what has a record and is not there:
// only an operator, or damage to the disk, removes an item that was not delivered.
func (r *Receiver) reconcile() error {
	held := map[key]bool{}
	for h, err := range r.cfg.Inbox.Held() {
		if err != nil {
			return fmt.Errorf("list what was received: %w", err)
		}
		k := h.key()
		held[k] = true
		if _, known := r.journal.get(k); !known {
			if _, err := r.attest(Taken, h, Result{}); err != nil {
				return err
			}
		}
	}
	return r.miss(func(o Origin) bool { return held[o.key()] })
}

// miss ends what has a record and is not there.
func (r *Receiver) miss(held func(Origin) bool) error {
	for _, t := range r.journal.open() {
		if held(t.Origin) {
			continue
		}
		if e, ok := r.journal.get(t.key()); !ok || e.final.Kind != 0 {
			continue // delivered since
		}
		res := Result{Reason: "it is not in the queue of the receiving gateway any more: an operator dropped it there, or it was damaged"}
		if err := r.Resolve(Held{Origin: t.Origin, Size: t.Size, Service: t.Service}, res); err != nil {
			return err
		}
		r.log.Warn("an item that was taken is not in the queue any more", "node", t.Node, "item", t.ID)
	}
	return nil
}

// sweep looks from time to time whether somebody has dropped an item, or damage to the disk.
func (r *Receiver) sweep() {
	tick := time.NewTicker(r.cfg.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.ended.Done():
			return
		case <-tick.C:
			if err := r.miss(r.cfg.Inbox.Holds); err != nil {
				r.log.Error("that an item is not in the queue any more could not be recorded", "error", err)
			}
		}
	}
}

// attest signs and records.
func (r *Receiver) attest(k Kind, h Held, res Result) (Receipt, error) {
	receipt, err := Receipt{
		Kind: k, Origin: h.Origin, Size: h.Size, Service: h.Service, By: r.cfg.Node, At: time.Now(),
		Code: res.Code, Peer: res.Peer, Reason: res.Reason,
	}.sign(r.cfg.Signer)
	if err == nil {
		err = r.journal.addReceipt(receipt)
	}
	return receipt, err
}

// Resolve records what became of an item at its destination, synced, and tells the sending gateway. Call it before the item is forgotten here.
func (r *Receiver) Resolve(h Held, res Result) error {
	kind := Parked
	if res.Accepted {
		kind = Accepted
	}
	receipt, err := r.attest(kind, h, res)
	if err != nil {
		return fmt.Errorf("record the end of an item: %w", err)
	}
	if res.Accepted {
		r.cfg.Inbox.Delivered(h.Origin)
	}
	r.mu.Lock()
	s := r.sessions[h.Node]
	r.mu.Unlock()
	if s != nil {
		s.finals.add(receipt)
	}
	return nil
}

// Outcome returns the final receipt of an item, if there is one that its sender does not keep yet.
func (r *Receiver) Outcome(o Origin) (Receipt, bool) {
	e, ok := r.journal.get(o.key())
	return e.final, ok && e.final.Kind != 0 && !e.settled
}

// Public returns the key that verifies receipts.
func (r *Receiver) Public() ed25519.PublicKey { return r.public }

// Close ends all sessions, waits for what is being stored and closes the journal. Partial items stay for later.
func (r *Receiver) Close() error {
	r.mu.Lock()
	r.closed = true
	var open []*inSession
	for _, s := range r.sessions {
		open = append(open, s)
	}
	r.mu.Unlock()
	for _, s := range open {
		s.end(errClosed)
		<-s.done
	}
	r.cancel()
	r.wg.Wait()
	if err := r.journal.close(); err != nil {
		return fmt.Errorf("close the transfer: %w", err)
	}
	return nil
}
