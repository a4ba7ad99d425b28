package history_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/gateway/history"
)

func key(t testing.TB, seed byte) history.Key {
	t.Helper()
	k, err := history.NewKey(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func open(t testing.TB, dir string, o history.Options) *history.History {
	t.Helper()
	h, err := history.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// event is a step of one of some objects.
func event(t *rapid.T, k history.Key, now time.Time, i int) history.Event {
	object := rapid.IntRange(0, 9).Draw(t, "object")
	return history.Event{
		Step: history.Step(rapid.IntRange(1, 6).Draw(t, "step")), At: now.Add(time.Duration(i) * time.Millisecond).UTC(),
		Queue: rapid.SampledFrom([]string{"dicom.pacs", "in.pacs", strings.Repeat("q", 96)}).Draw(t, "queue"), Item: uint64(object), Size: int64(object) << 33,
		Object: k.Object(fmt.Sprint("1.2.", object)), Study: k.Study(fmt.Sprint("1.", object%3)), Attempts: rapid.IntRange(0, 65535).Draw(t, "attempts"),
		Calling: rapid.SampledFrom([]string{"", "CT1", "SIXTEEN_LETTERS_"}).Draw(t, "calling"), Association: rapid.StringMatching(`[A-Z2-7]{0,16}`).Draw(t, "association"),
		Source: rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("192.168.1.50"), netip.MustParseAddr("fd00::1")}).Draw(t, "source"),
		Code:   rapid.SampledFrom([]string{"", "0000", "B000"}).Draw(t, "code"), Peer: rapid.SampledFrom([]string{"", "PACS", "node_c"}).Draw(t, "peer"),
	}
}

// eventFiles are those of a history, oldest first, with their content.
func eventFiles(t testing.TB, dir string) (names []string, all []byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.events"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return names, all
}

// TestCutAnywhere: wherever a crash cuts the events off, or flips a bit, what is read is what was written there and nothing else, what comes afterwards is
// kept, and so on through several crashes.
func TestCutAnywhere(t *testing.T) {
	base := t.TempDir()
	n := 0
	k := key(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		now := time.Now().Truncate(time.Millisecond)
		var kept []history.Event // what must be there, by their order
		flipped := 0
		for i := range rapid.IntRange(1, 4).Draw(t, "lives") {
			h, err := history.Open(dir, history.Options{})
			if err != nil {
				t.Fatal(err)
			}
			before := len(kept)
			for range rapid.IntRange(0, 20).Draw(t, "events") {
				e := event(t, k, now, i*100+len(kept))
				if err := h.Append(e); err != nil {
					t.Fatal(err)
				}
				kept = append(kept, e)
			}
			names, err := filepath.Glob(filepath.Join(dir, "*.events"))
			if err != nil || len(names) == 0 {
				t.Fatal(names, err)
			}
			last := names[len(names)-1]
			written := len(kept) - before
			// Half of the processes die; the others close, and what was saved of the studies may then be ahead of a cut file.
			if rapid.Bool().Draw(t, "close") {
				if err := h.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if written == 0 {
				continue
			}
			switch rapid.IntRange(0, 2).Draw(t, "crash") {
			case 0:
				at := rapid.IntRange(0, written*256).Draw(t, "cut")
				if err := os.Truncate(last, int64(at)); err != nil {
					t.Fatal(err)
				}
				kept = kept[:before+at/256]
			case 1:
				b, err := os.ReadFile(last)
				if err != nil {
					t.Fatal(err)
				}
				at := rapid.IntRange(0, len(b)-1).Draw(t, "bit")
				b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "which")
				if err := os.WriteFile(last, b, 0o600); err != nil {
					t.Fatal(err)
				}
				kept = slices.Delete(kept, before+at/256, before+at/256+1)
				flipped++
			}
		}
		h, err := history.Open(dir, history.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.Close() }()
		for object := range 10 {
			hash := k.Object(fmt.Sprint("1.2.", object))
			var want []history.Event
			for _, e := range kept {
				if e.Object == hash {
					want = append(want, e)
				}
			}
			got, damaged, err := h.Find(hash)
			if err != nil || damaged < flipped {
				t.Fatalf("%d damaged of %d, %v", damaged, flipped, err)
			}
			if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
				t.Fatalf("object %d: found\n%+v\nwant\n%+v", object, got, want)
			}
		}
	})
}

