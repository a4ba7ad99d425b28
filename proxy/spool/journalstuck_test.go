package spool

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestJournalHole loses any part of what was not synced when the machine stopped, the mark behind the group before included: that is half
// written, and not damage, and nothing that was synced is dropped for it.
func TestJournalHole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const salt = 777
		b, records := segmentOf(salt, drawGroups(t))
		synced := int64(len(b))
		b = appendRecord(b, record{kind: recordMarked, ext: extQueued, id: newID(0), salt: salt, group: synced}, nil)
		for i, body := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 60), 1, 4).Draw(t, "last group") {
			b = appendRecord(b, record{kind: recordItem, ext: extQueued, id: newID(uint64(100 + i)), salt: salt, group: synced}, body)
		}
		from := rapid.IntRange(int(synced), len(b)).Draw(t, "from")
		to := rapid.IntRange(from, len(b)).Draw(t, "to")
		clear(b[from:to])
		c, err := readContents(b, salt, -1)
		if err != nil || len(c.damaged) != 0 || c.end < synced {
			t.Fatalf("%v: synced are %d bytes, it ends at %d, damaged %v", err, synced, c.end, c.damaged)
		}
		if len(c.records) < len(records) || !slices.Equal(c.records[:len(records)], records) {
			t.Fatalf("%d records of %d", len(c.records), len(records))
		}
	})
}

// TestSectorGoesBadUnderCompaction cannot read an item in the oldest segment any more, for good. The journal does not grow for it; the others of that
// segment are there, and the segment is set aside as it is.
func TestSectorGoesBadUnderCompaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newMemVolume()
		o := Options{segmentSize: 1500, Backoff: Backoff{Min: time.Second, Max: time.Second}}
		s := mustOpen(t, v, o)
		bad, good := mustPut(t, s, "bad"), mustPut(t, s, "good")
		for range 2 {
			if err := mustLease(t, s).Park(errors.New("no")); err != nil {
				t.Fatal(err)
			}
		}
		at := s.entries[bad].at
		oldest := v.files(journalDir)[0][:idLength]
		v.unreadable = func(name string, from, to int64) error {
			if strings.HasPrefix(name, journalDir+"/"+oldest) && from <= at && to > at {
				return syscall.EIO
			}
			return nil
		}
		pass := func() {
			for range 30 {
				if err := s.Drop(mustPut(t, s, strings.Repeat("x", 300))); err != nil {
					t.Fatal(err)
				}
			}
		}
		pass()
		if s.quarantined != 0 {
			t.Fatal("the first attempt is not the last")
		}
		time.Sleep(cleanPause + 1)
		pass()
		if n := len(v.files(journalDir)); n > 5 || s.quarantined != 1 || !strings.HasPrefix(v.files(quarantineDir)[0], oldest) {
			t.Fatalf("%d segments, %d set aside", n, s.quarantined)
		}
		if b, err := s.readAll(good); err != nil || string(b) != "good" {
			t.Errorf("%q, %v", b, err)
		}
		if err := s.Unpark(bad); err != nil {
			t.Fatal(err)
		}
		later := mustPut(t, s, "later")
		if l := mustLease(t, s); l.Item().ID != later || s.Holds(bad) || s.quarantined != 2 {
			t.Errorf("leased %s, the unreadable one is there: %v, %d set aside", l.Item().ID, s.Holds(bad), s.quarantined)
		}
	})
}

