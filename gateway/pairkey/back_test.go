package pairkey

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// One end begins again with a copy of its files that is older than the other's two keys, or without any, and both reach the coordinator: they
// agree anew by mail, and nobody waits for the search.
func TestOldFilesWithCoordinator(t *testing.T) {
	for _, maker := range []bool{true, false} {
		for _, fromMaker := range []bool{true, false} {
			for renewals, copied := range []bool{false, true, true, true} { // 0 is a box without files
				w := ready(t, true, fromMaker)
				w.run(time.Minute)
				e := w.taker
				if maker {
					e = w.maker
				}
				old := Saved{}
				if copied {
					old = e.disk
				}
				for range renewals {
					w.age()
					w.run(4 * time.Minute)
				}
				if w.gap > 0 || !w.agreed() || w.epoch() != uint64(renewals)+1 {
					t.Fatalf("epoch %d, packets stopped for %v", w.epoch(), w.gap)
				}
				old.Current.Made = w.now // else it is renewed for its age
				e.disk = old
				w.boot(e)
				shook := len(w.shook)
				took := w.until(2*time.Minute, func() bool { return len(w.shook) > shook })
				limit := 25 * time.Second
				if !e.traffic {
					limit += 15 * time.Second // until the other end notices
				}
				if took < 0 || took > limit {
					t.Errorf("maker %v, traffic from the maker %v, %d renewals behind: a handshake after %v", maker, fromMaker, renewals, took)
				}
				if took := w.until(time.Minute, w.agreed); took < 0 {
					t.Errorf("maker %v, traffic from the maker %v, %d renewals behind: no agreement", maker, fromMaker, renewals)
				}
			}
		}
	}
}

// A way that is broken makes the ends ask for another key now and then, not all the time.
func TestBrokenWayAsksSeldom(t *testing.T) {
	for _, fromMaker := range []bool{true, false} {
		w := ready(t, true, fromMaker)
		epoch := w.epoch()
		w.path = false
		w.run(time.Hour)
		if n := w.epoch() - epoch; n < 1 || n > 12 {
			t.Errorf("traffic from the maker %v: %d keys in an hour", fromMaker, n)
		}
		w.path = true
		if took := w.until(time.Minute, func() bool { return w.agreed() && w.maker.pair.Standing().Proven }); took < 0 || took > 15*time.Second {
			t.Errorf("traffic from the maker %v: a handshake after %v", fromMaker, took)
		}
	}
}

// A way that was broken for any time is back: the tunnel is too, within seconds. If the ends met on an older key, they agree anew.
func TestTheWayIsBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		required, fromMaker := rapid.Bool().Draw(rt, "required"), rapid.Bool().Draw(rt, "traffic from the maker")
		w := ready(t, required, fromMaker)
		w.age()
		w.run(4 * time.Minute)
		w.path, w.mail = false, rapid.Bool().Draw(rt, "the coordinator is reached")
		w.run(time.Duration(rapid.IntRange(200, 1200).Draw(rt, "seconds")) * time.Second)
		w.path = true
		epoch, shook := w.epoch(), len(w.shook)
		if took := w.until(5*time.Minute, func() bool { return len(w.shook) > shook }); took < 0 || took > makerDwell+10*time.Second {
			rt.Errorf("a handshake after %v", took)
		}
		w.mail = true
		if took := w.until(time.Minute, func() bool { return w.agreed() && w.epoch() >= epoch }); took < 0 {
			rt.Error("no agreement")
		}
	})
}

// A short break, and one in which nothing is heard, leaves the best key where it is; a long one does most of the time.
func TestShortBreaksChangeNoKey(t *testing.T) {
	for _, fromMaker := range []bool{true, false} {
		w := ready(t, false, fromMaker)
		w.path, w.mail = false, false
		for range int((dead + silentAfter) / time.Second) {
			w.step()
			if w.maker.pair.Key().IsZero() || w.taker.pair.Key().IsZero() {
				t.Fatalf("traffic from the maker %v: a key is given up", fromMaker)
			}
		}
		// After that it is back at the best one most of the time.
		best, away := w.epoch(), 0
		for range 3600 {
			w.step()
			for _, e := range []*end{w.maker, w.taker} {
				if e.pair.Standing().Epoch != best {
					away++
				}
			}
		}
		if away == 0 || away > 3600/3 {
			t.Errorf("traffic from the maker %v: in an hour other keys were in use for %d s", fromMaker, away)
		}
	}
}
