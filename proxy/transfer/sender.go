package transfer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/codec"
)

// What a zero SenderConfig means.
const (
	DefaultLanes      = 12
	DefaultAheadItems = 512
	DefaultAheadBytes = 64 << 20
	DefaultRetryMin   = time.Second
	DefaultRetryMax   = 30 * time.Second
	DefaultFullPause  = 5 * time.Second

	dialTimeout = 15 * time.Second
)

// SenderConfig describes the way to one gateway.
type SenderConfig struct {
	// Network is the overlay, Address the far gateway's transfer service there.
	Network proxy.Network
	Address string
	// Node is this gateway, Peer the far one; its receipts must be signed by PeerKey, or if that is empty by the key that it shows.
	Node, Peer string
	PeerKey    ed25519.PublicKey
	Outbox     Outbox
	// Codec encodes, with Workers goroutines; nil sends raw.
	Codec   *codec.Codec
	Workers int
	// Lanes is the most connections, 1 to MaxLanes. One of them is kept free of bulk.
	Lanes int
	// AheadItems and AheadBytes bound what is offered and not taken yet.
	AheadItems int
	AheadBytes int64
	// RetryMin and RetryMax are the bounds of the wait after a session that failed.
	RetryMin, RetryMax time.Duration
	// FullPause is how long nothing is offered to a receiver that is full.
	FullPause time.Duration
	Schedule  Schedule
	// OnReceipt is called for each verified receipt before the Outbox is; it must return soon. It may be nil.
	OnReceipt func(Receipt)
	// Log may be nil.
	Log *slog.Logger
}

// Sender moves the items of an Outbox to another gateway. It is safe for concurrent use.
type Sender struct {
	cfg SenderConfig
	log *slog.Logger

	mu       sync.Mutex
	session  *outSession
	known    knownLine
	schedule Schedule
	total    Totals
	lastErr  error
}

// Totals count since the Sender was made.
type Totals struct {
	// Taken counts items that the far gateway has signed for, Accepted and Parked those whose end is known, Again those it did not know.
	Taken, Accepted, Parked, Again uint64
	// PayloadBytes are those of taken items; LineBytes is the data of all chunks that arrived.
	PayloadBytes, LineBytes int64
	// EncodedBlocks went through the codec, RawBlocks did not; FaultyBlocks did not decode to the original and were sent as they are.
	EncodedBlocks, RawBlocks, FaultyBlocks uint64
	// Sessions counts connections made, Cuts those that broke.
	Sessions, Cuts uint64
}

// Progress is how a Sender is doing.
type Progress struct {
	Totals
	Connected bool
	// Offered items are under way; Lanes are open.
	Offered, Lanes int
	// Rate is the estimated rate of the line in bytes per second, Window how many bytes may be under way.
	Rate   float64
	Window int
	// RTT is the round-trip time of the idle line, Queueing what the queue in front of it adds now.
	RTT, Queueing time.Duration
	// LastError is why the last session ended.
	LastError string
}

// NewSender checks the configuration. Nothing happens until Run.
func NewSender(cfg SenderConfig) (*Sender, error) {
	cfg.Lanes = cmp.Or(cfg.Lanes, DefaultLanes)
	cfg.AheadItems = cmp.Or(cfg.AheadItems, DefaultAheadItems)
	cfg.AheadBytes = cmp.Or(cfg.AheadBytes, DefaultAheadBytes)
	cfg.RetryMin = cmp.Or(cfg.RetryMin, DefaultRetryMin)
	cfg.FullPause = cmp.Or(cfg.FullPause, DefaultFullPause)
	cfg.RetryMax = cmp.Or(cfg.RetryMax, DefaultRetryMax)
	cfg.Workers = max(cfg.Workers, 1)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Schedule.Validate(); err != nil {
		return nil, fmt.Errorf("make a transfer sender: %w", err)
	}
	switch {
	case cfg.Node == "" || len(cfg.Node) > MaxName:
		return nil, fmt.Errorf("make a transfer sender: the name of this node has %d bytes, it must have 1 to %d", len(cfg.Node), MaxName)
	case cfg.Lanes < 1 || cfg.Lanes > MaxLanes:
		return nil, fmt.Errorf("make a transfer sender: %d lanes; 1 to %d are possible", cfg.Lanes, MaxLanes)
	case cfg.Outbox == nil || cfg.Network == nil:
		return nil, errors.New("make a transfer sender: it needs a network and an outbox")
	case len(cfg.PeerKey) != 0 && len(cfg.PeerKey) != ed25519.PublicKeySize:
		return nil, fmt.Errorf("make a transfer sender: the peer's key has %d bytes, not %d", len(cfg.PeerKey), ed25519.PublicKeySize)
	}
	return &Sender{cfg: cfg, log: cfg.Log.With("subsystem", "transfer", "peer", cfg.Peer), schedule: cfg.Schedule}, nil
}

