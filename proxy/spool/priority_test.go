package spool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// putPriority stores an item.
func putPriority(t *testing.T, s *spool.Spool, queue string, priority int) spool.ID {
	t.Helper()
	w, err := s.Create(spool.Meta{Queue: queue, Priority: priority})
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

// drain takes n items in the order in which they come.
func drain(t *testing.T, s *spool.Spool, queue string, n int) (ids []spool.ID) {
	t.Helper()
	for range n {
		l, err := s.Next(t.Context(), queue)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, l.Item().ID)
		if err := l.Done(spool.Receipt{}); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// What an operator makes urgent goes first, in the order in which it came, in either kind of queue and after a restart.
func TestPriorityOfAnOperator(t *testing.T) {
	for _, name := range []string{"loose", "ordered"} {
		dir := t.TempDir()
		opts := spool.Options{MinFreeBytes: -1, Ordered: func(q string) bool { return q == "ordered" }}
		s := open(t, dir, opts)
		var ids []spool.ID
		for range 6 {
			ids = append(ids, putPriority(t, s, name, 0))
		}
		if err := s.Hold(ids[5], "held"); err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{4, 2, 5} {
			if err := s.SetPriority(ids[i], spool.Urgent); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.SetPriority(ids[3], spool.Urgent); err != nil {
			t.Fatal(err)
		}
		if err := s.SetPriority(ids[3], 0); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st[0].Urgent != 2 || st[0].Queued != 5 {
			t.Errorf("%s: %+v", name, st[0])
		}
		for _, p := range []int{-1, spool.MaxPriority + 1} {
			if err := s.SetPriority(ids[0], p); err == nil {
				t.Errorf("%s: priority %d is taken", name, p)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, opts)
		if err := s.Unpark(ids[5]); err != nil {
			t.Fatal(err)
		}
		if it, err := s.Get(ids[2]); err != nil || it.Meta.Priority != spool.Urgent {
			t.Errorf("%s: after a restart %+v, %v", name, it.Meta, err)
		}
		want := []spool.ID{ids[2], ids[4], ids[5], ids[0], ids[1], ids[3]}
		if got := drain(t, s, name, 6); !slices.Equal(got, want) {
			t.Errorf("%s: they came as %v, not %v", name, got, want)
		}
		if err := s.SetPriority(ids[0], 1); !errors.Is(err, spool.ErrUnknown) {
			t.Errorf("%s: priority of what is gone: %v", name, err)
		}
		left, err := filepath.Glob(filepath.Join(dir, "items", "*"))
		if err != nil || len(left) != 0 {
			t.Errorf("%s: left behind: %v, %v", name, left, err)
		}
	}
}

// A lease tells of a priority that was given since, and a priority whose file is damaged or belongs to nobody does no harm.
func TestPriorityBesideALease(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{MinFreeBytes: -1})
	a, b := putPriority(t, s, "q", 3), putPriority(t, s, "q", 3)
	l, err := s.Next(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []spool.ID{a, b} {
		if err := s.SetPriority(id, 7); err != nil {
			t.Fatal(err)
		}
	}
	if l.Item().Meta.Priority != 7 {
		t.Errorf("the lease says %d", l.Item().Meta.Priority)
	}
	if err := l.Retry(spool.ErrCalledOff); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	items := filepath.Join(dir, "items")
	if err := os.WriteFile(filepath.Join(items, string(a)+".priority"), []byte("77\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(items, "00000000000000ff.priority")
	if err := os.WriteFile(stray, []byte("7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, spool.Options{MinFreeBytes: -1})
	for id, want := range map[spool.ID]int{a: 3, b: 7} {
		if it, err := s.Get(id); err != nil || it.Meta.Priority != want {
			t.Errorf("%s has %d, %v; want %d", id, it.Meta.Priority, err, want)
		}
	}
	if _, err := os.Stat(stray); !os.IsNotExist(err) {
		t.Errorf("a priority of no item is left: %v", err)
	}
}

// However many urgent items come, a routine one has its turn after sixteen, and each class keeps its order.
func TestRoutineHasItsTurn(t *testing.T) {
	for _, name := range []string{"loose", "ordered"} {
		s := open(t, t.TempDir(), spool.Options{MinFreeBytes: -1, Ordered: func(q string) bool { return q == "ordered" }})
		var routine, urgent []spool.ID
		for range 4 {
			routine = append(routine, putPriority(t, s, name, 0))
		}
		for range 60 {
			urgent = append(urgent, putPriority(t, s, name, spool.Urgent))
		}
		order := drain(t, s, name, 64)
		var gotRoutine, gotUrgent []spool.ID
		for i, id := range order {
			if slices.Contains(routine, id) {
				gotRoutine = append(gotRoutine, id)
				if want := 17*len(gotRoutine) - 1; len(gotRoutine) < 4 && i != want {
					t.Errorf("%s: routine item %d came as number %d, not %d", name, len(gotRoutine), i, want)
				}
			} else {
				gotUrgent = append(gotUrgent, id)
			}
		}
		if !slices.Equal(gotRoutine, routine) || !slices.Equal(gotUrgent, urgent) {
			t.Errorf("%s: out of order: %v and %v", name, gotRoutine, gotUrgent)
		}
	}
}

// In an ordered queue a routine item whose turn it is and that waits for another attempt, or may not pass a parked one, does not hold up the
// urgent ones, and goes when it can.
func TestTurnOfWhatCannotGo(t *testing.T) {
	const name = "ordered"
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), spool.Options{MinFreeBytes: -1, Ordered: func(string) bool { return true }})
		first, second := putPriority(t, s, name, 0), putPriority(t, s, name, 0)
		l, err := s.Next(t.Context(), name)
		if err != nil || l.Item().ID != first {
			t.Fatalf("%v, %v", l, err)
		}
		if err := l.Retry(errors.New("busy")); err != nil {
			t.Fatal(err)
		}
		for range 40 {
			putPriority(t, s, name, spool.Urgent)
		}
		if got := drain(t, s, name, 20); slices.Contains(got, first) || slices.Contains(got, second) {
			t.Errorf("a routine item came before its time: %v", got)
		}
		time.Sleep(time.Hour)
		if got := drain(t, s, name, 1); got[0] != first {
			t.Errorf("its turn has come, and %s went", got[0])
		}

		s = open(t, t.TempDir(), spool.Options{MinFreeBytes: -1, Ordered: func(string) bool { return true }})
		if err := s.Halt(name, true); err != nil {
			t.Fatal(err)
		}
		var urgent []spool.ID
		for range 20 {
			urgent = append(urgent, putPriority(t, s, name, spool.Urgent))
		}
		if err := s.Hold(putPriority(t, s, name, 0), "held"); err != nil {
			t.Fatal(err)
		}
		putPriority(t, s, name, 0)
		if got := drain(t, s, name, 20); !slices.Equal(got, urgent) {
			t.Errorf("before what is parked came %v, not %v", got, urgent)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if l, err := s.Next(ctx, name); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("behind what is parked came %v, %v", l, err)
		}
	})
}
