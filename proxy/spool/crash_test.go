package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/spool/seal"
)

// fate is what a crashed run promised of one item.
type fate int

const (
	unknown   fate = iota // a call was under way: whole or not at all
	committed             // must be there
	parked                // must be there, and parked
	carried               // must be there, and carried
	gone                  // must not be there
)

type history struct {
	payloads map[ID][]byte
	fates    map[ID]fate
	reserved []ID // in the order of Create
	opts     Options
	key      seal.PrivateKey // zero for none
}

func newHistory(t *testing.T, seed int) *history {
	t.Helper()
	h := &history{payloads: map[ID][]byte{}, fates: map[ID]fate{}}
	// Files of their own for all, for none, and for the larger ones; segments of few items.
	h.opts = Options{Backoff: Backoff{Min: 1, Max: 1}, MaxShared: []int{-1, 0, 2000}[seed/2%3], segmentSize: 4000}
	if seed%2 == 0 {
		var err error
		if h.key, err = seal.NewPrivateKey(); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *history) unlock(s *Spool) {
	if !h.key.IsZero() {
		s.SealTo(h.key.Public())
		s.Unlock(h.key)
	}
}

// play does random things until the power is cut, and notes what was promised.
func (h *history) play(v volume, r *rand.Rand, steps int) error {
	s, err := open(v, h.opts)
	if err != nil {
		return err
	}
	h.unlock(s)
	for range steps {
		if r.IntN(4) == 0 {
			time.Sleep(epochAge) // the next item has another data key
		}
		switch r.IntN(7) {
		case 0, 1, 2:
			err = h.put(s, r)
		case 3:
			err = h.resolve(s, r)
		default:
			err = h.deliver(s, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *history) put(s *Spool, r *rand.Rand) error {
	payload := make([]byte, r.IntN(3000))
	for i := range payload {
		payload[i] = byte(r.Uint32())
	}
	w, err := s.Create(Meta{Queue: "q", Attributes: map[string]string{"length": fmt.Sprint(len(payload))}})
	if err != nil {
		return err
	}
	id := w.(*writer).id
	h.payloads[id], h.fates[id] = payload, unknown
	h.reserved = append(h.reserved, id)
	if _, err := w.Write(payload); err != nil {
		h.fates[id] = gone
		w.Abort()
		return err
	}
	if r.IntN(8) == 0 {
		w.Abort()
		h.fates[id] = gone
		return nil
	}
	if _, err := w.Commit(); err != nil {
		if !errors.Is(err, errPowerCut) {
			h.fates[id] = gone // as Commit promises; after a power cut nobody can
		}
		return err
	}
	h.fates[id] = committed
	return nil
}

func (h *history) deliver(s *Spool, r *rand.Rand) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	l, err := s.Next(ctx, "q")
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	if err != nil {
		return err
	}
	id := l.Item().ID
	switch r.IntN(5) {
	case 4:
		h.fates[id] = unknown
		if err := l.Carried(Receipt{}); err != nil {
			h.fates[id] = committed // carried or queued, but there
			return err
		}
		h.fates[id] = carried
	case 0:
		return l.Retry(errors.New("not now"))
	case 1:
		h.fates[id] = unknown
		if err := l.Park(errors.New("no")); err != nil {
			h.fates[id] = committed // parked or queued, but there
			return err
		}
		h.fates[id] = parked
	default:
		h.fates[id] = unknown
		if err := l.Done(Receipt{}); err != nil {
			return err
		}
		h.fates[id] = gone
	}
	return nil
}

// resolve hears what became of the oldest item that was carried.
func (h *history) resolve(s *Spool, r *rand.Rand) error {
	list, err := s.Carried("q")
	if err != nil || len(list) == 0 {
		return err
	}
	id := list[0].ID
	outcome, promised := Done(Receipt{}), gone
	switch r.IntN(3) {
	case 0:
		outcome, promised = Park(errors.New("no")), parked
	case 1:
		outcome, promised = Requeue(), committed
	}
	h.fates[id] = unknown
	if promised != gone {
		h.fates[id] = committed // in whatever state, but there
	}
	if err := s.Resolve(id, outcome); err != nil {
		return err
	}
	h.fates[id] = promised
	return nil
}

// check compares what is there after the crash with what was promised.
func (h *history) check(s *Spool) error {
	items, err := s.List("q", 1<<20)
	if err != nil {
		return err
	}
	found := map[ID]State{}
	for _, it := range items {
		found[it.ID] = it.State
		payload, known := h.payloads[it.ID]
		if !known {
			return fmt.Errorf("item %s was never created", it.ID)
		}
		if it.Meta.Attributes["length"] != fmt.Sprint(len(payload)) {
			return fmt.Errorf("item %s has attributes %v", it.ID, it.Meta.Attributes)
		}
		got, err := s.readAll(it.ID)
		if err != nil || !bytes.Equal(got, payload) {
			return fmt.Errorf("item %s: %d bytes, want %d: %w", it.ID, len(got), len(payload), err)
		}
	}
	for id, f := range h.fates {
		state, there := found[id]
		switch {
		case f == committed && !there, f == parked && state != StateParked, f == carried && state != StateCarried:
			return fmt.Errorf("item %s is lost or in state %q although fate %d was promised", id, state, f)
		case f == gone && there:
			return fmt.Errorf("item %s is back", id)
		}
	}
	if s.quarantined != 0 {
		return fmt.Errorf("%d items were damaged by the crash", s.quarantined)
	}
	return nil
}

// readAll reads an item out of turn.
func (s *Spool) readAll(id ID) ([]byte, error) {
	e, err := s.borrow(id, func(*entry) bool { return true })
	if err != nil {
		return nil, err
	}
	defer s.ops.Done()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.releaseLocked()
		switch e.state {
		case StateQueued:
			e.queue.add(e)
		case StateParked:
			e.queue.park(e)
		case StateCarried:
		}
	}()
	d, err := s.describe(e)
	if err != nil {
		return nil, err
	}
	p, err := (&lease{spool: s, entry: e, item: e.item(d)}).Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Close() }()
	return io.ReadAll(p)
}

// TestPowerCuts cuts the power at every operation of many random runs, several times in a row on the same volume.
func TestPowerCuts(t *testing.T) { synctest.Test(t, powerCuts) }

func powerCuts(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		for cutAt := 1; ; cutAt += 1 + seed%7 {
			r := rand.New(rand.NewPCG(uint64(seed), uint64(cutAt)))
			h := newHistory(t, seed)
			v := newMemVolume()
			finished := false
			for life := range 3 {
				v.cutAt = cutAt
				err := h.play(v, r, 12)
				if err != nil && !errors.Is(err, errPowerCut) {
					t.Fatalf("seed %d, cut at %d, life %d: %v", seed, cutAt, life, err)
				}
				finished = err == nil
				v = v.crash(r)
				s, err := open(v, h.opts)
				if err != nil {
					t.Fatalf("seed %d, cut at %d, life %d: open after the crash: %v", seed, cutAt, life, err)
				}
				h.unlock(s)
				if err := h.check(s); err != nil {
					t.Fatalf("seed %d, cut at %d, life %d: %v\n%s", seed, cutAt, life, err, strings.Join(v.ops, "\n"))
				}
				_ = s.Close()
				v = v.crash(r) // what recovery has done and not synced may be undone, too
				v.ops = nil
			}
			if !slices.IsSorted(h.reserved) {
				t.Fatalf("seed %d, cut at %d: IDs went back: %v", seed, cutAt, h.reserved)
			}
			if finished {
				break
			}
		}
	}
}

