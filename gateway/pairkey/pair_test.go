package pairkey

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// ready is a world whose pair has agreed, with traffic from the taker's or the maker's side.
func ready(t testing.TB, required, fromMaker bool) *world {
	t.Helper()
	w := newWorld(t, required)
	w.maker.traffic, w.taker.traffic = fromMaker, !fromMaker
	proven := func() bool {
		return w.agreed() && w.maker.pair.Standing().Proven && w.taker.pair.Standing().Proven
	}
	if w.until(4*time.Minute, proven) < 0 {
		t.Fatal("a healthy pair does not agree")
	}
	w.gap, w.lastPass = 0, w.now
	return w
}

func TestAgreesSoonAndRenews(t *testing.T) {
	for _, required := range []bool{false, true} {
		w := newWorld(t, required)
		if took := w.until(time.Minute, w.agreed); took < 0 || took > 15*time.Second {
			t.Errorf("required %v: agreed after %v", required, took)
		}
		w = ready(t, required, false)
		first, epoch := w.maker.pair.Key(), w.epoch()
		w.age()
		w.run(4 * time.Minute)
		if w.epoch() != epoch+1 || !w.agreed() || w.maker.pair.Key().Equal(first) {
			t.Errorf("required %v: after a day the epoch is %d", required, w.epoch())
		}
		if w.gap > 0 {
			t.Errorf("required %v: the renewal stopped packets for %v", required, w.gap)
		}
	}
}

// What one end does not hear does not stop a session, and an idle pair is back after one more try.
func TestLostMessagesStopNothing(t *testing.T) {
	for _, lost := range []kind{kindOffer, kindKey, kindAck, kindCommit} {
		for _, fromMaker := range []bool{false, true} {
			w := ready(t, true, fromMaker)
			gone := 0
			w.lose = func(_ *end, body []byte) bool {
				var m message
				if json.Unmarshal(body, &m) != nil {
					t.Fatal("not a message")
				}
				if m.Kind == lost { // and from then on nothing comes any more
					gone++
				}
				return gone > 0
			}
			w.age()
			w.run(20 * time.Minute)
			if gone == 0 {
				t.Fatalf("%s: nothing was lost", lost)
			}
			if w.gap > 0 {
				t.Errorf("%s lost, traffic from the maker %v: packets stopped for %v", lost, fromMaker, w.gap)
			}
			w.lose = nil
			if took := w.until(2*time.Hour, w.agreed); took < 0 {
				t.Errorf("%s lost: no agreement later", lost)
			}
		}
	}
}

// The window in which the maker has changed and the taker does not know, met by a pair without a session.
func TestLostCommitWhileIdle(t *testing.T) {
	for _, fromMaker := range []bool{false, true} {
		w := ready(t, true, fromMaker)
		w.maker.traffic, w.taker.traffic = false, false
		w.lose = func(from *end, body []byte) bool {
			var m message
			return json.Unmarshal(body, &m) == nil && m.Kind == kindCommit
		}
		epoch := w.epoch()
		w.age()
		w.run(4 * time.Minute) // the session ends
		if w.until(time.Minute, func() bool { return w.epoch() > epoch }) < 0 {
			t.Fatal("no renewal")
		}
		if w.agreed() {
			t.Fatal("the taker knows")
		}
		w.maker.traffic, w.taker.traffic = fromMaker, !fromMaker
		shook := len(w.shook)
		if took := w.until(time.Minute, func() bool { return len(w.shook) > shook }); took < 0 || took > 7*time.Second {
			t.Errorf("traffic from the maker %v: a handshake after %v", fromMaker, took)
		}
		if took := w.until(5*time.Second, w.agreed); took < 0 {
			t.Error("the handshake does not settle the doubt")
		}
	}
}

