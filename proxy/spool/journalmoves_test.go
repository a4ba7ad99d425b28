package spool_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/towpath/towpath/proxy/spool"
)

// TestJournalMovesBelowReaders has segments closed, compacted and removed all the time while items come, are read and go. Every item is delivered once,
// whole, and none is taken for damaged.
func TestJournalMovesBelowReaders(t *testing.T) {
	const producers, each = 6, 60
	dir := t.TempDir()
	s := open(t, dir, spool.SmallSegments(spool.Options{}, 1500))
	stays := put(t, s, "stays", []byte("stays")) // what keeps the oldest segment, until it is copied
	seen := map[string]int{}
	var mu sync.Mutex
	var wg, consuming sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 3 {
		consuming.Go(func() {
			for {
				l, err := s.Next(ctx, "q")
				if err != nil {
					return
				}
				r, err := l.Open()
				if err != nil {
					t.Error(err)
					cancel()
					return
				}
				b, err := io.ReadAll(r)
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				if err != nil || !bytes.HasSuffix(b, []byte("end")) {
					t.Errorf("%d bytes, %v", len(b), err)
				}
				mu.Lock()
				seen[string(b)]++
				enough := len(seen) == producers*each
				mu.Unlock()
				if err := l.Done(spool.Receipt{}); err != nil {
					t.Error(err)
				}
				if u, err := s.Usage(); err != nil || u.Quarantined != 0 {
					t.Errorf("%+v, %v", u, err)
					cancel()
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
				put(t, s, "q", fmt.Appendf(nil, "%d/%d %send", p, i, bytes.Repeat([]byte("x"), 10*i)))
			}
		})
	}
	reading, stop := context.WithCancel(t.Context())
	wg.Go(func() {
		for reading.Err() == nil {
			r, err := s.Payload(stays.ID)
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := io.ReadAll(r); err != nil || string(b) != "stays" {
				t.Errorf("%q, %v", b, err)
			}
			_ = r.Close()
		}
	})
	consuming.Wait()
	stop()
	wg.Wait()
	for k, n := range seen {
		if n != 1 {
			t.Errorf("item %.8s was delivered %d times", k, n)
		}
	}
	if len(seen) != producers*each {
		t.Errorf("%d items", len(seen))
	}
}