// Run keeps a session with the far gateway until ctx is done, and then returns nil. What is under way then goes back to the Outbox.
func (s *Sender) Run(ctx context.Context) error {
	wait := s.cfg.RetryMin
	for ctx.Err() == nil {
		begun := time.Now()
		err := s.once(ctx)
		if ctx.Err() != nil {
			break
		}
		s.mu.Lock()
		s.lastErr = err
		s.mu.Unlock()
		if time.Since(begun) > time.Minute {
			wait = s.cfg.RetryMin
		}
		s.log.Info("the transfer is interrupted, it will go on where it was", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait/2+1)):
		}
		wait = min(2*wait, s.cfg.RetryMax)
	}
	return nil //nolint:nilerr // ending was asked for
}

// once runs one session.
func (s *Sender) once(ctx context.Context) error {
	o, err := s.connect(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.session = o
	s.total.Sessions++
	s.mu.Unlock()
	err = o.run(ctx)
	s.remember(o)
	s.mu.Lock()
	s.session = nil
	s.total.Cuts++
	s.total.LineBytes += o.lineBytes
	s.mu.Unlock()
	return err
}

// remember keeps what a session has learned of the line, if anything.
func (s *Sender) remember(o *outSession) {
	k := o.learned()
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.rate > 0 {
		s.known = k
	}
}

// SetSchedule replaces the limits of the line at once.
func (s *Sender) SetSchedule(sc Schedule) error {
	if err := sc.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	s.schedule = sc
	o := s.session
	s.mu.Unlock()
	if o != nil {
		o.wakeAll()
	}
	return nil
}

// Reorder asks the Parcels that are not offered yet for their priority anew. What is offered already keeps the one it has.
func (s *Sender) Reorder() {
	s.mu.Lock()
	o := s.session
	s.mu.Unlock()
	if o != nil {
		o.reorder()
	}
}

func (s *Sender) limit() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.schedule.Limit(time.Now())
}

func (s *Sender) count(f func(*Totals)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.total)
}

// Progress measures.
func (s *Sender) Progress() Progress {
	s.mu.Lock()
	p := Progress{Totals: s.total}
	if s.lastErr != nil {
		p.LastError = s.lastErr.Error()
	}
	o := s.session
	s.mu.Unlock()
	if o != nil {
		o.progress(&p)
	}
	return p
}

// connect opens the first lane.
func (s *Sender) connect(ctx context.Context) (*outSession, error) {
	o := newOutSession(s)
	l, w, err := o.dial(ctx, 0)
	if err != nil {
		return nil, err
	}
	o.codec = s.cfg.Codec != nil && w.codec >= codec.Version
	o.ahead = max(1, min(s.cfg.AheadItems, int(w.items)))
	o.peerKey = ed25519.PublicKey(bytes.Clone(w.public))
	switch {
	case s.cfg.Peer != "" && w.node != s.cfg.Peer:
		err = fmt.Errorf("the gateway at %s is another one: its name is not %s", s.cfg.Address, s.cfg.Peer)
	case len(s.cfg.PeerKey) > 0 && !s.cfg.PeerKey.Equal(o.peerKey):
		err = fmt.Errorf("the gateway at %s signs receipts with another key than the network's map says: enroll it again or wait for the next map", s.cfg.Address)
	case len(o.peerKey) != ed25519.PublicKeySize:
		err = fmt.Errorf("%w: a key of %d bytes", errMalformed, len(o.peerKey))
	}
	if err != nil {
		l.conn.Close()
		return nil, err
	}
	o.lanes = append(o.lanes, l)
	return o, nil
}

// dial opens a lane.
func (o *outSession) dial(ctx context.Context, n int) (*outLane, welcome, error) {
	cfg := &o.s.cfg
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := cfg.Network.DialContext(dctx, "tcp", cfg.Address)
	if err != nil {
		return nil, welcome{}, fmt.Errorf("reach the far gateway: %w", err)
	}
	stop := context.AfterFunc(dctx, func() { c.Close() })
	defer stop()
	h := hello{min: minVersion, max: maxVersion, session: o.id, lane: byte(n), node: cfg.Node}
	if cfg.Codec != nil {
		h.codec = codec.Version
	}
	l := &outLane{n: n, conn: c, in: newFrameReader(c)}
	err = writeAll(c, appendFrame(nil, h))
	var m message
	if err == nil {
		m, err = l.in.next()
	}
	w, ok := m.(welcome)
	switch {
	case err != nil:
		err = fmt.Errorf("greet the far gateway: %w", err)
	case !ok:
		err = fmt.Errorf("%w: kind %d for a welcome", errMalformed, m.kind())
	case w.code != welcomeOK:
		err = errors.New("refused by the far gateway: " + refusal(w.code))
	case w.version < minVersion || w.version > maxVersion:
		err = fmt.Errorf("%w: version %d", errMalformed, w.version)
	}
	if err != nil {
		c.Close()
		return nil, welcome{}, err
	}
	return l, w, nil
}