// TestOneFailure lets each operation of a random run fail once, as a disk with a bad sector does, and goes on without a crash. Whatever
// fails, what was promised holds, before and after a restart.
func TestOneFailure(t *testing.T) { synctest.Test(t, oneFailure) }

func oneFailure(t *testing.T) {
	broken := errors.New("input/output error")
	for seed := range 30 {
		for failAt := 1; ; failAt++ {
			r := rand.New(rand.NewPCG(uint64(seed), uint64(failAt)))
			h := newHistory(t, seed)
			v := newMemVolume()
			failed := false
			v.fail = func(string) error {
				if len(v.ops) == failAt {
					failed = true
					return broken
				}
				return nil
			}
			err := h.play(v, r, 12)
			if err != nil && !errors.Is(err, broken) {
				t.Fatalf("seed %d, failure at %d (%s): %v", seed, failAt, v.ops[failAt-1], err)
			}
			v.fail = nil
			s, err := open(v, h.opts)
			if err != nil {
				t.Fatalf("seed %d, failure at %d: reopen: %v", seed, failAt, err)
			}
			h.unlock(s)
			if err := h.check(s); err != nil {
				t.Fatalf("seed %d, failure at %d (%s): %v", seed, failAt, v.ops[failAt-1], err)
			}
			if !failed {
				break
			}
		}
	}
}

