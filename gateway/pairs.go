package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/gateway/pairkey"
	"github.com/towpath/towpath/gateway/reconcile"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/tunnel"
	"github.com/towpath/towpath/tunnel/wgkey"
)

const (
	codePairKey      = "pair-key/"
	codePairKeyStore = "pair-key-store"

	pairEvery = time.Second
	// pairLookEvery is how often the device is looked at while no pair is restless.
	pairLookEvery = 5 * time.Second
	// pairRetry is the pause after a request that failed, pairOld after one to a coordinator that is too old.
	pairRetry = 15 * time.Second
	pairOld   = 10 * time.Minute
	// pairLate is how long a pair may be without a key until that is a Condition.
	pairLate = 10 * time.Minute
	// pairTimeout bounds one request.
	pairTimeout = 20 * time.Second
)

// pairMailer is what pairs need of the coordinator.
type pairMailer interface {
	PairMail(ctx context.Context, m wire.PairMail) (wire.PairMailbox, error)
}

// pairing agrees on preshared keys with all peers that can. All but what mu guards is its loop's.
type pairing struct {
	mailer pairMailer
	dir    *state.Dir
	store  *state.Pairs // nil while it cannot be opened
	saved  map[string][]byte
	health *health.Set
	log    *slog.Logger
	// locked takes the place of a key that is required and not there: no peer has it.
	locked wgkey.PresharedKey
	rekey  chan struct{} // other keys are to be configured

	pairs  map[string]*pairkey.Pair
	deaf   map[string]bool // peers whose software is too old
	looked time.Time
	mailAt time.Time
	done   []string // messages that were handled
	silent bool     // the last request failed
	// busy says that a request is under way, whose answer comes by answers.
	busy    bool
	answers chan pairAnswer

	mu      sync.Mutex // guards what follows
	keys    map[string]wgkey.PresharedKey
	wanted  uint64            // grows with each change of keys
	changed map[string]uint64 // the change that is not in the device yet, by node
	ready   uint64            // what the device has, since readyAt
	readyAt time.Time
	shown   map[string]pairShown
}

func openPairing(dir *state.Dir, mailer pairMailer, h *health.Set, log *slog.Logger) (*pairing, error) {
	locked, err := wgkey.NewPresharedKey()
	if err != nil {
		return nil, err
	}
	b := &pairing{
		mailer: mailer, dir: dir, health: h, log: log, locked: locked, rekey: make(chan struct{}, 1),
		pairs: map[string]*pairkey.Pair{}, deaf: map[string]bool{}, answers: make(chan pairAnswer, 1),
		keys: map[string]wgkey.PresharedKey{}, changed: map[string]uint64{}, shown: map[string]pairShown{},
	}
	// A box with a full disk starts all the same.
	if b.saved, err = b.open(); err != nil {
		b.cannotSave(err)
	}
	return b, nil
}

// open opens the store, and returns what is in it.
func (b *pairing) open() (map[string][]byte, error) {
	store, err := b.dir.Pairs()
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	saved, err := store.Load()
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	b.store = store
	return saved, nil
}

func (b *pairing) cannotSave(err error) {
	b.health.Raise(codePairKeyStore, health.Warning, "a preshared key cannot be saved, so the one before stays in use: "+err.Error(), time.Now())
}

// pairView is what a round works on.
type pairView struct {
	self      wire.Self
	peers     []wire.Peer
	own       []wgkey.PrivateKey
	connected bool
}

func (g *Gateway) pairView() pairView {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := pairView{self: g.plan.Self, connected: g.link.Connected}
	for _, k := range []wgkey.PrivateKey{g.id.PrivateKey, g.id.Former, g.id.Next} {
		if !k.IsZero() {
			v.own = append(v.own, k)
		}
	}
	if v.self.PairKeys == wire.PairKeysOff {
		return v
	}
	for _, p := range g.plan.Peers {
		if reconcile.PairsWith(p) && p.Node != v.self.Node {
			v.peers = append(v.peers, p)
		}
	}
	return v
}

func (v pairView) link(p wire.Peer) pairkey.Link {
	l := pairkey.Link{Own: v.own, Peer: []wgkey.PublicKey{p.PublicKey}}
	if !p.NextKey.IsZero() {
		l.Peer = append(l.Peer, p.NextKey)
	}
	return l
}

// pairLoop agrees on keys until ctx is done.
func (g *Gateway) pairLoop(ctx context.Context) error {
	tick := time.NewTicker(pairEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if g.pairing.busy {
				<-g.pairing.answers
			}
			return nil
		case <-tick.C:
			if !g.pairing.busy && g.pairMail.Swap(false) {
				g.pairing.mailAt = time.Time{}
			}
		case a := <-g.pairing.answers:
			g.pairing.answer(g.pairView(), a, time.Now())
		}
		g.pairing.round(ctx, g.pairView(), g.opt.Device.Status, time.Now())
	}
}

