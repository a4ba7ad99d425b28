package receipts_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/towpath/towpath/gateway/receipts"
)

func key() []byte { return bytes.Repeat([]byte{7}, receipts.KeySize) }

func open(t testing.TB, dir string, o receipts.Options) *receipts.Journal {
	t.Helper()
	j, err := receipts.Open(dir, key(), o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func entry(n int) receipts.Entry {
	return receipts.Entry{
		At: time.Unix(int64(n), 0).UTC(), Taken: time.Unix(int64(n)-1, 0).UTC(), Queue: "dicom.pacs", Item: fmt.Sprint(n), Size: int64(n),
		SHA256: strings.Repeat(fmt.Sprintf("%02x", n%256), 32), Code: "0000", Peer: "PACS", Signed: []byte(fmt.Sprint("SIGNED", n)),
	}
}

func add(t testing.TB, j *receipts.Journal, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := j.Append(entry(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t testing.TB, j *receipts.Journal) ([]receipts.Entry, receipts.Summary) {
	t.Helper()
	var got []receipts.Entry
	s, err := j.Walk(t.Context(), func(e receipts.Entry) error { got = append(got, e); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return got, s
}

func same(a, b receipts.Entry) bool {
	a.Seq, a.Hash, b.Seq, b.Hash = 0, "", 0, ""
	return fmt.Sprint(a) == fmt.Sprint(b)
}

// TestWhatWasWrittenIsRead goes over files and restarts, one of them after a power cut in the middle of a line.
func TestWhatWasWrittenIsRead(t *testing.T) {
	dir := t.TempDir()
	o := receipts.Options{FileBytes: 2000}
	for life := range 4 {
		j := open(t, dir, o)
		add(t, j, life*10+1, life*10+10)
		got, s := read(t, j)
		if s.Broken != "" || len(got) != life*10+10 || s.First != 1 || s.Last != uint64(len(got)) || s.Receipts != len(got) || s.Hash != got[len(got)-1].Hash {
			t.Fatalf("life %d: %+v", life, s)
		}
		for i, e := range got {
			if !same(e, entry(i+1)) || e.Seq != uint64(i+1) {
				t.Errorf("receipt %d is %+v", i+1, e)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if err := j.Append(entry(1)); err == nil {
			t.Error("a closed journal takes receipts")
		}
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || life == 3 && len(names) < 4 {
			t.Fatalf("%v, %v", names, err)
		}
		f, err := os.OpenFile(names[len(names)-1], os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.WriteString("0123 half a li")
		_ = f.Close()
		for _, name := range names {
			content, err := os.ReadFile(name)
			if err != nil || bytes.Contains(content, []byte("SIGNED")) || strings.Contains(string(content), entry(3).SHA256) {
				t.Errorf("%s says in the clear what identifies content (%v)", name, err)
			}
		}
	}
	if _, err := receipts.Open(dir, key()[1:], o); err == nil {
		t.Error("a short key was taken")
	}
	other, err := receipts.Open(dir, bytes.Repeat([]byte{8}, receipts.KeySize), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if got, s := read(t, other); !strings.Contains(s.Broken, "key") || got[0].SHA256 != "" || got[0].Queue == "" {
		t.Errorf("with another key: %+v", s)
	}
}

// TestPowerCut leaves what a power cut leaves of lines that were not synced: zeros at their end, or in their middle.
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, receipts.Options{})
	add(t, j, 1, 5)
	_ = j.Close()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n")) // the head is the first
	synced := len(bytes.Join(lines[:4], nil))
	for name, c := range map[string][]byte{
		"zeros at the end":    slices.Concat(whole[:synced], make([]byte, 300)),
		"a line and zeros":    slices.Concat(whole[:synced], lines[4], make([]byte, 300)),
		"zeros in the middle": slices.Concat(whole[:synced], make([]byte, len(lines[4])), lines[5]),
		"half a line":         slices.Concat(whole[:synced], lines[4][:20], make([]byte, len(lines[4])-20), lines[5]),
	} {
		if err := os.WriteFile(names[0], c, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, dir, receipts.Options{})
		before, _ := read(t, j)
		add(t, j, 6, 8)
		got, s := read(t, j)
		if s.Broken != "" || len(before) < 3 || len(before) > 4 || len(got) != len(before)+3 || !same(got[2], entry(3)) || !same(got[len(got)-1], entry(8)) {
			t.Errorf("%s: %d receipts, then %+v", name, len(before), s)
		}
		_ = j.Close()
	}
}

// TestPowerCutAtANewFile leaves an empty file, or one of zeros.
func TestPowerCutAtANewFile(t *testing.T) {
	for _, content := range []string{"", "\x00\x00\x00", "half a he"} {
		dir := t.TempDir()
		j := open(t, dir, receipts.Options{})
		add(t, j, 1, 3)
		_ = j.Close()
		if err := os.WriteFile(filepath.Join(dir, "0000000000000004.log"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		j = open(t, dir, receipts.Options{FileBytes: 100})
		add(t, j, 4, 6)
		if got, s := read(t, j); s.Broken != "" || len(got) != 6 {
			t.Errorf("%q: %d receipts, %+v", content, len(got), s)
		}
		_ = j.Close()
	}
}

// TestRemovalIsNoticed changes the files in the ways of somebody who wants a delivery not to have been, or to have been.
func TestRemovalIsNoticed(t *testing.T) {
	lines := func(c []byte) [][]byte { return bytes.SplitAfter(c, []byte("\n")) }
	for name, change := range map[string]func(dir string, names []string) error{
		"a line taken out": func(_ string, names []string) error {
			return edit(names[1], func(c []byte) []byte { l := lines(c); return bytes.Join(slices.Delete(l, 2, 3), nil) })
		},
		"two lines swapped": func(_ string, names []string) error {
			return edit(names[1], func(c []byte) []byte { l := lines(c); l[2], l[3] = l[3], l[2]; return bytes.Join(l, nil) })
		},
		"a line changed": func(_ string, names []string) error {
			return edit(names[1], func(c []byte) []byte { return bytes.Replace(c, []byte(`"code":"0000"`), []byte(`"code":"0001"`), 1) })
		},
		"a line twice": func(_ string, names []string) error {
			return edit(names[1], func(c []byte) []byte { l := lines(c); return bytes.Join(slices.Insert(l, 2, l[1]), nil) })
		},
		"a file taken out": func(_ string, names []string) error { return os.Remove(names[1]) },
		"a file emptied":   func(_ string, names []string) error { return os.Truncate(names[1], 0) },
		"the first lines of the first file": func(_ string, names []string) error {
			return edit(names[0], func(c []byte) []byte { return bytes.Join(lines(c)[2:], nil) })
		},
		"rubbish": func(_ string, names []string) error {
			return edit(names[1], func(c []byte) []byte { return append([]byte("rubbish\n"), c...) })
		},
	} {
		dir := t.TempDir()
		j := open(t, dir, receipts.Options{FileBytes: 2000})
		add(t, j, 1, 20)
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(names) < 3 {
			t.Fatal(names, err)
		}
		if err := change(dir, names); err != nil {
			t.Fatal(err)
		}
		if got, s := read(t, j); s.Broken == "" || len(got) == 0 {
			t.Errorf("%s was not noticed: %+v", name, s)
		}
		_ = j.Close()
	}
}

func edit(name string, change func([]byte) []byte) error {
	c, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, change(c), 0o600)
}

// TestBounds keeps the newest receipts, and the chain of what is left holds.
func TestBounds(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, receipts.Options{MaxBytes: 8000, FileBytes: 1000})
	add(t, j, 1, 200)
	got, s := read(t, j)
	if s.Broken != "" || s.Last != 200 || s.First < 150 || len(got) < 10 || s.Receipts != len(got) {
		t.Fatalf("%+v", s)
	}
	_ = j.Close()
	var size int64
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	for _, n := range names {
		info, err := os.Stat(n)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
		if err := os.Chtimes(n, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err != nil || size > 9500 {
		t.Fatalf("%d bytes are kept, %v", size, err)
	}
	j = open(t, dir, receipts.Options{MaxAge: time.Hour, FileBytes: 1000})
	defer func() { _ = j.Close() }()
	add(t, j, 201, 220)
	if _, s := read(t, j); s.Broken != "" || s.First < 195 || s.Last != 220 {
		t.Errorf("after a time: %+v", s)
	}
	big := entry(1)
	big.Signed = make([]byte, 9000)
	if err := j.Append(big); err == nil {
		t.Error("a signed receipt of 9000 bytes was taken")
	}
	stop := errors.New("enough")
	if _, err := j.Walk(t.Context(), func(receipts.Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the caller's error: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.Walk(ctx, func(receipts.Entry) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a walk that was called off: %v", err)
	}
}

// TestAnyBit flips one bit anywhere, and cuts the journal anywhere but at its end.
func TestAnyBit(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, receipts.Options{})
	add(t, j, 1, 12)
	defer func() { _ = j.Close() }()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(r *rapid.T) {
		at, bit := rapid.IntRange(0, len(whole)-2).Draw(r, "at"), rapid.IntRange(0, 7).Draw(r, "bit")
		changed := bytes.Clone(whole)
		changed[at] ^= 1 << bit
		if bytes.EqualFold(changed, whole) && isHash(whole, at) {
			return // a hexadecimal digit in the other case says the same
		}
		if err := os.WriteFile(names[0], changed, 0o600); err != nil {
			r.Fatal(err)
		}
		if _, s := read(t, j); s.Broken == "" {
			r.Fatalf("bit %d of byte %d: %q", bit, at, changed[max(at-5, 0):at+5])
		}
	})
}

// isHash reports whether a byte is in the hash of its line.
func isHash(content []byte, at int) bool { return at-bytes.LastIndexByte(content[:at], '\n') <= 64 }
