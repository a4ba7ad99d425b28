package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/towpath/towpath/provisioning/store"
)

func testRise(t *testing.T, s store.Store) {
	rise := func(above, want uint64) {
		t.Helper()
		update(t, s, func(tx store.Tx) error {
			got, err := tx.Rise(above)
			if again, e := tx.Bump(); got != want || again != want || e != nil {
				t.Errorf("above %d it is %d, and once more %d (%v), want %d", above, got, again, e, want)
			}
			return err
		})
		view(t, s, func(tx store.Tx) error {
			got, err := tx.Generation()
			if got != want {
				t.Errorf("it is stored as %d, want %d", got, want)
			}
			return err
		})
	}
	var have uint64
	view(t, s, func(tx store.Tx) (err error) {
		have, err = tx.Generation()
		return err
	})
	rise(have+1000, have+1001)
	rise(5, have+1002)
	rise(have+1002, have+1003)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if got, err := s.Watch(ctx, have+1000); err != nil || got != have+1003 {
		t.Errorf("who watches hears of %d (%v)", got, err)
	}
	if err := s.Update(t.Context(), func(tx store.Tx) error { _, err := tx.Rise(1 << 62); return err }); err == nil {
		t.Error("a generation without room above it is taken")
	}
}
