package pairkey

import (
	"slices"
	"testing"
	"time"

	"github.com/towpath/towpath/tunnel/wgkey"
)

// end is a box: its pair, its disk and its device.
type end struct {
	name     string
	link     Link
	pair     *Pair
	disk     Saved
	inbox    [][]byte // all that was ever left for it
	fresh    int      // of inbox, what it has not got
	traffic  bool     // it has something to send
	seen     Seen
	session  time.Time // when its session was made
	first    bool      // it made its session
	nextInit time.Time
	booted   time.Time
	had      map[string]bool // keys that were on its disk
}

// world is two boxes, a coordinator and the way between them. It moves in steps of one second.
type world struct {
	t        testing.TB
	now      time.Time
	maker    *end
	taker    *end
	required bool
	// mail says whether the coordinator is reached, path whether packets get through, and full breaks all disks.
	mail, path, full bool
	// lose takes what is left with the coordinator; nil loses nothing.
	lose     func(from *end, body []byte) bool
	lastPass time.Time // when a packet could be sent
	gap      time.Duration
	shook    []time.Time
}

func newWorld(t testing.TB, required bool) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), required: required, mail: true, path: true}
	keys := make([]wgkey.PrivateKey, 2)
	public := make([]wgkey.PublicKey, 2)
	for i := range keys {
		var err error
		if keys[i], err = wgkey.NewPrivateKey(); err != nil {
			t.Fatal(err)
		}
		if public[i], err = keys[i].Public(); err != nil {
			t.Fatal(err)
		}
	}
	w.maker = &end{name: "node_a", link: Link{keys[:1], public[1:]}, had: map[string]bool{}}
	w.taker = &end{name: "node_b", link: Link{keys[1:], public[:1]}, had: map[string]bool{}}
	w.boot(w.maker)
	w.boot(w.taker)
	w.lastPass = w.now
	return w
}

func (w *world) other(e *end) *end {
	if e == w.maker {
		return w.taker
	}
	return w.maker
}

// boot starts a box with what is on its disk, and a new device.
func (w *world) boot(e *end) {
	b, err := e.disk.Reveal()
	if err != nil {
		w.t.Fatal(err)
	}
	saved, err := ParseSaved(b)
	if err != nil {
		w.t.Fatal(err)
	}
	e.pair = New(e.name, w.peerName(e), saved, w.now)
	e.seen, e.session, e.nextInit, e.booted = Seen{}, time.Time{}, time.Time{}, w.now
}

func (w *world) peerName(e *end) string {
	if e == w.maker {
		return "node_b"
	}
	return "node_a"
}

func (w *world) step() {
	w.now = w.now.Add(time.Second)
	w.shake(w.maker)
	w.shake(w.taker)
	w.pass()
	for _, e := range []*end{w.maker, w.taker} {
		w.exchange(e)
		e.pair.Tick(w.now, e.seen)
		w.settle(e)
	}
}

func (w *world) run(d time.Duration) {
	for range int(d / time.Second) {
		w.step()
	}
}

// until runs until ok, and returns how long that took; -1 for never.
func (w *world) until(limit time.Duration, ok func() bool) time.Duration {
	for at := time.Duration(0); at <= limit; at += time.Second {
		if ok() {
			return at
		}
		w.step()
	}
	return -1
}

// exchange posts and gets what there is, every other second.
func (w *world) exchange(e *end) {
	if !w.mail || w.now.Unix()%2 == 0 {
		return
	}
	if b, ok := e.pair.Due(w.now, e.link); ok {
		e.pair.Posted(w.now)
		if w.lose == nil || !w.lose(e, b) {
			o := w.other(e)
			o.inbox = append(o.inbox, slices.Clone(b))
		}
	}
	if len(e.inbox) > e.fresh {
		e.fresh = len(e.inbox)
		e.pair.Handle(w.now, e.link, e.inbox[len(e.inbox)-1])
		w.settle(e)
	}
}

// settle saves and configures, and checks what must never be.
func (w *world) settle(e *end) {
	if s, dirty := e.pair.Unsaved(); dirty && !w.full {
		e.disk = s
		for _, k := range []Key{s.Current, s.Previous, s.Doubt} {
			if !k.isZero() {
				e.had[k.Secret.RevealHex()] = true
			}
		}
		e.pair.Keep()
	}
	changed := e.pair.Choose(w.now, w.required)
	if changed {
		e.pair.Configured(w.now)
	}
	key := e.pair.Key()
	switch {
	case key.IsZero():
		if changed && w.required {
			w.t.Fatalf("%s goes without a key where one is required", e.name)
		}
	case !e.had[key.RevealHex()]:
		w.t.Fatalf("%s uses a key that is not on its disk", e.name)
	case !w.other(e).had[key.RevealHex()] && e == w.maker:
		w.t.Fatal("the maker uses a key that the taker has not confirmed")
	}
	if (e.pair.Standing().Epoch == 0) != key.IsZero() {
		w.t.Fatalf("%s says epoch %d", e.name, e.pair.Standing().Epoch)
	}
}

// shake makes a handshake if e has a reason for one, as WireGuard does.
func (w *world) shake(e *end) {
	o := w.other(e)
	age := w.now.Sub(e.session)
	due := e.session.IsZero() || age >= 180*time.Second || e.first && age >= 120*time.Second
	// Data that is not answered brings a handshake 15 s later, WireGuard paper §6.1.
	due = due || o.session.IsZero() && w.now.Sub(o.booted) >= 15*time.Second
	if !e.traffic || !due || w.now.Before(e.nextInit) {
		return
	}
	e.nextInit = w.now.Add(5 * time.Second)
	e.seen.Tx += 148
	if !w.path {
		return
	}
	o.seen.Rx += 148
	o.seen.Tx += 92
	a, b := e.pair.Key(), o.pair.Key()
	if !a.Equal(b) || w.required && a.IsZero() {
		return
	}
	e.session, o.session, e.seen.Handshake, o.seen.Handshake = w.now, w.now, w.now, w.now
	e.first, o.first = true, false
	w.shook = append(w.shook, w.now)
}

// pass notes whether data could be sent.
func (w *world) pass() {
	live := func(e *end) bool { return !e.session.IsZero() && w.now.Sub(e.session) < 180*time.Second }
	if w.path && live(w.maker) && live(w.taker) {
		w.lastPass = w.now
		for _, e := range []*end{w.maker, w.taker} {
			if e.traffic {
				e.seen.Tx += 1000
				w.other(e).seen.Rx += 1000
			}
		}
	}
	w.gap = max(w.gap, w.now.Sub(w.lastPass))
}

// age makes all keys a day older.
func (w *world) age() {
	for _, e := range []*end{w.maker, w.taker} {
		e.pair.saved.Current.Made = e.pair.saved.Current.Made.Add(-RenewAfter)
		e.disk.Current.Made = e.disk.Current.Made.Add(-RenewAfter)
	}
}

// agreed reports whether both ends use the same key, which is the newest of both.
func (w *world) agreed() bool {
	a, b := w.maker.pair, w.taker.pair
	sa, da := a.Unsaved()
	sb, db := b.Unsaved()
	return !da && !db && !sa.Current.isZero() && sa.Current.Epoch == sb.Current.Epoch && sa.Current.Secret.Equal(sb.Current.Secret) && sb.Doubt.isZero() &&
		a.Key().Equal(sa.Current.Secret) && b.Key().Equal(sa.Current.Secret)
}

func (w *world) epoch() uint64 { return w.maker.disk.Current.Epoch }