// TestOrderOfSyncs pins what happens before Commit, Done and Park return.
func TestOrderOfSyncs(t *testing.T) {
	v := newMemVolume()
	s, err := open(v, Options{MaxShared: -1})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(v.ops, want) {
			t.Errorf("%s did\n  %s\nwant\n  %s", what, strings.Join(v.ops, "\n  "), strings.Join(want, "\n  "))
		}
		v.ops = nil
	}
	if want := []string{"sync items"}; !slices.Equal(v.ops[len(v.ops)-1:], want) {
		t.Errorf("open ended with %q; what a killed process has renamed must be synced before it is counted on", v.ops)
	}
	commit := func() ID {
		w, err := s.Create(Meta{Queue: "q"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("payload")); err != nil {
			t.Fatal(err)
		}
		it, err := w.Commit()
		if err != nil {
			t.Fatal(err)
		}
		return it.ID
	}
	next := func() Lease {
		l, err := s.Next(t.Context(), "q")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	v.ops = nil
	id := string(commit())
	file := "items/" + id
	expect("Commit", "create "+file+".tmp", "write "+file+".tmp", "fsync "+file+".tmp", "rename "+file+".tmp "+file+".item", "sync items")
	if err := next().Park(errors.New("no")); err != nil {
		t.Fatal(err)
	}
	expect("Park", "remove "+file+".note", "create "+file+".note", "write "+file+".note", "fsync "+file+".note",
		"rename "+file+".item "+file+".parked", "sync items")
	if err := s.Unpark(ID(id)); err != nil {
		t.Fatal(err)
	}
	expect("Unpark", "rename "+file+".parked "+file+".item", "sync items", "remove "+file+".note")
	if err := next().Retry(errors.New("busy")); err != nil {
		t.Fatal(err)
	}
	expect("Retry")
	if _, err := s.RetryParked("q"); err != nil {
		t.Fatal(err)
	}
	if err := next().Carried(Receipt{}); err != nil {
		t.Fatal(err)
	}
	expect("Carried", "rename "+file+".item "+file+".carried", "sync items")
	if err := s.Resolve(ID(id), Requeue()); err != nil {
		t.Fatal(err)
	}
	expect("Requeue", "rename "+file+".carried "+file+".item", "sync items")
	if err := next().Done(Receipt{}); err != nil {
		t.Fatal(err)
	}
	expect("Done", "remove "+file+".item", "sync items")
	id = string(commit())
	file = "items/" + id
	if err := next().Carried(Receipt{}); err != nil {
		t.Fatal(err)
	}
	v.ops = nil
	if err := s.Resolve(ID(id), Done(Receipt{})); err != nil {
		t.Fatal(err)
	}
	expect("resolving with Done", "remove "+file+".carried", "sync items")
}

// TestGroupSync lets many ask while one sync runs: they share the next one, and none is answered by a sync that began before it asked.
func TestGroupSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const askers = 50
		release := make(chan error)
		runs := 0
		g := groupSync{run: func() error { runs++; return <-release }}
		first, rest := make(chan error, 1), make(chan error, askers)
		go func() { first <- g.do() }()
		synctest.Wait()
		for range askers {
			go func() { rest <- g.do() }()
		}
		synctest.Wait()
		release <- nil
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(rest) != 0 {
			t.Fatalf("%d were answered by a sync that had begun before they asked", len(rest))
		}
		broken := errors.New("broken")
		release <- broken
		for range askers {
			if err := <-rest; !errors.Is(err, broken) {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if runs != 2 || g.running {
			t.Fatalf("%d syncs, running %v", runs, g.running)
		}
	})
}
