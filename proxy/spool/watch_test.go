package spool_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/towpath/towpath/proxy/spool"
)

// Every step of an item's way is told, with its attributes.
func TestOnChange(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{MinFreeBytes: -1})
	var mu sync.Mutex
	steps := map[spool.ID][]spool.Step{}
	s.OnChange(func(c spool.Change) {
		mu.Lock()
		defer mu.Unlock()
		if c.Item.Meta.Attributes["a"] != "1" || c.Item.Meta.Queue != "q" {
			t.Errorf("%s of %+v", c.Step, c.Item)
		}
		if (c.Receipt.Code != "") != (c.Step == spool.StepDelivered) {
			t.Errorf("%s with code %q", c.Step, c.Receipt.Code)
		}
		steps[c.Item.ID] = append(steps[c.Item.ID], c.Step)
	})
	put := func() spool.ID {
		w, err := s.Create(spool.Meta{Queue: "q", Attributes: map[string]string{"a": "1"}})
		if err != nil {
			t.Fatal(err)
		}
		it, err := w.Commit()
		if err != nil {
			t.Fatal(err)
		}
		return it.ID
	}
	next := func() spool.Lease {
		l, err := s.Next(t.Context(), "q")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	code := spool.Receipt{Code: "0000"}
	a := put()
	ok(next().Park(errors.New("refused")))
	ok(s.Unpark(a))
	ok(next().Done(code))
	b := put()
	ok(next().Carried(spool.Receipt{}))
	ok(s.Resolve(b, spool.Requeue()))
	ok(next().Carried(spool.Receipt{}))
	ok(s.Resolve(b, spool.Park(errors.New("refused there"))))
	ok(s.Arrived(b, code))
	c := put()
	ok(s.Hold(c, "held"))
	ok(s.Drop(c))
	const taken, carried, delivered, parked, queued, dropped = spool.StepTaken, spool.StepCarried, spool.StepDelivered, spool.StepParked, spool.StepQueued, spool.StepDropped
	for id, want := range map[spool.ID][]spool.Step{
		a: {taken, parked, queued, delivered}, b: {taken, carried, queued, carried, parked, delivered}, c: {taken, parked, dropped},
	} {
		if !slices.Equal(steps[id], want) {
			t.Errorf("item %s: %v, not %v", id, steps[id], want)
		}
	}
}
