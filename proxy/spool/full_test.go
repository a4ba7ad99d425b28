package spool

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestDiskFull has the disk run full at each operation of a commit: the producer hears ErrFull, and nothing is left behind.
func TestDiskFull(t *testing.T) {
	for i, at := range []string{
		"create items", "write items", "fsync items", "rename items", "sync items",
		"create journal", "sync journal", "write journal", "fsync journal",
	} {
		v := newMemVolume()
		s, err := open(v, Options{MaxShared: min(0, i-5)})
		if err != nil {
			t.Fatal(err)
		}
		v.fail = func(op string) error {
			if strings.HasPrefix(op, at) {
				return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
			}
			return nil
		}
		w, err := s.Create(Meta{Queue: "q"})
		if err == nil {
			_, _ = w.Write(make([]byte, 1000))
			_, err = w.Commit()
		}
		if !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", at, err)
		}
		for name := range v.entries {
			if strings.HasPrefix(name, itemsDir) || strings.HasPrefix(name, journalDir) {
				t.Errorf("%s: %s is left", at, name)
			}
		}
		if s.used != 0 || len(s.entries) != 0 {
			t.Errorf("%s: %d bytes and %d items are in the books", at, s.used, len(s.entries))
		}
	}
}

// TestSpaceRunsOutWhileWriting looks at the free space while one item grows.
func TestSpaceRunsOutWhileWriting(t *testing.T) {
	v := newMemVolume()
	s, err := open(v, Options{MinFreeBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Create(Meta{Queue: "q"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, freeEvery)); err != nil {
		t.Fatal(err)
	}
	v.space = 1<<20 - 1
	var written int
	for written = 0; written <= freeEvery && err == nil; written += 64 << 10 {
		_, err = w.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("after %d more bytes: %v", written, err)
	}
	w.Abort()
	if s.used != 0 {
		t.Fatalf("%d bytes are in the books", s.used)
	}
}

func TestBackoff(t *testing.T) {
	b := Options{}.withDefaults().Backoff
	for attempts, want := range map[int]string{1: "1s", 2: "2s", 3: "4s", 8: "2m8s", 9: "4m16s", 10: "5m0s", 1000: "5m0s"} {
		if got := fmt.Sprint(b.ceiling(attempts)); got != want {
			t.Errorf("after attempt %d up to %s, want %s", attempts, got, want)
		}
	}
	var sum, most float64
	for range 10_000 {
		w := b.wait(3).Seconds()
		sum, most = sum+w, max(most, w)
	}
	if mean := sum / 10_000; mean < 1.9 || mean > 2.1 || most > 4 || most < 3.9 {
		t.Errorf("mean %v, most %v; want an even spread over 0 to 4 s", mean, most)
	}
}