// round does what is due.
func (b *pairing) round(ctx context.Context, v pairView, status func(context.Context) (tunnel.Status, error), now time.Time) {
	b.meet(v, now)
	restless := false
	for _, p := range b.pairs {
		restless = restless || p.Restless()
	}
	if restless || now.Sub(b.looked) >= pairLookEvery {
		if st, err := status(ctx); err == nil {
			b.look(v, st, now)
		}
	}
	b.settle(v, now)
	if v.connected && len(b.pairs) > 0 {
		b.exchange(ctx, v, now)
	}
	b.judge(v, now)
}

// meet has a pair for every peer, and forgets the keys of all others.
func (b *pairing) meet(v pairView, now time.Time) {
	is := make(map[string]bool, len(v.peers))
	for _, p := range v.peers {
		is[p.Node] = true
		if b.pairs[p.Node] != nil {
			continue
		}
		var saved pairkey.Saved
		if data, ok := b.saved[p.Node]; ok {
			var err error
			if saved, err = pairkey.ParseSaved(data); err != nil {
				b.log.Warn("the saved preshared keys of a peer are agreed on anew", "peer", p.Node, "error", err)
			}
			delete(b.saved, p.Node)
		}
		b.pairs[p.Node] = pairkey.New(v.self.Node, p.Node, saved, now)
		b.setKey(p.Node, b.pairs[p.Node].Key(), v.self.PairKeys)
		b.mu.Lock()
		delete(b.changed, p.Node)
		b.mu.Unlock()
	}
	gone := func(node string) {
		if b.store == nil {
			return
		}
		if err := b.store.Forget(node); err != nil {
			b.log.Warn("a preshared key cannot be removed", "error", err)
		}
	}
	for node := range b.saved {
		gone(node)
		delete(b.saved, node)
	}
	for node := range b.pairs {
		if is[node] {
			continue
		}
		gone(node)
		delete(b.pairs, node)
		delete(b.deaf, node)
		b.setKey(node, wgkey.PresharedKey{}, wire.PairKeysOff)
	}
}

// look tells the pairs what the device shows.
func (b *pairing) look(v pairView, st tunnel.Status, now time.Time) {
	b.looked = now
	by := make(map[wgkey.PublicKey]tunnel.PeerStatus, len(st.Peers))
	for _, p := range st.Peers {
		by[p.PublicKey] = p
	}
	b.configured()
	for _, p := range v.peers {
		var seen pairkey.Seen
		for _, key := range []wgkey.PublicKey{p.PublicKey, p.NextKey} {
			s, ok := by[key]
			if !ok || key.IsZero() {
				continue
			}
			if s.LastHandshake.After(seen.Handshake) {
				seen.Handshake = s.LastHandshake
			}
			seen.Rx, seen.Tx = seen.Rx+s.RxBytes, seen.Tx+s.TxBytes
		}
		b.pairs[p.Node].Tick(now, seen)
	}
}

// pairAnswer is what came of a request.
type pairAnswer struct {
	asked wire.PairMail
	box   wire.PairMailbox
	err   error
}

// exchange begins to leave and get messages, if that is due and not under way.
func (b *pairing) exchange(ctx context.Context, v pairView, now time.Time) {
	if b.busy {
		return
	}
	m := wire.PairMail{Format: wire.Format, Done: slices.Clone(b.done[:min(len(b.done), wire.MaxPairDone)])}
	for _, p := range v.peers {
		if len(m.Post) == wire.MaxPairMessages {
			break
		}
		if body, due := b.pairs[p.Node].Due(now, v.link(p)); due {
			m.Post = append(m.Post, wire.PairMessage{To: p.Node, Body: body})
		}
	}
	if now.Before(b.mailAt) && (len(m.Post) == 0 || b.silent) {
		return
	}
	b.busy = true
	go func() {
		ctx, cancel := context.WithTimeout(ctx, pairTimeout)
		defer cancel()
		box, err := b.mailer.PairMail(ctx, m)
		b.answers <- pairAnswer{m, box, err}
	}()
}

// answer takes what came of the request.
func (b *pairing) answer(v pairView, a pairAnswer, now time.Time) {
	b.meet(v, now)
	b.busy = false
	b.silent = a.err != nil
	switch {
	case errors.Is(a.err, control.ErrNoPairMail):
		b.mailAt = now.Add(pairOld)
	case a.err != nil:
		b.log.Debug("messages about preshared keys were not exchanged", "error", a.err)
		b.mailAt = now.Add(pairRetry)
	default:
		b.done = b.done[len(a.asked.Done):]
		b.take(v, a.asked, a.box, now)
	}
}

