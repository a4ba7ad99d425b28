package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath/towpath/proxy/spool/seal"
)

func mustOpen(t *testing.T, v volume, o Options) *Spool {
	t.Helper()
	s, err := open(v, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustPut(t *testing.T, s *Spool, payload string) ID {
	t.Helper()
	w, err := s.Create(Meta{Queue: "q", Attributes: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, payload); err != nil {
		t.Fatal(err)
	}
	it, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return it.ID
}

func mustLease(t *testing.T, s *Spool) Lease {
	t.Helper()
	l, err := s.Next(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// files returns what is in a folder.
func (v *memVolume) files(dir string) []string {
	names, _ := v.list(dir)
	slices.Sort(names)
	return names
}

// TestOrderOfSyncsInTheJournal pins what happens before Commit, Done and Park of a small item return.
func TestOrderOfSyncsInTheJournal(t *testing.T) {
	v := newMemVolume()
	s := mustOpen(t, v, Options{})
	expect := func(what string, want ...string) {
		t.Helper()
		for i, op := range v.ops {
			words := strings.Fields(op)
			if strings.HasSuffix(op, extOpen) {
				v.ops[i] = words[0] + " segment"
			}
		}
		if !slices.Equal(v.ops, want) {
			t.Errorf("%s did\n  %s\nwant\n  %s", what, strings.Join(v.ops, "\n  "), strings.Join(want, "\n  "))
		}
		v.ops = nil
	}
	group := []string{"write segment", "fsync segment", "write segment"} // the last one is the mark
	v.ops = nil
	file := "items/" + string(mustPut(t, s, "one"))
	expect("the first Commit", append([]string{"create segment", "sync journal"}, group...)...)
	mustPut(t, s, "two")
	expect("Commit", group...)
	if err := mustLease(t, s).Park(errors.New("no")); err != nil {
		t.Fatal(err)
	}
	expect("Park", append([]string{"remove " + file + ".note", "create " + file + ".note", "write " + file + ".note", "fsync " + file + ".note"}, group...)...)
	if err := s.Unpark(ID(strings.TrimPrefix(file, "items/"))); err != nil {
		t.Fatal(err)
	}
	expect("Unpark", append(slices.Clone(group), "remove "+file+".note")...)
	if err := mustLease(t, s).Carried(Receipt{}); err != nil {
		t.Fatal(err)
	}
	expect("Carried", group...)
	if err := mustLease(t, s).Done(Receipt{}); err != nil {
		t.Fatal(err)
	}
	expect("Done", group...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(v.ops) != 2 || !strings.HasPrefix(v.ops[0], "rename ") || v.ops[1] != "sync journal" {
		t.Errorf("Close did %q", v.ops)
	}
}

// TestGroupCommit lets many commit while one sync runs: they share the next.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const producers = 50
		v := newMemVolume()
		s := mustOpen(t, v, Options{})
		mustPut(t, s, "first")
		release := make(chan struct{})
		syncs := 0
		v.fail = func(op string) error {
			if strings.HasPrefix(op, "fsync journal/") {
				if syncs++; syncs == 1 {
					v.mu.Unlock()
					<-release
					v.mu.Lock()
				}
			}
			return nil
		}
		done := make(chan ID, producers+1)
		go func() { done <- mustPut(t, s, "slow") }()
		synctest.Wait()
		for i := range producers {
			go func() { done <- mustPut(t, s, fmt.Sprint(i)) }()
		}
		synctest.Wait()
		if len(done) != 0 {
			t.Fatalf("%d commits returned before a sync that began after them", len(done))
		}
		close(release)
		synctest.Wait()
		if len(done) != producers+1 || syncs != 2 {
			t.Fatalf("%d commits with %d syncs", len(done), syncs)
		}
	})
}

// TestJournalGivesItsSpaceBack has many items pass one that stays: what is forgotten does not pile up, and the one that stays is not lost.
func TestJournalGivesItsSpaceBack(t *testing.T) {
	v := newMemVolume()
	o := Options{segmentSize: 2000}
	s := mustOpen(t, v, o)
	v.fail = func(op string) error {
		if strings.HasPrefix(op, "rename "+journalDir) && s.mu.TryLock() {
			s.mu.Unlock()
			t.Error("a segment has another name than its readers know")
		}
		return nil
	}
	stays := mustPut(t, s, "stays")
	if err := mustLease(t, s).Park(errors.New("no")); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		u, err := s.Usage()
		if err != nil || u.JournalBytes > 2*u.Bytes+4*o.segmentSize || u.Plain != 1 {
			t.Fatalf("%+v, %v", u, err)
		}
		if b, err := s.readAll(stays); err != nil || string(b) != "stays" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	for range 200 {
		mustPut(t, s, strings.Repeat("x", 300))
		if err := mustLease(t, s).Done(Receipt{}); err != nil {
			t.Fatal(err)
		}
		check()
	}
	if n := len(v.files(journalDir)); n > 6 {
		t.Errorf("%d files", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	v.fail = nil
	s = mustOpen(t, v, o)
	check()
	if it, err := s.Get(stays); err != nil || it.State != StateParked || it.LastError != "no" || it.Attempts != 1 {
		t.Errorf("%+v, %v", it, err)
	}
	if err := s.Drop(stays); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, v, o)
	if left := append(v.files(journalDir), v.files(itemsDir)...); len(left) != 0 || s.used != 0 {
		t.Errorf("%q are left, %d bytes", left, s.used)
	}
}

// TestDoneOnAFullDisk cannot write to the journal: a mark that needs no space keeps what was delivered from coming back.
func TestDoneOnAFullDisk(t *testing.T) {
	v := newMemVolume()
	s := mustOpen(t, v, Options{})
	gone, stays := mustPut(t, s, "gone"), mustPut(t, s, "stays")
	v.fail = func(op string) error {
		if strings.HasPrefix(op, "write ") {
			return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
		}
		return nil
	}
	if err := mustLease(t, s).Done(Receipt{}); err != nil {
		t.Fatal(err)
	}
	// Nor at the first start.
	for _, full := range []bool{true, false, false} {
		if !full {
			v.fail = nil
		}
		v = v.crash(rand.New(rand.NewPCG(1, 2)))
		s = mustOpen(t, v, Options{})
		if s.Holds(gone) || !s.Holds(stays) {
			t.Fatalf("full %v: the delivered one is there: %v, the other: %v", full, s.Holds(gone), s.Holds(stays))
		}
	}
	if left := v.files(itemsDir); len(left) != 0 {
		t.Errorf("%q are left", left)
	}
}

// TestNewerJournal is not touched.
func TestNewerJournal(t *testing.T) {
	v := newMemVolume()
	s := mustOpen(t, v, Options{})
	mustPut(t, s, "x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, node := range v.entries {
		if strings.HasPrefix(name, journalDir) {
			node.content[6] = '2'
		}
	}
	before := v.files(journalDir)
	if _, err := open(v, Options{}); !errors.Is(err, errNewerJournal) {
		t.Fatal(err)
	}
	if after := v.files(journalDir); !slices.Equal(after, before) {
		t.Errorf("%q became %q", before, after)
	}
}

// TestDamageInTheJournal flips a bit anywhere in a segment, of a queue that was closed and of one whose process was killed. At most the item that was hit is lost, and it is
// set aside, once.
func TestDamageInTheJournal(t *testing.T) {
	key, err := seal.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	payloads := []string{"one", strings.Repeat("two", 50), "", "four"}
	step := 5
	if testing.Short() {
		step = 17
	}
	var found [4]int // the last byte whose damage was told
	for form := range 4 {
		sealed, closed := form%2 == 1, form/2 == 1
		for at := 0; ; at += step {
			v := newMemVolume()
			begin := func() *Spool {
				s := mustOpen(t, v, Options{})
				if sealed {
					s.SealTo(key.Public())
					s.Unlock(key)
				}
				return s
			}
			s := begin()
			want := map[ID]string{}
			for _, p := range payloads {
				want[mustPut(t, s, p)] = p
			}
			delivered := mustLease(t, s)
			if err := delivered.Done(Receipt{}); err != nil {
				t.Fatal(err)
			}
			delete(want, delivered.Item().ID)
			if closed {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			name := journalDir + "/" + v.files(journalDir)[0]
			node := v.entries[name]
			end := len(node.content) - recordHead // a bit of the mark behind it says nothing
			if at >= end {
				if found[form] < end-recordHead-step {
					t.Errorf("form %d: damage at %d and later of %d bytes was not told", form, found[form], end)
				}
				break
			}
			node.content[at] ^= 0x10
			for range 2 { // the second start finds nothing new
				s = begin()
				there := 0
				for id, p := range want {
					b, err := s.readAll(id)
					if err == nil && string(b) == p {
						there++
					} else if !errors.Is(err, ErrUnknown) {
						t.Fatalf("form %d, bit in byte %d: %q, %v", form, at, b, err)
					}
				}
				inHead := at < len(segmentMark)
				if there < len(want)-1 || there < len(want) && s.quarantined != 1 || s.quarantined > 1 || inHead && s.quarantined != 0 {
					t.Fatalf("form %d, bit in byte %d: %d of %d items, %d set aside", form, at, there, len(want), s.quarantined)
				}
				if s.quarantined > 0 {
					found[form] = max(found[form], at)
				}
				if sealed && len(s.Keys()) == 0 {
					t.Fatalf("form %d, bit in byte %d: the key of what was set aside is forgotten", form, at)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestDamageFoundLater has the bytes of an item go bad while the queue is open: it is set aside when its turn comes, and the others are delivered.
func TestDamageFoundLater(t *testing.T) {
	v := newMemVolume()
	s := mustOpen(t, v, Options{})
	bad := mustPut(t, s, "bad")
	good := mustPut(t, s, "good")
	name := journalDir + "/" + v.files(journalDir)[0]
	v.entries[name].content[s.entries[bad].at] ^= 1
	l := mustLease(t, s)
	if l.Item().ID != good || s.Holds(bad) || s.quarantined != 1 {
		t.Fatalf("leased %s, %d set aside", l.Item().ID, s.quarantined)
	}
	aside := v.entries[quarantineDir+"/"+v.files(quarantineDir)[0]].content
	if !bytes.Contains(aside, []byte("bad")) {
		t.Errorf("set aside: %q", aside)
	}
	if err := l.Done(Receipt{}); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, v, Options{})
	if len(s.entries) != 0 || s.quarantined != 1 {
		t.Errorf("after a restart %d items and %d set aside", len(s.entries), s.quarantined)
	}
}

// TestDirectoryOfBefore opens files as versions without a journal wrote them, byte by byte, in all states, and with no folder of a journal.
func TestDirectoryOfBefore(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(dir+"/items", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for n, ext := range map[string]string{"1": ".item", "2": ".parked", "3": ".carried"} {
		text := `{"id":"000000000000000` + n + `","queue":"q","attributes":{"k":"v"},"size":5,` +
			`"sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824","created":"2026-11-22T10:00:00Z"}`
		b := binary.BigEndian.AppendUint32([]byte("TWPSPL1\nhello"+text), uint32(len(text)))
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
		write("items/000000000000000"+n+ext, string(b)+"TWPEND1\n")
	}
	write("items/0000000000000002.note", `{"attempts":3,"last_error":"refused"}`)
	write("items/0000000000000004.tmp", "TWPSPL1\nhal")
	write("sequence", "100000\n")
	s, err := Open(dir, Options{MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[ID]State{newID(1): StateQueued, newID(2): StateParked, newID(3): StateCarried} {
		it, err := s.Get(id)
		if err != nil || it.State != want || it.Meta.Attributes["k"] != "v" || id == newID(2) && it.LastError != "refused" {
			t.Errorf("%+v, %v", it, err)
		}
		if b, err := s.readAll(id); err != nil || string(b) != "hello" {
			t.Errorf("%q, %v", b, err)
		}
	}
	if again := mustPut(t, s, "new"); again <= newID(0xfffff) {
		t.Errorf("a new item has the number %s", again)
	}
	if err := errors.Join(s.Resolve(newID(3), Done(Receipt{})), s.Unpark(newID(2))); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		l, err := s.Next(ctx, "q")
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Done(Receipt{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := fs.Glob(os.DirFS(dir), "items/*")
	if err != nil || len(left) != 0 {
		t.Errorf("%q are left, %v", left, err)
	}
}
