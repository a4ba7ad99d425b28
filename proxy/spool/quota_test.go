package spool

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func fill(t *testing.T, s *Spool, queue string, size int) error {
	t.Helper()
	w, err := s.Create(Meta{Queue: queue})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(make([]byte, size)); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}

func deliverOne(t *testing.T, s *Spool, queue string) {
	t.Helper()
	l, err := s.Next(t.Context(), queue)
	if err == nil {
		err = l.Done(Receipt{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func statsOf(t *testing.T, s *Spool, queue string) QueueStats {
	t.Helper()
	for _, st := range s.Stats() {
		if st.Queue == queue {
			return st
		}
	}
	t.Fatalf("no queue %s", queue)
	return QueueStats{}
}

// TestLimits fills one queue by items and one by bytes: each refuses by itself, says why, and takes nothing until some room was made.
func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		name, full, says string
		limits           Limits
		size             int
	}{
		{"items", "items", "of at most 14 items", Limits{MaxItems: 14}, 10},
		{"bytes", "bytes", "of at most 100000 bytes", Limits{MaxBytes: 100_000}, 5000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := open(newMemVolume(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Limit("q", tc.limits); err != nil {
				t.Fatal(err)
			}
			n := 0
			for err = fill(t, s, "q", tc.size); err == nil && n < 100; err = fill(t, s, "q", tc.size) {
				n++
			}
			if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "q holds") {
				t.Fatalf("after %d items: %v", n, err)
			}
			st := statsOf(t, s, "q")
			if st.Full != tc.full || st.Queued != n || st.MaxItems != tc.limits.MaxItems || st.MaxBytes != tc.limits.MaxBytes {
				t.Errorf("%+v", st)
			}
			if tc.limits.MaxItems > 0 && n != tc.limits.MaxItems {
				t.Errorf("%d items of %d went in", n, tc.limits.MaxItems)
			}
			if tc.limits.MaxBytes > 0 && (st.Used > tc.limits.MaxBytes || st.Used < tc.limits.MaxBytes*9/10) {
				t.Errorf("full at %d of %d bytes", st.Used, tc.limits.MaxBytes)
			}
			if err := fill(t, s, "other", tc.size); err != nil {
				t.Errorf("another queue: %v", err)
			}
			deliverOne(t, s, "q")
			if err := fill(t, s, "q", tc.size); !errors.Is(err, ErrFull) {
				t.Errorf("after one was delivered: %v", err)
			}
			delivered := 1
			for statsOf(t, s, "q").Full != "" {
				deliverOne(t, s, "q")
				delivered++
			}
			if delivered < 2 || delivered > n/2 {
				t.Errorf("it opened after %d of %d were delivered", delivered, n)
			}
			if err := fill(t, s, "q", tc.size); err != nil {
				t.Errorf("with room again: %v", err)
			}
		})
	}
}

// TestLimitsCountWhatIsWritten has writers under way, some of which give up.
func TestLimitsCountWhatIsWritten(t *testing.T) {
	s, err := open(newMemVolume(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Limit("q", Limits{MaxItems: 2}); err != nil {
		t.Fatal(err)
	}
	var writers []Writer
	for range 2 {
		w, err := s.Create(Meta{Queue: "q"})
		if err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	if _, err := s.Create(Meta{Queue: "q"}); !errors.Is(err, ErrFull) {
		t.Errorf("a third writer: %v", err)
	}
	writers[0].Abort()
	if _, err := writers[1].Commit(); err != nil {
		t.Error(err)
	}
	if err := fill(t, s, "q", 1); err != nil {
		t.Errorf("the place of the one that gave up: %v", err)
	}
	if err := s.Limit("NO", Limits{}); err == nil {
		t.Error("a wrong name was taken")
	}
}

// TestFreeSpaceMarks lets the disk fill and empty: new items are refused before the floor, and taken when it is well above.
func TestFreeSpaceMarks(t *testing.T) {
	v := newMemVolume()
	s, err := open(v, Options{MinFreeBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		space int64
		full  bool
	}{{1400, false}, {1251, false}, {1250, true}, {1499, true}, {1500, false}, {1300, false}, {900, true}, {1400, true}, {2000, false}} {
		v.space = step.space
		if err := fill(t, s, "q", 1); errors.Is(err, ErrFull) != step.full {
			t.Errorf("with %d bytes free: %v", step.space, err)
		}
	}
}

// TestBooksOfQuotas does random things and holds the sums of the queues against the whole, and a restart against both.
func TestBooksOfQuotas(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		v := newMemVolume()
		s, err := open(v, Options{})
		if err != nil {
			r.Fatal(err)
		}
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			queue := rapid.SampledFrom([]string{"a", "b"}).Draw(r, "queue")
			switch rapid.IntRange(0, 4).Draw(r, "action") {
			case 0:
				if err := s.Limit(queue, Limits{MaxBytes: rapid.Int64Range(0, 4000).Draw(r, "bytes"), MaxItems: rapid.IntRange(0, 6).Draw(r, "items")}); err != nil {
					r.Fatal(err)
				}
			case 1:
				if len(s.queueLocked("a").entries) > 0 {
					deliverOne(t, s, "a")
				}
			default:
				before := s.queueLocked(queue).limits
				if err := fill(t, s, queue, rapid.IntRange(0, 900).Draw(r, "size")); err != nil && !errors.Is(err, ErrFull) {
					r.Fatal(err)
				} else if err == nil {
					q := s.queues[queue]
					if before.MaxBytes > 0 && q.used > before.MaxBytes || before.MaxItems > 0 && len(q.entries) > before.MaxItems {
						r.Fatalf("%+v let in %d bytes and %d items", before, q.used, len(q.entries))
					}
				}
			}
			s.queueLocked("a")
			var sum int64
			for _, q := range s.queues {
				sum += q.used
				if q.writers != 0 || q.used < 0 {
					r.Fatalf("%s: %d bytes, %d writers", q.name, q.used, q.writers)
				}
			}
			if sum != s.used {
				r.Fatalf("the queues hold %d bytes, all of them %d", sum, s.used)
			}
		}
		again, err := open(v, Options{})
		if err != nil {
			r.Fatal(err)
		}
		for name, q := range again.queues {
			if was := s.queues[name].used; q.used != was {
				r.Fatalf("%s: %d bytes after a restart, %d before", name, q.used, was)
			}
		}
	})
}
