package spool

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestPowerCutsWhileMending damages a journal and cuts the power, or has the disk fail once, at each operation of the start that sets the damage aside. Nothing that is sound is lost then, and the damage is told.
func TestPowerCutsWhileMending(t *testing.T) {
	for _, cut := range []bool{true, false} {
		for at := 1; ; at++ {
			v := newMemVolume()
			o := Options{segmentSize: 1500}
			s := mustOpen(t, v, o)
			var ids []ID
			for range 20 {
				ids = append(ids, mustPut(t, s, strings.Repeat("sound", 30)))
			}
			if err := mustLease(t, s).Done(Receipt{}); err != nil {
				t.Fatal(err)
			}
			names := v.files(journalDir)
			n := v.entries[journalDir+"/"+names[1]]
			n.content[len(n.content)/2] ^= 1
			n.synced = slices.Clone(n.content)

			v.ops = nil
			if cut {
				v.cutAt = at
			} else {
				v.fail = func(string) error {
					if len(v.ops) == at {
						return syscall.EIO
					}
					return nil
				}
			}
			s, err := open(v, o)
			struck := len(v.ops) >= at || err != nil
			if err == nil {
				_ = s.Close()
			}
			v.fail, v.cutAt = nil, 0
			if cut {
				v = v.crash(rand.New(rand.NewPCG(uint64(at), 1)))
			}
			for range 2 {
				s = mustOpen(t, v, o)
				missing := 0
				for _, id := range ids[1:] {
					if b, err := s.readAll(id); err != nil || !strings.HasPrefix(string(b), "sound") {
						missing++
					}
				}
				if missing > 1 || s.quarantined == 0 || s.quarantined > 2 || s.Holds(ids[0]) {
					t.Fatalf("cut %v at %d: %d items are missing, %d set aside, the delivered one is back: %v\n%s",
						cut, at, missing, s.quarantined, s.Holds(ids[0]), strings.Join(v.ops, "\n"))
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if !struck {
				break
			}
		}
	}
}

// TestBadSector cannot read a part of a segment: what is elsewhere in it is delivered, and the segment is kept as it is.
func TestBadSector(t *testing.T) {
	v := newMemVolume()
	s := mustOpen(t, v, Options{})
	var ids []ID
	for range 30 {
		ids = append(ids, mustPut(t, s, strings.Repeat("x", 1000)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name := journalDir + "/" + v.files(journalDir)[0]
	whole := slices.Clone(v.entries[name].content)
	v.unreadable = func(n string, from, to int64) error {
		if n == name && from < 9000 && to > 8900 {
			return syscall.EIO
		}
		return nil
	}
	s = mustOpen(t, v, Options{})
	missing := 0
	for _, id := range ids {
		if _, err := s.readAll(id); err != nil {
			missing++
		}
	}
	if missing == 0 || missing > 5 || s.quarantined != 1 { // a block is 4 KiB
		t.Errorf("%d items are missing, %d set aside", missing, s.quarantined)
	}
	if aside := v.entries[quarantineDir+"/"+v.files(quarantineDir)[0]]; !slices.Equal(aside.content, whole) {
		t.Error("what was set aside is not what there was")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	v.unreadable = func(string, int64, int64) error { return syscall.EMFILE }
	if _, err := open(v, Options{}); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("without means to read, %v", err)
	}
}

// TestCompactionWaitsForTheDisk cannot read the oldest segment for a while: nothing is lost, and later it is made smaller after all.
func TestCompactionWaitsForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newMemVolume()
		o := Options{segmentSize: 1500}
		s := mustOpen(t, v, o)
		stays := mustPut(t, s, "stays")
		l := mustLease(t, s)
		oldest := v.files(journalDir)[0][:idLength]
		v.unreadable = func(name string, _, to int64) error {
			if strings.HasPrefix(name, journalDir+"/"+oldest) && to > 0 {
				return syscall.EIO
			}
			return nil
		}
		pass := func() {
			for range 30 {
				id := mustPut(t, s, strings.Repeat("x", 300))
				if err := s.Drop(id); err != nil {
					t.Fatal(err)
				}
			}
		}
		pass()
		if n := len(v.files(journalDir)); n < 6 {
			t.Fatalf("%d segments", n)
		}
		v.unreadable = nil
		time.Sleep(cleanPause + 1)
		pass()
		pass()
		if n := len(v.files(journalDir)); n > 5 {
			t.Errorf("%d segments are left", n)
		}
		if err := l.Retry(ErrCalledOff); err != nil {
			t.Fatal(err)
		}
		if b, err := s.readAll(stays); err != nil || string(b) != "stays" {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// TestKilledAndThenCutOff has a process killed between a write and its sync. The next one finds the item and counts on it, so it must be there after a power cut, too.
func TestKilledAndThenCutOff(t *testing.T) {
	v := newMemVolume()
	s := mustOpen(t, v, Options{})
	id := mustPut(t, s, "x")
	v.entries[journalDir+"/"+v.files(journalDir)[0]].synced = nil
	s = mustOpen(t, v, Options{})
	if !s.Holds(id) {
		t.Fatal("it was whole")
	}
	for seed := range uint64(20) {
		s = mustOpen(t, v.crash(rand.New(rand.NewPCG(seed, 1))), Options{})
		if b, err := s.readAll(id); err != nil || string(b) != "x" {
			t.Fatalf("%q, %v", b, err)
		}
	}
}