// One end loses its files while nobody reaches the coordinator.
func TestLostFilesWithoutCoordinator(t *testing.T) {
	for _, x := range []struct {
		name             string
		maker, fromMaker bool
	}{{"maker lost, it calls", true, true}, {"maker lost, taker calls", true, false}, {"taker lost, it calls", false, false}, {"taker lost, maker calls", false, true}} {
		for _, required := range []bool{false, true} {
			w := ready(t, required, x.fromMaker)
			e := w.taker
			if x.maker {
				e = w.maker
			}
			w.mail, e.disk = false, Saved{}
			w.boot(e)
			shook := len(w.shook)
			took := w.until(12*time.Minute, func() bool { return len(w.shook) > shook })
			switch {
			case required && took >= 0:
				t.Errorf("%s: there was a handshake without a key after %v", x.name, took)
			case !required && (took < 0 || took > 9*time.Minute):
				t.Errorf("%s: no handshake for %v", x.name, took)
			}
			t.Logf("%s, required %v: tunnel back after %v", x.name, required, took)
			w.mail = true
			if took := w.until(3*time.Minute, w.agreed); took < 0 {
				t.Errorf("%s, required %v: no agreement when the coordinator is back", x.name, required)
			}
			if !required {
				continue
			}
			if took := w.until(30*time.Second, func() bool { return len(w.shook) > shook }); took < 0 {
				t.Errorf("%s: no handshake under the new key", x.name)
			}
		}
	}
}

// A way that is broken for long is no reason to go without a key.
func TestBrokenWayDoesNotWeaken(t *testing.T) {
	w := ready(t, false, false)
	w.path, w.mail = false, false
	w.run(time.Hour)
	w.path = true
	shook := len(w.shook)
	took := w.until(time.Minute, func() bool { return len(w.shook) > shook })
	if took < 0 || took > 25*time.Second {
		t.Errorf("a handshake after %v", took)
	}
	if w.maker.pair.Key().IsZero() || w.taker.pair.Key().IsZero() || w.maker.pair.Standing().Fallen {
		t.Error("the pair fell back")
	}
}

// Nothing is posted and no other key is used before the disk has it.
func TestFullDisk(t *testing.T) {
	w := ready(t, true, false)
	epoch := w.epoch()
	w.full = true
	w.age()
	w.run(10 * time.Minute)
	if w.epoch() != epoch || w.gap > 0 {
		t.Errorf("epoch %d, packets stopped for %v", w.epoch(), w.gap)
	}
	w.full = false
	if w.until(time.Minute, func() bool { return w.agreed() && w.epoch() > epoch }) < 0 {
		t.Error("no agreement with room on the disk")
	}
}

// The coordinator, or who has its database, makes no message that counts, and no box but the pair does.
func TestForgedMessages(t *testing.T) {
	w := newWorld(t, false)
	stranger := newWorld(t, false)
	stranger.run(20 * time.Second)
	for _, b := range stranger.maker.inbox {
		w.maker.pair.Handle(w.now, w.maker.link, b)
	}
	if w.maker.pair.pending != nil {
		t.Error("an offer of another box counts")
	}
	w.taker.pair.ask(w.now)
	b, _ := w.taker.pair.Due(w.now, w.taker.link)
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*message){
		"epoch": func(m *message) { m.Epoch++ }, "base": func(m *message) { m.Base++ }, "data": func(m *message) { m.Data[7] ^= 1 }, "id": func(m *message) { m.ID[0] ^= 1 },
		"mac": func(m *message) { m.MAC[0] ^= 1 }, "version": func(m *message) { m.Version++ }, "kind": func(m *message) { m.Kind = kindKey },
	} {
		var x message
		if err := json.Unmarshal(b, &x); err != nil {
			t.Fatal(err)
		}
		change(&x)
		forged, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		w.maker.pair.Handle(w.now, w.maker.link, forged)
		if w.maker.pair.pending != nil {
			t.Errorf("an offer with another %s counts", name)
		}
	}
	w.maker.pair.Handle(w.now, w.maker.link, b)
	if w.maker.pair.pending == nil {
		t.Error("the true offer does not count")
	}
}

