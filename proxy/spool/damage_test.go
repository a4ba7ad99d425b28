package spool_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/towpath/towpath/proxy/spool"
)

// TestDamage breaks the files of items in every way a disk does. Nothing wrong is ever delivered, nothing is deleted, and sound items
// come through.
func TestDamage(t *testing.T) {
	const size = 500
	payload := bytes.Repeat([]byte("0123456789"), size/10)
	damage := func(t *testing.T, change func(content []byte) []byte) (quarantined int, read error) {
		t.Helper()
		dir := t.TempDir()
		s := open(t, dir, spool.Options{MaxShared: -1})
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
		s = open(t, dir, spool.Options{MaxShared: -1})
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
	s := open(t, dir, spool.Options{MaxShared: -1})
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
	s = open(t, dir, spool.Options{MaxShared: -1})
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
	s := open(t, dir, spool.Options{MaxShared: -1})
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
