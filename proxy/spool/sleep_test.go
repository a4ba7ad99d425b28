package spool_test

import (
	"testing"
	"testing/synctest"

	"github.com/towpath/towpath/proxy/spool"
)

// TestNextSleepsWithoutTheKey has consumers of locked items wait without work, in both kinds of queue, until the key comes.
func TestNextSleepsWithoutTheKey(t *testing.T) {
	base := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := newSealKey(t)
		s := openSealed(t, base, k)
		put(t, s, "q", nil)
		put(t, s, ordered, nil)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openSealed(t, base, k)
		got := make(chan spool.Lease, 2)
		for _, queue := range []string{"q", ordered} {
			go func() {
				l, err := s.Next(t.Context(), queue)
				if err != nil {
					t.Error(err)
				}
				got <- l
			}()
		}
		synctest.Wait() // returns only when both sleep
		if len(got) != 0 {
			t.Error("a locked item was leased")
		}
		s.Unlock(k)
		synctest.Wait()
		if len(got) != 2 {
			t.Errorf("%d of 2 were leased after the key came", len(got))
		}
	})
}
