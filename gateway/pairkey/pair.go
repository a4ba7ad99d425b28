package pairkey

import (
	"bytes"
	"crypto/hpke"
	"crypto/rand"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Times of an exchange.
const (
	// RenewAfter is how old a key becomes. The taker asks for the next one, up to renewSpread before that, so that not all pairs of a center do
	// it at the same time.
	RenewAfter  = 24 * time.Hour
	renewSpread = 2 * time.Hour
	// repostFirst and repostMax are how long a message is left alone before it is posted again, doubling in between.
	repostFirst = 30 * time.Second
	repostMax   = time.Hour
	// doubtPatience is how long a taker waits for the commit before it asks for another key.
	doubtPatience = 2 * time.Minute
	// wantAfter is how long a maker without a key waits for an offer, and wantPause how often a taker follows a want.
	wantAfter = 20 * time.Second
	wantPause = 30 * time.Second
)

// Pair is one end of a pair of boxes. It is used by one goroutine. What it wants saved has to be saved before it goes on: until then it
// posts nothing new and changes no key.
type Pair struct {
	self, peer string
	born       time.Time
	saved      Saved
	dirty      bool

	offer *offer // of a taker
	asked time.Time
	// helped is when another key was asked for because handshakes failed.
	helped time.Time
	// doubt is when the key came that the taker is in doubt of.
	doubt time.Time

	pending *pending // of a maker
	out     outgoing
	hunt    hunt
}

// offer is an exchange that this end began.
type offer struct {
	id  []byte
	key hpke.PrivateKey
}

// pending is a key that was proposed and not confirmed.
type pending struct {
	key    Key
	answer message
	asked  time.Time // when the offer came, the last time
}

// outgoing is what the other end shall find.
type outgoing struct {
	set   bool
	m     message
	key   wgkey.PresharedKey // that an ack or a commit confirms
	tries int
	due   time.Time
	taken bool // by Due
}

// New is the pair of two nodes, which goes on with what was saved. Self and peer are node IDs and differ.
func New(self, peer string, s Saved, now time.Time) *Pair {
	p := &Pair{self: self, peer: peer, born: now, saved: s}
	// What is saved is in the device before anything else is, so a handshake from now on is certainly under it.
	p.hunt.since, p.hunt.home = now.Add(-blur), s.Current.Epoch
	p.hunt.using, p.hunt.key = p.hunt.home, s.Current.Secret
	if !s.Doubt.isZero() {
		p.doubt = now
		p.send(message{Kind: kindAck, Epoch: s.Doubt.Epoch}, s.Doubt.Secret, now)
	}
	return p
}

func (p *Pair) maker() bool { return p.self < p.peer }

// Handle takes a message of the other end. What is not authentic, old or not understood changes nothing.
func (p *Pair) Handle(now time.Time, l Link, body []byte) {
	m, err := parse(body)
	if err != nil {
		return
	}
	switch {
	case p.maker() && m.Kind == kindOffer:
		p.onOffer(now, l, m)
	case p.maker() && m.Kind == kindAck:
		p.onAck(now, l, m)
	case !p.maker() && m.Kind == kindKey:
		p.onKey(now, l, m)
	case !p.maker() && m.Kind == kindCommit:
		if k := p.saved.Doubt; k.Epoch == m.Epoch && m.authentic(l, k.Secret, p.peer, p.self) {
			p.adopt(k)
		}
	case !p.maker() && m.Kind == kindWant:
		p.onWant(now, l, m)
	}
}

func (p *Pair) authentic(l Link, m message) bool {
	return m.authentic(l, wgkey.PresharedKey{}, p.peer, p.self)
}

// onOffer proposes a key. One that was proposed for another exchange is forgotten, so it is never used.
func (p *Pair) onOffer(now time.Time, l Link, m message) {
	if !p.authentic(l, m) {
		return
	}
	if p.pending != nil && bytes.Equal(p.pending.answer.ID, m.ID) {
		p.pending.asked = now
		p.send(p.pending.answer, wgkey.PresharedKey{}, now)
		return
	}
	secret, err := wgkey.NewPresharedKey()
	if err != nil {
		return
	}
	key := Key{Epoch: max(m.Epoch, p.top()) + 1, Secret: secret, Made: now}
	answer := message{Kind: kindKey, ID: m.ID, Epoch: key.Epoch, Base: p.saved.Current.Epoch}
	if answer.Data, err = sealKey(m.Data, secret, info(p.self, p.peer, answer)); err != nil {
		return
	}
	p.pending = &pending{key, answer, now}
	p.send(answer, wgkey.PresharedKey{}, now)
}

// onAck uses the key from now on: the other end has it.
func (p *Pair) onAck(now time.Time, l Link, m message) {
	if x := p.pending; x != nil && x.key.Epoch == m.Epoch && m.authentic(l, x.key.Secret, p.peer, p.self) {
		p.adopt(x.key)
		p.send(message{Kind: kindCommit, Epoch: m.Epoch}, x.key.Secret, now)
		return
	}
	if k := p.saved.Current; k.Epoch == m.Epoch && m.authentic(l, k.Secret, p.peer, p.self) {
		if p.pending == nil {
			p.send(message{Kind: kindCommit, Epoch: m.Epoch}, k.Secret, now)
		}
		return
	}
	if p.pending == nil && p.out.m.Kind != kindWant { // a key that was lost here
		p.send(message{Kind: kindWant, Epoch: p.saved.Current.Epoch}, wgkey.PresharedKey{}, now)
	}
}

// onKey takes the key of the exchange that is under way. What the maker uses at that time settles a doubt that is left.
func (p *Pair) onKey(now time.Time, l Link, m message) {
	if p.offer == nil || !bytes.Equal(p.offer.id, m.ID) || m.Epoch <= p.top() || !p.authentic(l, m) {
		return
	}
	secret, err := openKey(p.offer.key, m.Data, info(p.peer, p.self, m))
	if err != nil || secret.IsZero() {
		return
	}
	if d := p.saved.Doubt; !d.isZero() && d.Epoch == m.Base {
		p.adopt(d)
	}
	p.saved.Doubt = Key{Epoch: m.Epoch, Secret: secret, Made: now}
	p.offer, p.doubt, p.dirty = nil, now, true
	p.send(message{Kind: kindAck, Epoch: m.Epoch}, secret, now)
}

// onWant begins an exchange for a maker that has no key, or repeats what was said of the one that is under way.
func (p *Pair) onWant(now time.Time, l Link, m message) {
	switch {
	case now.Sub(p.asked) < wantPause || !p.authentic(l, m):
	case p.offer != nil:
		p.asked, p.out.due, p.out.tries = now, now, 0
	default:
		p.ask(now)
	}
}

// adopt makes a key that both ends have the newest.
func (p *Pair) adopt(k Key) {
	if !p.saved.Current.isZero() {
		p.saved.Previous = p.saved.Current
	}
	p.saved.Current, p.saved.Doubt = k, Key{}
	p.offer, p.pending, p.dirty = nil, nil, true
	p.out = outgoing{}
	p.hunt.home, p.hunt.shared, p.hunt.fallen, p.hunt.trouble = k.Epoch, k.Epoch, false, time.Time{}
}

// ask begins an exchange.
func (p *Pair) ask(now time.Time) {
	k, err := kem().GenerateKey()
	if err != nil {
		return
	}
	id := make([]byte, idSize)
	_, _ = rand.Read(id) // never fails
	p.offer, p.asked = &offer{id, k}, now
	p.send(message{Kind: kindOffer, Epoch: p.top(), ID: id, Data: k.PublicKey().Bytes()}, wgkey.PresharedKey{}, now)
}

// advance begins what is due.
func (p *Pair) advance(now time.Time) {
	lacks, failing := p.saved.Current.isZero() || p.hunt.fallen, p.failing(now)
	switch {
	case p.maker():
		// What was proposed and not answered may have been for an offer of long ago, which the coordinator has kept.
		waits := !p.out.set && (failing || now.Sub(p.born) >= wantAfter) || p.pending != nil && p.out.m.Kind == kindKey && now.Sub(p.pending.asked) >= doubtPatience
		if (lacks || failing) && waits {
			p.help(now, failing)
			p.send(message{Kind: kindWant, Epoch: p.saved.Current.Epoch}, wgkey.PresharedKey{}, now)
		}
	case p.offer != nil:
	case !p.saved.Doubt.isZero():
		if now.Sub(p.doubt) >= doubtPatience {
			p.ask(now)
		}
	case lacks || failing || p.old(now):
		p.help(now, failing)
		p.ask(now)
	}
}

func (p *Pair) help(now time.Time, failing bool) {
	if failing {
		p.helped = now
	}
}

// old reports whether the key is due to be renewed, also after a clock that was far ahead.
func (p *Pair) old(now time.Time) bool {
	age := now.Sub(p.saved.Current.Made)
	return age >= RenewAfter-spread(p.self, p.peer) || age < -RenewAfter
}

// top is the highest epoch that this end knows of.
func (p *Pair) top() uint64 {
	top := max(p.saved.Current.Epoch, p.saved.Previous.Epoch, p.saved.Doubt.Epoch)
	if p.pending != nil {
		top = max(top, p.pending.key.Epoch)
	}
	return top
}

func (p *Pair) send(m message, key wgkey.PresharedKey, now time.Time) {
	p.out = outgoing{set: true, m: m, key: key, due: now}
}

// Due is the message that has to be posted now, if any.
func (p *Pair) Due(now time.Time, l Link) ([]byte, bool) {
	if !p.out.set || p.dirty || now.Before(p.out.due) {
		return nil, false
	}
	b := p.out.m.encode(l, p.out.key, p.self, p.peer)
	p.out.taken = b != nil
	return b, p.out.taken
}

// Posted notes that what Due gave is with the coordinator. A commit is left there once: who needs it again sends its ack again.
func (p *Pair) Posted(now time.Time) {
	if !p.out.taken { // there is another message since
		return
	}
	p.out.taken = false
	if p.out.m.Kind == kindCommit {
		p.out = outgoing{}
		return
	}
	p.out.due = now.Add(min(repostFirst<<min(p.out.tries, 10), repostMax))
	p.out.tries++
}

// Tries is how often the message that is out was posted: it grows while the other end does not answer.
func (p *Pair) Tries() int { return p.out.tries }

// Expects is how long a look for messages may wait: the shorter, the likelier there is one.
func (p *Pair) Expects(now time.Time) time.Duration {
	waits := p.out.set || p.offer != nil || p.pending != nil || !p.saved.Doubt.isZero() || p.saved.Current.isZero()
	switch {
	case waits && (p.out.set && p.out.tries <= 1 || !p.out.set && now.Sub(p.born) < time.Minute):
		return 2 * time.Second
	case waits && p.out.tries <= 4:
		return 15 * time.Second
	}
	return time.Minute
}

// Unsaved is what has to be saved before the pair goes on; see Saved.
func (p *Pair) Unsaved() (Saved, bool) { return p.saved, p.dirty }

// Keep notes that what Unsaved gave is on the disk.
func (p *Pair) Keep() { p.dirty = false }
