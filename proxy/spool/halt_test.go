package spool_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// TestHalt refuses the first of three items, once with a queue that goes on and once with one that keeps the order, also after a restart.
func TestHalt(t *testing.T) {
	for _, halt := range []bool{false, true} {
		dir := t.TempDir()
		opts := spool.Options{MinFreeBytes: -1, Ordered: func(string) bool { return true }}
		s := open(t, dir, opts)
		if err := s.Halt("q", halt); err != nil {
			t.Fatal(err)
		}
		var ids []spool.ID
		for range 3 {
			w, err := s.Create(spool.Meta{Queue: "q"})
			if err != nil {
				t.Fatal(err)
			}
			it, err := w.Commit()
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, it.ID)
		}
		if err := next(t, s, "q").Park(errors.New("refused")); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats()[0]; st.Halted != halt {
			t.Errorf("halt %v: %+v", halt, st)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, opts)
		if err := s.Halt("q", halt); err != nil {
			t.Fatal(err)
		}
		want := ids[1:]
		if halt {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if l, err := s.Next(ctx, "q"); err == nil {
				t.Fatalf("%s passed one that was refused", l.Item().ID)
			}
			cancel()
			if err := s.Unpark(ids[0]); err != nil {
				t.Fatal(err)
			}
			want = ids
		}
		for _, id := range want {
			l := next(t, s, "q")
			if l.Item().ID != id {
				t.Fatalf("halt %v: %s, want %s", halt, l.Item().ID, id)
			}
			if err := l.Done(spool.Receipt{}); err != nil {
				t.Fatal(err)
			}
		}
		wantOvertook := uint64(2)
		if halt {
			wantOvertook = 0
		}
		if st := s.Stats()[0]; st.Overtook != wantOvertook || st.Delivered != uint64(len(want)) || st.Halted {
			t.Errorf("halt %v: %+v", halt, st)
		}
	}
}

// TestHaltEndsWhenTheRefusedIsDropped has a consumer wait behind a refused item.
func TestHaltEndsWhenTheRefusedIsDropped(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{MinFreeBytes: -1, Ordered: func(string) bool { return true }})
	if err := s.Halt("q", true); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w, err := s.Create(spool.Meta{Queue: "q"})
		if err == nil {
			_, err = w.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := next(t, s, "q")
	if err := refused.Park(errors.New("refused")); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := s.Next(t.Context(), "q")
		got <- err
	}()
	if err := s.Drop(refused.Item().ID); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-got:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the queue still stands")
	}
	if err := s.Halt("UPPER", true); err == nil {
		t.Error("a wrong name was taken")
	}
}
