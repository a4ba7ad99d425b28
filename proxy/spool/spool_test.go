package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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
		"too long":        {Queue: strings.Repeat("q", 65)},
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

// TestDamage breaks the files of items in every way a disk does. Nothing wrong is ever delivered, nothing is deleted, and sound items
// come through.
func TestDamage(t *testing.T) {
	const size = 500
	payload := bytes.Repeat([]byte("0123456789"), size/10)
	damage := func(t *testing.T, change func(content []byte) []byte) (quarantined int, read error) {
		t.Helper()
		dir := t.TempDir()
		s := open(t, dir, spool.Options{})
		bad := put(t, s, "q", payload)
		good := put(t, s, "q", payload)
		_ = s.Close()
		path := filepath.Join(dir, "items", string(bad.ID)+".item")
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, spool.Options{})
		u, err := s.Usage()
		if err != nil {
			t.Fatal(err)
		}
		l := next(t, s, "q")
		if u.Quarantined == 0 {
			r, err := l.Open()
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			_ = r.Close()
			if err == nil && !bytes.Equal(got, payload) {
				t.Fatal("wrong bytes were read as if they were right")
			}
			read = err
			if err := l.Park(err); err != nil {
				t.Fatal(err)
			}
			l = next(t, s, "q")
		} else if left, err := os.ReadDir(filepath.Join(dir, "quarantine")); err != nil || len(left) != 1 {
			t.Fatalf("the quarantine holds %v, %v", left, err)
		}
		if l.Item().ID != good.ID {
			t.Fatalf("got %s, want the sound item %s", l.Item().ID, good.ID)
		}
		return u.Quarantined, read
	}
	t.Run("truncated anywhere", func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for range 40 {
			if n, _ := damage(t, func(c []byte) []byte { return c[:r.IntN(len(c))] }); n != 1 {
				t.Fatalf("%d items were set aside", n)
			}
		}
	})
	t.Run("a bit flipped anywhere", func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for range 60 {
			at := 0
			n, err := damage(t, func(c []byte) []byte { at = r.IntN(len(c)); c[at] ^= 1 << r.IntN(8); return c })
			if inPayload := at >= 8 && at < 8+size; inPayload != (n == 0) || inPayload && !errors.Is(err, spool.ErrCorrupt) {
				t.Fatalf("bit in byte %d: %d set aside, reading gave %v", at, n, err)
			}
		}
	})
	t.Run("something appended", func(t *testing.T) {
		if n, _ := damage(t, func(c []byte) []byte { return append(c, 0) }); n != 1 {
			t.Fatalf("%d items were set aside", n)
		}
	})
	t.Run("another item's content", func(t *testing.T) {
		if n, _ := damage(t, func(c []byte) []byte { return bytes.ReplaceAll(c, []byte("00001\","), []byte("00002\",")) }); n != 1 {
			t.Fatalf("%d items were set aside", n)
		}
	})
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	it := put(t, s, "q", []byte("x"))
	_ = s.Close()
	foreign := []string{"README", "1.item", "00000000000000zz.item", ".tmp", string(it.ID) + ".item.bak"}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(dir, "items", name), []byte("?"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own := filepath.Join(dir, "items", "00000000000000aa.tmp")
	if err := os.WriteFile(own, []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, spool.Options{})
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(dir, "items", name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(own); err == nil {
		t.Error("an incomplete file of our own is still there")
	}
	if st := s.Stats(); len(st) != 1 || st[0].Queued != 1 {
		t.Errorf("stats %+v", st)
	}
}

// TestVanishedItem takes a file away behind the Spool's back.
func TestVanishedItem(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	lost, kept := put(t, s, "q", []byte("1")), put(t, s, "q", []byte("2"))
	if err := os.Remove(filepath.Join(dir, "items", string(lost.ID)+".item")); err != nil {
		t.Fatal(err)
	}
	if l := next(t, s, "q"); l.Item().ID != kept.ID {
		t.Fatalf("leased %s", l.Item().ID)
	}
	if st := s.Stats(); st[0].Queued != 1 {
		t.Fatalf("stats %+v", st)
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