// Any order of faults, and then peace: both ends reach the same key. What must never be is checked by world.settle at each step.
func TestAnyFaultsThenAgreement(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rapid.Bool().Draw(rt, "required"))
		pick := func(what string) *end {
			if rapid.Bool().Draw(rt, what+" is the maker") {
				return w.maker
			}
			return w.taker
		}
		losses := false
		for range rapid.IntRange(1, 25).Draw(rt, "faults") {
			switch rapid.IntRange(0, 10).Draw(rt, "fault") {
			case 0:
				w.mail = !w.mail
			case 1:
				w.path = !w.path
			case 2:
				w.boot(pick("restarted"))
			case 3:
				e := pick("lost files")
				e.disk, losses = Saved{}, true
				w.boot(e)
			case 4, 5: // an old message, or one twice
				e := pick("misled")
				if n := len(e.inbox); n > 0 {
					e.pair.Handle(w.now, e.link, e.inbox[rapid.IntRange(0, n-1).Draw(rt, "old message")])
					w.settle(e)
				}
			case 6:
				w.lose = func(*end, []byte) bool { return rapid.Bool().Draw(rt, "lost message") }
			case 7:
				w.lose = nil
			case 8:
				e := pick("talkative")
				e.traffic = !e.traffic
			case 9:
				w.full = !w.full
			case 10:
				w.age()
			}
			w.run(time.Duration(rapid.IntRange(0, 200).Draw(rt, "seconds")) * time.Second)
		}
		w.mail, w.path, w.full, w.lose, w.taker.traffic = true, true, false, nil, true
		if w.until(3*time.Hour, w.agreed) < 0 {
			rt.Fatalf("no agreement, files lost %v: maker %+v with %+v, taker %+v with %+v", losses, w.maker.pair.Standing(), w.maker.pair.out, w.taker.pair.Standing(), w.taker.pair.out)
		}
		shook := len(w.shook)
		if w.until(10*time.Minute, func() bool { return len(w.shook) > shook && w.agreed() }) < 0 {
			rt.Fatal("no handshake under the agreed key")
		}
	})
}

func FuzzParse(f *testing.F) {
	w := newWorld(f, false)
	w.run(30 * time.Second)
	for _, e := range []*end{w.maker, w.taker} {
		for _, b := range e.inbox {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		if len(b) > MaxMessage || m.Epoch > maxEpoch || len(m.MAC) == 0 {
			t.Errorf("%+v is taken", m)
		}
		for _, e := range []*end{w.maker, w.taker} {
			before, _ := e.pair.Unsaved()
			e.pair.Handle(w.now, e.link, b)
			if after, _ := e.pair.Unsaved(); after.Current.Epoch != before.Current.Epoch {
				t.Error("a made-up message changes the key")
			}
		}
	})
}

// inDoubt is a world whose taker has acknowledged a key that the maker uses, and has not heard of that. Nothing is sent through the tunnel.
func inDoubt(t *testing.T) *world {
	t.Helper()
	w := ready(t, true, false)
	w.taker.traffic = false
	w.lose = func(_ *end, body []byte) bool {
		m, err := parse(body)
		return err == nil && m.Kind == kindCommit
	}
	epoch := w.epoch()
	w.age()
	if w.until(time.Minute, func() bool { return w.epoch() > epoch }) < 0 || w.taker.disk.Doubt.Epoch != epoch+1 {
		t.Fatal("no doubt")
	}
	return w
}

func TestForgedCommit(t *testing.T) {
	w := inDoubt(t)
	for _, mac := range [][]byte{make([]byte, 32), w.taker.inbox[0][:32]} {
		forged, err := json.Marshal(message{Version: version, Kind: kindCommit, Epoch: w.taker.disk.Doubt.Epoch, MAC: mac})
		if err != nil {
			t.Fatal(err)
		}
		w.taker.pair.Handle(w.now, w.taker.link, forged)
		if s, unsaved := w.taker.pair.Unsaved(); unsaved || s.Doubt.isZero() {
			t.Error("a made-up commit counts")
		}
	}
}

// The next key says which one the maker uses, so no handshake is needed to settle a doubt.
func TestTheNextKeySettlesADoubt(t *testing.T) {
	w := inDoubt(t)
	doubt := w.taker.disk.Doubt
	if w.until(4*time.Minute, func() bool { return w.taker.disk.Doubt.Epoch > doubt.Epoch }) < 0 {
		t.Fatal("no other key is asked for")
	}
	if c := w.taker.disk.Current; c.Epoch != doubt.Epoch || !c.Secret.Equal(doubt.Secret) {
		t.Errorf("the taker uses epoch %d, the maker %d", c.Epoch, doubt.Epoch)
	}
}
