package spool_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/spool"
	"github.com/towpath/towpath/proxy/spool/seal"
)

func newSealKey(t testing.TB) seal.PrivateKey {
	t.Helper()
	k, err := seal.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func openSealed(t *testing.T, dir string, k seal.PrivateKey) *spool.Spool {
	t.Helper()
	s := open(t, dir, spool.Options{Ordered: func(q string) bool { return q == ordered }})
	s.SealTo(k.Public())
	return s
}

// openSealedFiles is openSealed for items that all have files of their own.
func openSealedFiles(t *testing.T, dir string, k seal.PrivateKey) *spool.Spool {
	t.Helper()
	s := open(t, dir, spool.Options{MaxShared: -1})
	s.SealTo(k.Public())
	return s
}

func waits(t *testing.T, s *spool.Spool, queue string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if l, err := s.Next(ctx, queue); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Next(%s): %v, %v; want to wait", queue, l, err)
	}
}

// TestNothingReadableIsLeft looks for what went in, in all files, in every state.
func TestNothingReadableIsLeft(t *testing.T) {
	dir, k := t.TempDir(), newSealKey(t)
	s := openSealed(t, dir, k)
	canary := "CANARY^PATIENT"
	content := bytes.Repeat([]byte(canary+" "), 10_000)
	var ids []spool.ID
	for range 3 {
		w, err := s.Create(spool.Meta{Queue: "q", Attributes: map[string]string{"uid": canary}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		look(t, dir, canary, sha256.Sum256(content))
		it, err := w.Commit()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, it.ID)
	}
	if err := next(t, s, "q").Park(errors.New("refused")); err != nil {
		t.Fatal(err)
	}
	if err := next(t, s, "q").Carried(spool.Receipt{}); err != nil {
		t.Fatal(err)
	}
	look(t, dir, canary, sha256.Sum256(content))
	for _, id := range ids {
		p, err := s.Payload(id)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(p); err != nil || !bytes.Equal(b, content) {
			t.Errorf("%s: %d bytes, %v", id, len(b), err)
		}
		_ = p.Close()
		if it, err := s.Get(id); err != nil || it.Meta.Attributes["uid"] != canary || it.SHA256 != sha256.Sum256(content) || it.Locked {
			t.Errorf("%+v, %v", it, err)
		}
	}
}

func look(t *testing.T, dir, canary string, sum [32]byte) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		for _, form := range [][]byte{[]byte(canary), sum[:], []byte(hex.EncodeToString(sum[:]))} {
			if bytes.Contains(b, form) {
				t.Errorf("%s holds %q", path, form)
			}
		}
		return err
	})
	if err != nil || files < 3 {
		t.Fatalf("%d files, %v", files, err)
	}
}