// take works on what came back. What was handled is saved before it is done with.
func (b *pairing) take(v pairView, m wire.PairMail, box wire.PairMailbox, now time.Time) {
	for _, x := range m.Post {
		if p := b.pairs[x.To]; p != nil {
			p.Posted(now)
			b.deaf[x.To] = slices.Contains(box.Deaf, x.To)
		}
	}
	links := make(map[string]wire.Peer, len(box.Mail))
	for _, p := range v.peers {
		links[p.Node] = p
	}
	handled := 0
	for _, item := range box.Mail {
		if p := b.pairs[item.From]; p != nil {
			p.Handle(now, v.link(links[item.From]), item.Body)
			b.deaf[item.From] = false
			b.save(item.From, p)
			if _, unsaved := p.Unsaved(); unsaved {
				continue // it comes again
			}
		}
		handled++
		b.done = append(b.done, item.ID)
	}
	wait := time.Minute
	for _, p := range b.pairs {
		wait = min(wait, p.Expects(now))
	}
	b.mailAt = now.Add(wait + rand.N(wait/5))
	if box.More && handled > 0 { // else the same comes again
		b.mailAt = now
	}
}

func (b *pairing) save(node string, p *pairkey.Pair) {
	s, unsaved := p.Unsaved()
	if !unsaved {
		return
	}
	data, err := s.Reveal()
	if err == nil && b.store == nil {
		_, err = b.open()
	}
	if err == nil {
		err = b.store.Save(node, data)
	}
	if err != nil {
		b.cannotSave(err)
		return
	}
	b.health.Clear(codePairKeyStore)
	p.Keep()
}

// settle saves what the pairs want saved and asks for what has to be configured.
func (b *pairing) settle(v pairView, now time.Time) {
	required := v.self.PairKeys == wire.PairKeysRequired
	for _, peer := range v.peers {
		p := b.pairs[peer.Node]
		b.save(peer.Node, p)
		if p.Choose(now, required) {
			b.log.Info("another preshared key", "peer", peer.Node, "site", peer.Site, "epoch", p.Standing().Epoch)
		}
		b.setKey(peer.Node, p.Key(), v.self.PairKeys)
	}
}

// setKey notes what has to be configured for a peer.
func (b *pairing) setKey(node string, key wgkey.PresharedKey, policy wire.PairKeys) {
	if key.IsZero() && policy == wire.PairKeysRequired {
		key = b.locked
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pairs[node]; p != nil {
		b.shown[node] = pairShown{p.Standing(), b.deaf[node]}
	} else {
		delete(b.shown, node)
	}
	if b.keys[node].Equal(key) {
		return
	}
	if b.keys[node] = key; key.IsZero() {
		delete(b.keys, node)
	}
	b.wanted++
	b.changed[node] = b.wanted
	select {
	case b.rekey <- struct{}{}:
	default:
	}
}

// current are the keys to be configured, and which change they are.
func (b *pairing) current() (map[string]wgkey.PresharedKey, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.keys), b.wanted
}

// applied notes that the device has what current gave.
func (b *pairing) applied(change uint64) {
	b.mu.Lock()
	b.ready, b.readyAt = change, time.Now()
	b.mu.Unlock()
}

// configured tells the pairs whose keys have reached the device.
func (b *pairing) configured() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for node, change := range b.changed {
		if change > b.ready {
			continue
		}
		if p := b.pairs[node]; p != nil {
			p.Configured(b.readyAt)
		}
		delete(b.changed, node)
	}
}

// applyTriedLocked makes true what was compiled last, with the newest preshared keys.
func (g *Gateway) applyTriedLocked(ctx context.Context) error {
	k := &g.making
	keys, change := g.pairing.current()
	k.tried.Tunnel = reconcile.WithPairKeys(k.tried.Tunnel, k.triedMap, keys)
	err := g.runner.Apply(ctx, k.tried)
	if g.runner.Configured() { // whatever else is wrong: a port that is taken does not keep the device from its keys
		g.pairing.applied(change)
	}
	return err
}

// rekeyPairs has the device take other preshared keys, and nothing else. It reports whether it has.
func (g *Gateway) rekeyPairs(ctx context.Context) bool {
	g.making.mu.Lock()
	defer g.making.mu.Unlock()
	if g.making.triedMap.Generation == 0 {
		return false // what could not be compiled is tried again as a whole
	}
	if err := g.applyTriedLocked(ctx); err != nil {
		g.opt.Log.Warn("the preshared keys are not in the tunnel", "error", err)
		return false
	}
	return true
}