// TestFindByItem: steps of an item whose key was away belong to the object all the same.
func TestFindByItem(t *testing.T) {
	k := key(t, 1)
	h := open(t, t.TempDir(), history.Options{})
	defer func() { _ = h.Close() }()
	for _, e := range []history.Event{
		{Step: history.Taken, At: time.Now(), Queue: "dicom.pacs", Item: 7, Object: k.Object("1.2.3")},
		{Step: history.Taken, At: time.Now(), Queue: "in.pacs", Item: 7, Object: k.Object("1.2.4")},
		{Step: history.Delivered, At: time.Now(), Queue: "dicom.pacs", Item: 7},
		{Step: history.Delivered, At: time.Now(), Queue: "in.pacs", Item: 7},
		{Step: history.Delivered, At: time.Now(), Queue: "dicom.pacs", Item: 8},
	} {
		if err := h.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	got, _, err := h.Find(k.Object("1.2.3"))
	if err != nil || len(got) != 2 || got[1].Step != history.Delivered || got[1].Queue != "dicom.pacs" {
		t.Errorf("found %+v, %v", got, err)
	}
	for _, none := range []history.Hash{{}, k.Object("1.2.5"), k.Study("1.2.3"), key(t, 2).Object("1.2.3")} {
		if got, _, err := h.Find(none); err != nil || len(got) != 0 {
			t.Errorf("found %+v, %v of what is not there", got, err)
		}
	}
}

// TestBounds: the newest events are there, and the disk does not fill.
func TestBounds(t *testing.T) {
	dir, k := t.TempDir(), key(t, 1)
	h := open(t, dir, history.Options{MaxEvents: 200})
	for i := range 1000 {
		e := history.Event{Step: history.Taken, At: time.Now(), Queue: "dicom.pacs", Item: uint64(i), Object: k.Object(fmt.Sprint(i)), Study: k.Study("1")}
		if err := h.Append(e); err != nil {
			t.Fatal(err)
		}
		if i%250 == 249 { // restarts neither lose nor add
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			h = open(t, dir, history.Options{MaxEvents: 200})
		}
	}
	defer func() { _ = h.Close() }()
	if _, all := eventFiles(t, dir); len(all) > 200*256 || len(all) < 180*256 {
		t.Errorf("%d events are kept", len(all)/256)
	}
	for i := range 1000 {
		got, _, err := h.Find(k.Object(fmt.Sprint(i)))
		if err != nil || i >= 1000-180 && len(got) != 1 || i < 800 && len(got) != 0 {
			t.Fatalf("object %d: %d events, %v", i, len(got), err)
		}
	}
	if s := h.Studies(); len(s) != 1 || s[0].Objects != 1000 {
		t.Errorf("the study is %+v", s)
	}
}

// TestStudies sums up over a crash and an orderly end, and forgets the oldest.
func TestStudies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, k := t.TempDir(), key(t, 1)
		opts := history.Options{MaxStudies: 3}
		h := open(t, dir, opts)
		add := func(step history.Step, study, association string, size int64) {
			t.Helper()
			e := history.Event{
				Step: step, At: time.Now(), Queue: "dicom.pacs", Study: k.Study(study), Size: size, Calling: "CT1", Source: netip.MustParseAddr("192.168.1.50"), Association: association,
			}
			if err := h.Append(e); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		first := time.Now()
		add(history.Taken, "a", "A1", 100)
		add(history.Taken, "a", "A1", 50)
		h = open(t, dir, opts) // the process died
		add(history.Taken, "a", "A2", 1)
		add(history.Delivered, "a", "A2", 1)
		add(history.Carried, "a", "A2", 1)
		add(history.Parked, "a", "A1", 50)
		add(history.Dropped, "a", "A1", 50)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		h = open(t, dir, opts)
		want := history.Study{
			Queue: "dicom.pacs", Study: k.Study("a"), Associations: 2, Objects: 3, Bytes: 151, Delivered: 1, Dropped: 1, First: first, Last: first.Add(6 * time.Minute),
			Callers: []string{"CT1 at 192.168.1.50"},
		}
		got := h.Studies()
		if len(got) != 1 || !got[0].First.Equal(want.First) || !got[0].Last.Equal(want.Last) {
			t.Fatalf("the studies are %+v", got)
		}
		if fmt.Sprintf("%+v", withoutTimes(got[0])) != fmt.Sprintf("%+v", withoutTimes(want)) {
			t.Errorf("the study is\n%+v, not\n%+v", got[0], want)
		}
		add(history.Taken, "a", "A2", 1)
		if s := h.Studies(); s[0].Associations != 2 || s[0].Objects != 4 {
			t.Errorf("an association that goes on counts again: %+v", s[0])
		}
		for _, s := range []string{"b", "c", "d", "e"} {
			add(history.Taken, s, s, 1)
		}
		if s := h.Studies(); len(s) != 3 || s[0].Study != k.Study("e") || s[2].Study != k.Study("c") {
			t.Errorf("of five studies there are %+v", s)
		}
		time.Sleep(31 * 24 * time.Hour)
		if s := h.Studies(); len(s) != 0 {
			t.Errorf("after a month there are %+v", s)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if err := h.Append(history.Event{Step: history.Taken}); err == nil {
			t.Error("a closed history takes an event")
		}
	})
}

