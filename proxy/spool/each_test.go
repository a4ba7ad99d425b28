package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/towpath/towpath/proxy/spool"
)

// Each goes through a queue while it changes: all that stays comes once, in order, and what cannot be read comes bare.
func TestEach(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{MinFreeBytes: -1})
	var ids []spool.ID
	for i := range 5 {
		ids = append(ids, putPriority(t, s, "q", i))
	}
	putPriority(t, s, "other", 0)
	if err := s.Hold(ids[3], "held"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "items", string(ids[4])+".item")
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []spool.ID
	err := s.Each("q", func(it spool.Item) error {
		if len(got) == 0 {
			if err := s.Drop(ids[1]); err != nil {
				return err
			}
			putPriority(t, s, "q", 0)
		}
		got = append(got, it.ID)
		if it.Meta.Queue != "q" || it.Size != 7 || it.Meta.Priority != slices.Index(ids, it.ID) || (it.State == spool.StateParked) != (it.ID == ids[3]) {
			t.Errorf("%+v", it)
		}
		return nil
	})
	if want := []spool.ID{ids[0], ids[2], ids[3], ids[4]}; err != nil || !slices.Equal(got, want) {
		t.Errorf("it came by %v, not %v: %v", got, want, err)
	}
	enough := errors.New("enough")
	n := 0
	if err := s.Each("q", func(spool.Item) error { n++; return enough }); !errors.Is(err, enough) || n != 1 {
		t.Errorf("after %d items: %v", n, err)
	}
	if err := s.Each("nothing", func(spool.Item) error { return enough }); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Each("q", func(spool.Item) error { return nil }); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("of a closed spool: %v", err)
	}
}
