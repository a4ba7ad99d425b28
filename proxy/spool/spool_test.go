package spool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

func open(t *testing.T, dir string, opts spool.Options) *spool.Spool {
	t.Helper()
	if opts.MinFreeBytes == 0 {
		opts.MinFreeBytes = -1
	}
	s, err := spool.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func next(t *testing.T, s spool.Queue, queue string) spool.Lease {
	t.Helper()
	l, err := s.Next(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	if _, err := spool.Open(dir, spool.Options{}); !errors.Is(err, spool.ErrLocked) {
		t.Fatalf("a second Open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, spool.Options{})
}

func TestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), spool.Options{})
		w, err := s.Create(spool.Meta{Queue: "q"})
		if err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error)
		go func() { _, err := s.Next(context.Background(), "q"); waiting <- err }()
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-waiting; !errors.Is(err, spool.ErrClosed) {
			t.Errorf("Next: %v", err)
		}
		if _, err := w.Commit(); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("Commit: %v", err)
		}
		if _, err := s.Create(spool.Meta{Queue: "q"}); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("Create: %v", err)
		}
	})
}

func TestMetaIsChecked(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{})
	big := strings.Repeat("x", spool.MaxAttributes/2)
	for name, m := range map[string]spool.Meta{
		"no queue":        {},
		"upper case":      {Queue: "Results"},
		"path":            {Queue: "../results"},
		"too long":        {Queue: strings.Repeat("q", 97)},
		"much attributes": {Queue: "q", Attributes: map[string]string{"a": big, "b": big}},
		"not UTF-8":       {Queue: "q", Attributes: map[string]string{"a": "M\xfcller"}},
	} {
		if _, err := s.Create(m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := s.Next(t.Context(), "No"); err == nil {
		t.Error("Next takes a name that Create refuses")
	}
	put(t, s, strings.Repeat("q", 64), nil)
	w, err := s.Create(spool.Meta{Queue: "q", Attributes: map[string]string{"a": big, "b": strings.Repeat("\x01", len(big)-2)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if l := next(t, s, "q"); len(l.Item().Meta.Attributes["b"]) != len(big)-2 {
		t.Error("attributes of the greatest size did not come back")
	}
}

func TestQuota(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{MaxBytes: 10_000})
	put(t, s, "q", make([]byte, 4000))
	w, err := s.Create(spool.Meta{Queue: "q"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 4000)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 4000)); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("a write over the quota: %v", err)
	}
	if _, err := w.Commit(); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("Commit after that: %v", err)
	}
	u, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	open, err := s.Create(spool.Meta{Queue: "q"})
	if err != nil {
		t.Fatal(err)
	}
	head, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.Write(make([]byte, 10_000-head.Bytes)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(spool.Meta{Queue: "q"}); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("Create when full: %v", err)
	}
	open.Abort()
	if after, _ := s.Usage(); after.Bytes != u.Bytes {
		t.Fatalf("%d bytes are used after Abort, %d before", after.Bytes, u.Bytes)
	}
	if err := next(t, s, "q").Done(spool.Receipt{}); err != nil {
		t.Fatal(err)
	}
	put(t, s, "q", make([]byte, 9000))
}

func TestFreeSpace(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{MinFreeBytes: 1 << 60})
	_, err := s.Create(spool.Meta{Queue: "q"})
	if !errors.Is(err, spool.ErrFull) {
		t.Fatalf("Create on a disk with less than 2⁶⁰ bytes: %v", err)
	}
}

// TestIDsNeverComeBack empties the queue, and even takes the sequence away.
func TestIDsNeverComeBack(t *testing.T) {
	dir := t.TempDir()
	var last spool.ID
	for round := range 5 {
		s := open(t, dir, spool.Options{})
		for range 3 {
			it := put(t, s, "q", nil)
			if it.ID <= last {
				t.Fatalf("round %d: %s after %s", round, it.ID, last)
			}
			last = it.ID
			if round < 3 {
				if err := next(t, s, "q").Done(spool.Receipt{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = s.Close()
		if round >= 3 { // items are there to tell
			if err := os.WriteFile(filepath.Join(dir, "sequence"), []byte("\xff"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestNextWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), spool.Options{Ordered: func(q string) bool { return q == "o" }})
		got := make(chan spool.Lease)
		wait := func(queue string) {
			go func() {
				l, err := s.Next(t.Context(), queue)
				if err != nil {
					t.Error(err)
				}
				got <- l
			}()
			synctest.Wait()
		}
		for _, queue := range []string{"o", "u"} {
			wait(queue)
			put(t, s, "other", nil)
			put(t, s, queue, []byte("1"))
			l := <-got

			// An item that failed comes back by itself when its time has come.
			began := time.Now()
			if err := l.Retry(errors.New("busy")); err != nil {
				t.Fatal(err)
			}
			wait(queue)
			l = <-got
			if time.Since(began) > time.Second || l.Item().Attempts != 1 || l.Item().LastError != "busy" {
				t.Fatalf("after %v: %+v", time.Since(began), l.Item())
			}

			// The second item of an ordered queue waits for the end of the first one's lease.
			put(t, s, queue, []byte("2"))
			wait(queue)
			if queue == "o" {
				select {
				case l := <-got:
					t.Fatalf("two leases in an ordered queue: %+v", l.Item())
				default:
				}
			} else {
				if err := (<-got).Done(spool.Receipt{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Done(spool.Receipt{}); err != nil {
				t.Fatal(err)
			}
			if queue == "o" {
				if l := <-got; l.Item().Size != 1 {
					t.Fatalf("%+v", l.Item())
				}
			}
		}
	})
}

// TestConcurrency has many producers and consumers; each item is delivered once, whole.
func TestConcurrency(t *testing.T) {
	const producers, consumers, each = 8, 4, 40
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	var mu sync.Mutex
	seen := map[string]int{}
	var wg, consuming sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range consumers {
		consuming.Go(func() {
			for {
				l, err := s.Next(ctx, "q")
				if err != nil {
					return
				}
				r, err := l.Open()
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(r)
				_ = r.Close()
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				seen[string(b)]++
				enough := len(seen) == producers*each
				mu.Unlock()
				if err := l.Done(spool.Receipt{}); err != nil {
					t.Error(err)
				}
				if enough {
					cancel()
				}
			}
		})
	}
	for p := range producers {
		wg.Go(func() {
			for i := range each {
				put(t, s, "q", fmt.Appendf(nil, "%d/%d %s", p, i, strings.Repeat("x", 1000*i)))
				_, _ = s.List("q", 3)
				_ = s.Stats()
			}
		})
	}
	wg.Wait()
	consuming.Wait()
	for k, n := range seen {
		if n != 1 {
			t.Errorf("item %.8s was delivered %d times", k, n)
		}
	}
	if st := s.Stats(); st[0].Queued != 0 || st[0].Bytes != 0 || st[0].Delivered != producers*each {
		t.Errorf("stats %+v", st)
	}
	if u, err := s.Usage(); err != nil || u.Bytes != 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "items")); err != nil || len(left) != 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}
