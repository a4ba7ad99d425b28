package pairkey

import (
	"slices"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// Times of looking for the key that the other end uses. WireGuard repeats an initiation after 5 to 5.3 s (REKEY_TIMEOUT, WireGuard paper
// §6.1).
const (
	// renewed is when a session that is in use should have been renewed (REKEY_AFTER_TIME), dead when it is (REJECT_AFTER_TIME).
	renewed = 121 * time.Second
	dead    = 180 * time.Second
	// scanAfter is how long handshakes fail before a taker without doubt tries another key, and scanDwell how long it stays with each.
	scanAfter = 15 * time.Second
	scanDwell = 6 * time.Second
	// makerAfter and makerDwell are a maker's. A taker has up to four choices, which it goes through within makerDwell.
	makerAfter = 45 * time.Second
	makerDwell = 30 * time.Second
	// silentAfter takes their place at an end that hears nothing at all, if it is a maker or knows that both ends had the key while it runs:
	// then it is more likely that the way is broken.
	silentAfter = 5 * time.Minute
	// askAfter is how long handshakes fail before the other end is asked for another key by mail, where the coordinator is reached, and
	// askPause how often that is: most often it is the way that is broken.
	askAfter = 3 * time.Second
	askPause = 10 * time.Minute
	// doubtScan is how long a taker in doubt tries the two keys that it doubts between alone.
	doubtScan = time.Minute
	// calm is how long nothing is tried until the pair goes back to its best key.
	calm = 30 * time.Second
	// blur is how long after a change it is not certain under which key a handshake was made.
	blur = 2 * time.Second
)

// Seen is what the device shows of the peer.
type Seen struct {
	Handshake time.Time // the last one; zero for never
	Rx, Tx    uint64    // bytes, initiations and answers included
}

// hunt is the search for the key that works.
type hunt struct {
	seen  Seen
	known bool // seen is set
	// using is the epoch of the key in the device since a time; 0 is none.
	using uint64
	key   wgkey.PresharedKey
	since time.Time
	late  bool // it is not in the device yet
	// home is what is used while nothing is wrong. It is older than the newest key, or none, after a fall.
	home   uint64
	fallen bool
	// shared is the epoch of the last key that both ends are known to have had since this process began.
	shared uint64
	// proven is the epoch of the last handshake.
	proven uint64
	sure   bool // proven is set
	// trouble is since when handshakes fail, tried when that was seen last, heard when the other end was.
	trouble, tried, heard time.Time
}

// Tick takes what the device shows, and the time.
func (p *Pair) Tick(now time.Time, seen Seen) {
	p.look(now, seen)
	p.advance(now)
}

func (p *Pair) look(now time.Time, seen Seen) {
	h := &p.hunt
	before, known := h.seen, h.known
	h.seen, h.known = seen, true
	if !seen.Handshake.IsZero() && (!known || !seen.Handshake.Equal(before.Handshake)) {
		p.shook(seen.Handshake)
		return
	}
	limit := dead
	if !p.saved.Doubt.isZero() {
		limit = renewed
	}
	// A device begins with counters of zero.
	if now.Sub(seen.Handshake) > limit && (seen.Rx > before.Rx || seen.Tx > before.Tx) {
		heard := seen.Rx > before.Rx
		if h.trouble.IsZero() || heard && p.silent(now) { // what was tried while nothing was heard says nothing
			h.trouble = now
		}
		if h.tried = now; heard {
			h.heard = now
		}
	}
	if !h.trouble.IsZero() && now.Sub(h.tried) > calm {
		h.trouble = time.Time{}
	}
}

// failing reports whether handshakes fail, so that another key should be asked for now.
func (p *Pair) failing(now time.Time) bool {
	h := &p.hunt
	return !h.trouble.IsZero() && now.Sub(h.trouble) >= askAfter && (p.helped.IsZero() || now.Sub(p.helped) >= askPause)
}

// shook takes a new handshake: both ends use the same key.
func (p *Pair) shook(at time.Time) {
	h := &p.hunt
	h.trouble = time.Time{}
	if h.sure = !h.late && at.After(h.since.Add(blur)); !h.sure {
		return
	}
	h.proven = h.using
	if d := p.saved.Doubt; h.using == d.Epoch && !d.isZero() {
		p.adopt(d)
		return
	}
	h.home, h.shared = h.using, h.using
	h.fallen = h.using < p.saved.Current.Epoch
}

// Choose returns whether another key has to be configured from now on, see Key and Configured. Required forbids to have none where there is one. Nothing
// changes while something is unsaved.
func (p *Pair) Choose(now time.Time, required bool) bool {
	if p.dirty {
		return false
	}
	h := &p.hunt
	epoch := uint64(0)
	if choices := p.choices(required); len(choices) > 0 {
		epoch = choices[p.index(now, len(choices))]
	}
	if epoch == h.using {
		return false
	}
	h.using, h.key, h.since = epoch, p.keyOf(epoch).Secret, now
	h.late = true
	return true
}

// Configured notes that the device has the key that was chosen last, since a time.
func (p *Pair) Configured(at time.Time) { p.hunt.since, p.hunt.late = at, false }

// silent reports that a pair in trouble hears nothing of the other end, as one whose way is broken.
func (p *Pair) silent(now time.Time) bool { return now.Sub(p.hunt.heard) > calm }

// index is which of n choices is due. The first one is due most of the time where it is likely that the way is broken, so that a pair whose
// way is back has its tunnel at once.
func (p *Pair) index(now time.Time, n int) int {
	h := &p.hunt
	if h.trouble.IsZero() || n < 2 {
		return 0
	}
	silent, doubt := p.silent(now), !p.saved.Doubt.isZero()
	settled := silent && (p.maker() || h.shared == h.home)
	after, dwell := scanAfter, scanDwell
	if p.maker() {
		after, dwell = makerAfter, makerDwell
	}
	switch {
	case doubt:
		after = 0
	case settled:
		after = silentAfter
	}
	wait := now.Sub(h.trouble) - after
	if wait < 0 {
		return 0
	}
	step, rest := int(wait/dwell), 1
	switch {
	case doubt && (wait < doubtScan || silent && wait < silentAfter):
		return (1 + step) % 2
	case doubt || !silent:
		return (1 + step) % n
	case settled:
		rest = 3
	}
	if step%(1+rest) > 0 {
		return 0
	}
	return 1 + step/(1+rest)%(n-1)
}

// choices are the epochs of all keys that may be used, the best first; 0 is none.
func (p *Pair) choices(required bool) []uint64 {
	var out []uint64
	add := func(epoch uint64) {
		if epoch > 0 && !slices.Contains(out, epoch) {
			out = append(out, epoch)
		}
	}
	none := p.hunt.home == 0 && !required
	if none {
		out = append(out, 0)
	}
	add(p.hunt.home)
	add(p.saved.Doubt.Epoch)
	add(p.saved.Current.Epoch)
	add(p.saved.Previous.Epoch)
	out = slices.DeleteFunc(out, func(e uint64) bool { return e > 0 && p.keyOf(e).isZero() })
	if !required && !none {
		out = append(out, 0)
	}
	return out
}

func (p *Pair) keyOf(epoch uint64) Key {
	for _, k := range []Key{p.saved.Current, p.saved.Doubt, p.saved.Previous} {
		if k.Epoch == epoch {
			return k
		}
	}
	return Key{}
}

// Key is what has to be configured; the zero value is none, with which a pair whose network requires one has to be kept apart.
func (p *Pair) Key() wgkey.PresharedKey { return p.hunt.key }

// Restless reports whether the device has to be looked at about every second.
func (p *Pair) Restless() bool { return !p.hunt.trouble.IsZero() || !p.saved.Doubt.isZero() }

// Lacking is how long this process has gone without a key for the pair; 0 if there is one.
func (p *Pair) Lacking(now time.Time) time.Duration {
	if p.hunt.using != 0 {
		return 0
	}
	return now.Sub(p.hunt.since)
}

// Standing is how a pair is, for people.
type Standing struct {
	// Epoch is that of the key that is used; 0 is none.
	Epoch uint64
	// Proven means that the last handshake was made under it.
	Proven bool
	// Fallen means that the other end did not use the newest key, so that an older one or none is used.
	Fallen bool
	// Asked is how often the other end was asked without an answer.
	Asked int
}

// Standing returns how the pair is.
func (p *Pair) Standing() Standing {
	h := p.hunt
	return Standing{Epoch: h.using, Proven: h.sure && h.proven == h.using, Fallen: h.fallen, Asked: p.out.tries}
}