func withoutTimes(s history.Study) history.Study {
	return history.Study{Queue: s.Queue, Study: s.Study, Associations: s.Associations, Objects: s.Objects, Bytes: s.Bytes, Delivered: s.Delivered, Dropped: s.Dropped, Callers: s.Callers}
}

// TestNothingOfAUID: what is on the disk and what prints holds neither a UID nor the key.
func TestNothingOfAUID(t *testing.T) {
	const object, study = "1.2.840.99999.4711.1", "1.2.840.99999.4711"
	dir := t.TempDir()
	k, err := history.NewKey([]byte("SECRET-SECRET-SECRET-SECRET-SECR"))
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, dir, history.Options{})
	if err := h.Append(history.Event{Step: history.Taken, At: time.Now(), Queue: "dicom.pacs", Object: k.Object(object), Study: k.Study(study)}); err != nil {
		t.Fatal(err)
	}
	printed := fmt.Sprintf("%v %+v %#v %s %v", k, k, k, k.Study(study), h.Studies())
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) < 2 {
		t.Fatalf("files %v, %v", names, err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		printed += string(b)
	}
	for _, bad := range []string{"99999", "4711", "SECRET"} {
		if strings.Contains(printed, bad) {
			t.Errorf("%q is there", bad)
		}
	}
	if s := k.Study(study).String(); len(s) != 16 || s == k.Object(study).String() {
		t.Errorf("the study is shown as %q, an object of that UID as %q", s, k.Object(study))
	}
	if _, err := history.NewKey([]byte("short")); err == nil {
		t.Error("a short key is taken")
	}
}

func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	h := open(f, dir, history.Options{})
	k := key(f, 1)
	for i := range 3 {
		if err := h.Append(history.Event{Step: history.Taken, At: time.Unix(int64(i), 0), Queue: "dicom.pacs", Object: k.Object("1.2"), Calling: "CT1"}); err != nil {
			f.Fatal(err)
		}
	}
	_, all := eventFiles(f, dir)
	f.Add(all)
	f.Add(all[:300])
	f.Add([]byte("TWH1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		damaged, err := history.Read(bytes.NewReader(b), func(i uint64, e history.Event) error {
			n++
			if i >= uint64(len(b)/256) || len(e.Queue) > 96 || len(e.Calling) > 16 || e.Step.String() == "unknown" {
				t.Errorf("record %d of %d bytes: %+v", i, len(b), e)
			}
			return nil
		})
		if err != nil || n+damaged != (len(b)+255)/256 {
			t.Errorf("%d events, %d damaged of %d bytes: %v", n, damaged, len(b), err)
		}
	})
}