// TestDamagedAndNowhereToPutIt cannot copy a damaged item: it goes with its segment, and holds up nothing.
func TestDamagedAndNowhereToPutIt(t *testing.T) {
	v := newMemVolume()
	o := Options{segmentSize: 1500}
	s := mustOpen(t, v, o)
	bad := mustPut(t, s, "bad")
	oldest := v.files(journalDir)[0][:idLength]
	v.entries[journalDir+"/"+v.files(journalDir)[0]].content[s.entries[bad].at] ^= 1
	good := mustPut(t, s, "good")
	v.fail = func(op string) error {
		if strings.HasPrefix(op, "create "+quarantineDir) {
			return syscall.ENOSPC
		}
		return nil
	}
	if l := mustLease(t, s); l.Item().ID != good || s.quarantined != 0 {
		t.Fatalf("leased %s, %d set aside", l.Item().ID, s.quarantined)
	}
	for range 30 {
		if err := s.Drop(mustPut(t, s, strings.Repeat("x", 300))); err != nil {
			t.Fatal(err)
		}
	}
	aside := v.files(quarantineDir)
	if n := len(v.files(journalDir)); n > 5 || len(aside) != 1 || !strings.HasPrefix(aside[0], oldest) {
		t.Fatalf("%d segments; %q are set aside", n, aside)
	}
	if b, err := s.Payload(good); err != nil {
		t.Errorf("%v, %v", b, err)
	}
}

// TestDamageStaysWhenItCannotBeMended has a start that finds damage and no space to copy what is sound: when all that is sound is delivered, the damaged
// segment is set aside all the same, and not removed.
func TestDamageStaysWhenItCannotBeMended(t *testing.T) {
	v := newMemVolume()
	s := mustOpen(t, v, Options{})
	bad, good := mustPut(t, s, "bad"), mustPut(t, s, "good")
	at := s.entries[bad].at
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name := v.files(journalDir)[0]
	v.entries[journalDir+"/"+name].content[at] ^= 1
	v.fail = func(op string) error {
		if strings.HasPrefix(op, "write "+journalDir) && strings.HasSuffix(op, extTemporary) {
			return syscall.ENOSPC
		}
		return nil
	}
	s = mustOpen(t, v, Options{})
	if l := mustLease(t, s); l.Item().ID != good || l.Done(Receipt{}) != nil || s.Holds(bad) {
		t.Fatalf("leased %s; the damaged one is there: %v", l.Item().ID, s.Holds(bad))
	}
	mustPut(t, s, "another")
	if aside := v.files(quarantineDir); len(aside) != 1 || !strings.HasPrefix(aside[0], name[:idLength]) || slices.Contains(v.files(journalDir), name) {
		t.Errorf("%q are set aside, %q left", aside, v.files(journalDir))
	}
}

// TestSegmentsStaySmall copies long parked items again and again: no segment becomes much larger than one may, since a start reads each whole.
func TestSegmentsStaySmall(t *testing.T) {
	v := newMemVolume()
	o := Options{segmentSize: 3 << 20}
	s := mustOpen(t, v, o)
	payload := strings.Repeat("x", 60<<10)
	for range 48 {
		mustPut(t, s, payload)
		if err := mustLease(t, s).Park(errors.New("no")); err != nil {
			t.Fatal(err)
		}
	}
	for range 160 {
		if err := s.Drop(mustPut(t, s, payload)); err != nil {
			t.Fatal(err)
		}
		for name, node := range v.entries {
			if limit := o.segmentSize + groupSize + maxImage + 1000; strings.HasPrefix(name, journalDir) && int64(len(node.content)) > limit {
				t.Fatalf("a segment of %d bytes", len(node.content))
			}
		}
	}
	if st := s.Stats(); len(st) != 1 || st[0].Parked != 48 {
		t.Errorf("%+v", st)
	}
}

// TestSegmentsGoOneAfterTheOther syncs each removal before the next: a later segment says what is gone of earlier ones.
func TestSegmentsGoOneAfterTheOther(t *testing.T) {
	v := newMemVolume()
	s := mustOpen(t, v, Options{segmentSize: 500})
	var ids []ID
	for range 10 {
		ids = append(ids, mustPut(t, s, strings.Repeat("x", 300)))
	}
	v.ops = nil
	for _, id := range slices.Backward(ids) { // so that many go at once
		if err := s.Drop(id); err != nil {
			t.Fatal(err)
		}
	}
	removed := 0
	for i, op := range v.ops {
		if strings.HasPrefix(op, "remove "+journalDir) {
			removed++
			if i+1 == len(v.ops) || v.ops[i+1] != "sync "+journalDir {
				t.Errorf("%q is not synced", op)
			}
		}
	}
	if removed < 5 {
		t.Errorf("%d segments were removed", removed)
	}
}
