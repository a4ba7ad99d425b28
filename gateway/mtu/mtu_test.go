package mtu_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/gateway/mtu"
)

// through is what comes of an attempt on a way that carries so much.
func through(size, path int) mtu.Outcome {
	if size <= path {
		return mtu.Through
	}
	return mtu.Lost
}

// Whatever the way carries, the size ends at the largest of the ladder that gets through, and stays.
func TestTheSizeEndsWhereItGetsThrough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.IntRange(mtu.Least, 1500).Draw(t, "path")
		first := rapid.SampledFrom([]int{1280, 1420, 1500, 1300}).Draw(t, "first")
		f, now := mtu.New(first), time.Unix(1e9, 0)
		attempts := 0
		for !f.Sure() {
			if attempts++; attempts > 100 {
				t.Fatalf("the way carries %d, and the size is %d after 100 attempts", path, f.Size())
			}
			o := through(f.Size(), path)
			if rapid.IntRange(0, 5).Draw(t, "nobody answers") == 0 {
				o = mtu.Unknown
			}
			now = now.Add(f.Take(o, now))
		}
		if f.Size() > path || f.Size() > first || f.Lowered().IsZero() != (f.Size() == first) {
			t.Fatalf("the way carries %d: size %d of %d, lowered since %v", path, f.Size(), first, f.Lowered())
		}
		if found := f.Size(); path-found > 200 && found != first {
			t.Fatalf("the way carries %d, and the size is %d", path, found)
		}
		for found := f.Size(); now.Sub(f.Lowered()) < mtu.Anew-time.Hour && !f.Lowered().IsZero(); {
			if now = now.Add(f.Take(through(f.Size(), path), now)); f.Size() != found {
				t.Fatalf("the size went from %d to %d by itself", found, f.Size())
			}
		}
	})
}

func TestOneLossIsNone(t *testing.T) {
	f, now := mtu.New(1280), time.Unix(1e9, 0)
	for range 20 {
		for _, o := range []mtu.Outcome{mtu.Lost, mtu.Through, mtu.Lost, mtu.Unknown} {
			f.Take(o, now)
		}
	}
	if f.Size() != 1280 || !f.Lowered().IsZero() {
		t.Errorf("size %d since %v, and large packets were never lost twice in a row", f.Size(), f.Lowered())
	}
	for o, want := range map[mtu.Outcome]time.Duration{mtu.Unknown: mtu.Later, mtu.Through: mtu.Every, mtu.Lost: mtu.Soon} {
		if got := mtu.New(1280).Take(o, now); got != want {
			t.Errorf("after outcome %d the next attempt is due in %v, want %v", o, got, want)
		}
	}
}

// A day later, and in another network, the first size is tried again.
func TestTheFirstSizeIsTriedAgain(t *testing.T) {
	f, now := mtu.New(1280), time.Unix(1e9, 0)
	down := func() {
		for range mtu.Misses {
			f.Take(mtu.Lost, now)
		}
	}
	down()
	if f.Size() != 1200 || f.Lowered() != now {
		t.Fatalf("size %d since %v", f.Size(), f.Lowered())
	}
	now = now.Add(mtu.Anew)
	f.Take(mtu.Through, now)
	if f.Size() != 1280 || !f.Lowered().IsZero() || f.Sure() {
		t.Errorf("a day later: size %d since %v", f.Size(), f.Lowered())
	}
	down()
	f.Moved()
	if f.Size() != 1280 || !f.Lowered().IsZero() {
		t.Errorf("in another network: size %d since %v", f.Size(), f.Lowered())
	}
}

// If not even the least gets through, it is not the size.
func TestBelowTheLeastItIsSomethingElse(t *testing.T) {
	f, now := mtu.New(1280), time.Unix(1e9, 0)
	for f.Size() > mtu.Least {
		f.Take(mtu.Lost, now)
	}
	for range mtu.Misses {
		f.Take(mtu.Lost, now)
	}
	if f.Size() != 1280 || !f.Lowered().IsZero() {
		t.Errorf("size %d since %v", f.Size(), f.Lowered())
	}
}