// TestWithoutTheKey restarts a box whose key is elsewhere: it counts, accepts and delivers what is new; the old waits for the key.
func TestWithoutTheKey(t *testing.T) {
	dir, k := t.TempDir(), newSealKey(t)
	s := openSealed(t, dir, k)
	var old []spool.ID
	for _, text := range []string{"1", "2", "3", "4"} {
		old = append(old, putText(t, s, text).ID)
	}
	oldOrdered := put(t, s, ordered, []byte("first"))
	if err := s.Hold(old[3], "wait"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = openSealed(t, dir, k)
	want := []spool.LockedItems{{Key: k.Public().ID(), Items: 5}}
	if got := s.Locked(); !slices.Equal(got, want) {
		t.Errorf("locked: %v, want %v", got, want)
	}
	waits(t, s, "q")
	waits(t, s, ordered)
	fresh := putText(t, s, "5")
	put(t, s, ordered, []byte("second"))
	l := next(t, s, "q")
	if l.Item().ID != fresh.ID || l.Item().Meta.Attributes["k"] != "5" {
		t.Fatalf("%+v", l.Item())
	}
	if err := l.Done(spool.Receipt{}); err != nil {
		t.Fatal(err)
	}
	waits(t, s, ordered)
	if it, err := s.Get(old[0]); err != nil || !it.Locked || it.Size != 1 || it.Meta.Attributes != nil || it.SHA256 != [32]byte{} || it.Meta.Queue != "q" {
		t.Errorf("%+v, %v", it, err)
	}
	if _, err := s.Payload(old[0]); !errors.Is(err, spool.ErrNoKey) {
		t.Errorf("the payload: %v", err)
	}
	for _, st := range s.Stats() {
		if st.Queue == "q" && (st.Queued != 3 || st.Parked != 1 || st.Locked != 4 || st.Bytes != 4) || st.Queue == ordered && (st.Queued != 2 || st.Locked != 1) {
			t.Errorf("%+v", st)
		}
	}
	if u, err := s.Usage(); err != nil || u.Locked != 5 || u.Plain != 0 || !u.Sealed {
		t.Errorf("%+v, %v", u, err)
	}
	if err := s.Unpark(old[3]); err != nil {
		t.Error(err)
	}
	if n, err := s.RetryParked("q"); n != 0 || err != nil {
		t.Error(n, err)
	}
	waits(t, s, "q")
	if err := s.Drop(old[2]); err != nil {
		t.Error(err)
	}
	if n := s.Unlock(newSealKey(t)); n != 0 {
		t.Errorf("another key opened %d items", n)
	}
	got := make(chan spool.Lease)
	go func() {
		l, err := s.Next(t.Context(), "q")
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	if n := s.Unlock(k); n != 4 {
		t.Errorf("the key opened %d items, want 4", n)
	}
	if l := <-got; l.Item().ID != old[0] {
		t.Errorf("%s came first", l.Item().ID)
	}
	for _, id := range []spool.ID{old[1], old[3]} {
		if l := next(t, s, "q"); l.Item().ID != id {
			t.Errorf("got %s, want %s", l.Item().ID, id)
		}
	}
	if l := next(t, s, ordered); l.Item().ID != oldOrdered.ID {
		t.Errorf("%s is first in the ordered queue", l.Item().ID)
	}
	if len(s.Locked()) != 0 {
		t.Errorf("%v", s.Locked())
	}
}

// TestPlainItemsOfOlderVersions are delivered as they are, and wear off.
func TestPlainItemsOfOlderVersions(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	putText(t, s, "plain")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openSealed(t, dir, newSealKey(t))
	putText(t, s, "sealed")
	for i, text := range []string{"plain", "sealed"} {
		if u, err := s.Usage(); err != nil || u.Plain != 1-i {
			t.Errorf("%+v, %v", u, err)
		}
		l := next(t, s, "q")
		r, err := l.Open()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); string(b) != text || err != nil || l.Item().Meta.Attributes["k"] != text {
			t.Errorf("%q, %v", b, err)
		}
		_ = r.Close()
		if err := l.Done(spool.Receipt{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeysAreForgotten has items of three hours: when the last of an hour is gone so is its key, but not that of one that was set aside.
func TestKeysAreForgotten(t *testing.T) {
	base := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		dir, k := base, newSealKey(t)
		epochs := func() int {
			t.Helper()
			left, err := os.ReadDir(filepath.Join(dir, "epochs"))
			if err != nil {
				t.Fatal(err)
			}
			return len(left)
		}
		s := openSealedFiles(t, dir, k)
		for range 3 {
			putText(t, s, "x")
			putText(t, s, "y")
			time.Sleep(2 * time.Hour)
		}
		for i, want := range []int{3, 2, 2, 1, 1, 1} { // the current one stays
			if err := next(t, s, "q").Done(spool.Receipt{}); err != nil {
				t.Fatal(err)
			}
			if got := epochs(); got != want {
				t.Errorf("%d keys after %d items, want %d", got, i+1, want)
			}
		}
		bad := putText(t, s, "damaged")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, "items", string(bad.ID)+".item"), 40); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s = openSealedFiles(t, dir, k)
			if u, err := s.Usage(); err != nil || u.Quarantined != 1 || epochs() != 1 || len(s.Keys()) != 1 {
				t.Fatalf("%+v, %v, %d keys: that of what was set aside must stay", u, err, epochs())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		set, err := filepath.Glob(filepath.Join(dir, "quarantine", "*"))
		if err != nil || len(set) != 1 {
			t.Fatal(set, err)
		}
		if err := os.Remove(set[0]); err != nil {
			t.Fatal(err)
		}
		s = openSealedFiles(t, dir, k)
		if epochs() != 0 || len(s.Keys()) != 0 {
			t.Errorf("%d keys, though nothing needs them", epochs())
		}
	})
}

// TestSealedDamage breaks sealed files: nothing wrong is delivered, nothing is deleted.
func TestSealedDamage(t *testing.T) {
	k := newSealKey(t)
	const size = 500
	payload := bytes.Repeat([]byte("0123456789"), size/10)
	check := func(what string, change func([]byte) []byte) {
		dir := t.TempDir()
		s := openSealedFiles(t, dir, k)
		bad, good := put(t, s, "q", payload), put(t, s, "q", payload)
		_ = s.Close()
		path := filepath.Join(dir, "items", string(bad.ID)+".item")
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s = openSealedFiles(t, dir, k)
		s.Unlock(k)
		l := next(t, s, "q")
		if l.Item().ID == bad.ID {
			r, err := l.Open()
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(r); !errors.Is(err, spool.ErrCorrupt) || len(b) != 0 {
				t.Errorf("%s: %d bytes, %v", what, len(b), err)
			}
			_ = r.Close()
			if err := l.Park(spool.ErrCorrupt); err != nil {
				t.Fatal(err)
			}
			l = next(t, s, "q")
		} else if u, err := s.Usage(); err != nil || u.Quarantined != 1 || u.Locked != 0 {
			t.Errorf("%s: %+v, %v", what, u, err)
		}
		if l.Item().ID != good.ID {
			t.Errorf("%s: got %s, want the sound item", what, l.Item().ID)
		}
		_ = s.Close()
	}
	for at := 0; at < 900; at += 7 {
		check("a bit flipped", func(c []byte) []byte { c[min(at, len(c)-1)] ^= 4; return c })
		check("cut", func(c []byte) []byte { return c[:min(at, len(c)-1)] })
	}
	check("another size in the label, with a right checksum", func(c []byte) []byte {
		c = bytes.Replace(c, []byte(`"size":500,`), []byte(`"size":499,`), 1)
		return rechecked(c[:24+499], c[24+500:])
	})
	check("another time in the label, with a right checksum", func(c []byte) []byte {
		at := bytes.Index(c, []byte(`"created":"`)) + len(`"created":"`) + 3
		c[at] ^= 1
		return rechecked(nil, c)
	})
}

// rechecked puts the right checksum under a changed description.
func rechecked(head, rest []byte) []byte {
	c := append(bytes.Clone(head), rest...)
	tail := c[len(c)-20:]
	n := int(binary.BigEndian.Uint32(tail) + binary.BigEndian.Uint32(tail[4:]))
	sum := crc32.Checksum(c[len(c)-20-n:len(c)-20], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(tail[8:], sum)
	return c
}

// TestMissingDataKey takes a data key away: its items stay, closed, and say so.
func TestMissingDataKey(t *testing.T) {
	dir, k := t.TempDir(), newSealKey(t)
	s := openSealed(t, dir, k)
	it := putText(t, s, "x")
	_ = s.Close()
	names, err := filepath.Glob(filepath.Join(dir, "epochs", "*.epoch"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	content, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func() error{
		"gone":    func() error { return os.Remove(names[0]) },
		"damaged": func() error { return os.WriteFile(names[0], content[1:], 0o600) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		s = openSealed(t, dir, k)
		s.Unlock(k)
		waits(t, s, "q")
		if got := s.Locked(); len(got) != 1 || got[0] != (spool.LockedItems{Items: 1}) {
			t.Errorf("%s: %v", what, got)
		}
		if st := s.Stats(); len(st) != 1 || st[0].Queued != 1 {
			t.Errorf("%s: %+v", what, st)
		}
		_ = s.Close()
	}
	if err := os.WriteFile(names[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openSealed(t, dir, k)
	if n := s.Unlock(k); n != 1 || next(t, s, "q").Item().ID != it.ID {
		t.Errorf("with the data key back: %d items", n)
	}
}
