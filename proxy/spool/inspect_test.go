package spool_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

func putText(t *testing.T, s *spool.Spool, payload string) spool.Item {
	t.Helper()
	w, err := s.Create(spool.Meta{Queue: "q", Attributes: map[string]string{"k": payload}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, payload); err != nil {
		t.Fatal(err)
	}
	i, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestAnItemIsReadWithoutDisturbingItsDelivery(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{})
	want := putText(t, s, "hello")
	l := next(t, s, "q")
	got, err := s.Get(want.ID)
	if err != nil || got.Meta.Attributes["k"] != "hello" || got.Size != 5 || got.SHA256 != sha256.Sum256([]byte("hello")) {
		t.Errorf("got %+v (%v)", got, err)
	}
	p, err := s.Payload(want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Done(spool.Receipt{}); err != nil {
		t.Fatal(err)
	}
	// Who has opened it before it was delivered reads it to the end.
	if b, err := io.ReadAll(p); string(b) != "hello" || err != nil {
		t.Errorf("read %q (%v)", b, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(want.ID); !errors.Is(err, spool.ErrUnknown) {
		t.Errorf("what was delivered: %v", err)
	}
	if _, err := s.Payload(want.ID); !errors.Is(err, spool.ErrUnknown) {
		t.Errorf("the payload of what was delivered: %v", err)
	}
}

func TestHold(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	held, free := putText(t, s, "first"), putText(t, s, "second")
	if err := s.Hold(held.ID, "wait for the lawyer"); err != nil {
		t.Fatal(err)
	}
	l := next(t, s, "q")
	if l.Item().ID != free.ID {
		t.Errorf("%s was delivered before %s, which is not held", l.Item().ID, free.ID)
	}
	if err := s.Hold(free.ID, ""); !errors.Is(err, spool.ErrLeased) {
		t.Errorf("an item under way: %v", err)
	}
	if err := l.Done(spool.Receipt{}); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"held already": s.Hold(held.ID, ""), "gone": s.Hold(free.ID, ""), "unknown": s.Hold("x", "")} {
		if !errors.Is(err, spool.ErrUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, dir, spool.Options{})
	if st := s.Stats(); len(st) != 1 || st[0].Parked != 1 || st[0].Queued != 0 || st[0].ParkedError != "wait for the lawyer" {
		t.Fatalf("after a restart: %+v", st)
	}
	if i, err := s.Get(held.ID); err != nil || i.Attempts != 0 || i.State != spool.StateParked {
		t.Errorf("after a restart: %+v (%v)", i, err)
	}
	if err := s.RetryNow(held.ID); err != nil {
		t.Fatal(err)
	}
	if l := next(t, s, "q"); l.Item().ID != held.ID || l.Item().State != spool.StateQueued {
		t.Errorf("retried: %+v", l.Item())
	}
}

func TestRetryNowEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), spool.Options{Backoff: spool.Backoff{Min: time.Hour, Max: time.Hour}})
		i := putText(t, s, "x")
		l := next(t, s, "q")
		if err := s.RetryNow(i.ID); !errors.Is(err, spool.ErrLeased) {
			t.Errorf("an item under way: %v", err)
		}
		if err := l.Retry(errors.New("no line")); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := s.RetryNow(i.ID); err != nil {
			t.Fatal(err)
		}
		if l := next(t, s, "q"); l.Item().Attempts != 1 || time.Since(began) != 0 {
			t.Errorf("tried again after %s: %+v", time.Since(began), l.Item())
		}
		if err := s.RetryNow("x"); !errors.Is(err, spool.ErrUnknown) {
			t.Errorf("no such item: %v", err)
		}
	})
}
