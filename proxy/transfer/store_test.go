package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func numbered(t *testing.T, k Kind, n int) Receipt {
	t.Helper()
	r := sample()
	r.Kind, r.ID = k, fmt.Sprintf("item-%d", n)
	r, err := r.sign(testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What was appended is there after a restart; a torn end is cut off; what is forgotten leaves no bytes.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := j.addReceipt(numbered(t, Taken, i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	k := func(i int) key { return numbered(t, Taken, i).key() }
	must(j.addReceipt(numbered(t, Accepted, 1)))
	must(j.addReceipt(numbered(t, Parked, 2)))
	must(j.settle(k(2)))
	must(j.forget(k(3)))
	must(j.addReceipt(numbered(t, Parked, 4)))
	must(j.settle(k(4)))
	must(j.addReceipt(numbered(t, Taken, 4))) // due again
	must(j.close())
	path := filepath.Join(dir, "journal")
	whole, err := os.ReadFile(path)
	must(err)
	must(os.WriteFile(path, append(whole, whole[:100]...), 0o600))
	for range 2 { // the second reads what the first has written anew
		j, err = openJournal(dir)
		must(err)
		if j.count() != 49 {
			t.Fatalf("%d entries", j.count())
		}
		if _, ok := j.get(k(3)); ok {
			t.Error("a forgotten entry is back")
		}
		e1, _ := j.get(k(1))
		e2, _ := j.get(k(2))
		e4, _ := j.get(k(4))
		if e1.final.Kind != Accepted || e1.settled || e2.final.Kind != Parked || !e2.settled || e4.final.Kind != 0 || e4.settled || e4.taken.Kind != Taken {
			t.Errorf("%v %v %v", e1, e2, e4)
		}
		if f := j.finals("clinic"); len(f) != 1 || f[0].ID != "item-1" {
			t.Errorf("finals %v", f)
		}
		if f := j.finals("another"); len(f) != 0 {
			t.Errorf("finals %v", f)
		}
		must(j.close())
	}
	if j.addReceipt(numbered(t, Taken, 99)) == nil {
		t.Error("a closed journal writes")
	}
}

// The file does not grow with what passes through, only with what is there.
func TestJournalIsCompacted(t *testing.T) {
	j, err := openJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	r := numbered(t, Taken, 1)
	r.Reason = strings.Repeat("x", MaxText)
	if r, err = r.sign(testKey(1)); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		var batch []byte
		k := r.key()
		for range 2000 {
			batch = appendRecord(appendRecord(batch, recordReceipt, r.canonical), recordForget, k[:])
		}
		if err := j.append(batch); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(j.path); err != nil || info.Size() > compactAt+4<<20 {
		t.Errorf("%v, %v", info.Size(), err)
	}
}

// A partial item goes on where it was synced, and nothing of it can be read from the disk.
func TestPartialFile(t *testing.T) {
	dir, secret := t.TempDir(), bytes.Repeat([]byte{3}, 32)
	open := func(secret []byte, limit int64) *partFolder {
		t.Helper()
		p, err := openPartFolder(dir, secret, limit, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	payload := bytes.Repeat([]byte("patient "), 4000)
	k, n := Origin{Node: "a"}.key(), int64(len(payload))
	p := open(secret, 1<<20)
	f, err := p.open(k, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 7001, 7000, 16000} { // any order, any place
		end := min(at+9000, n)
		if err := f.writeAt(payload[at:end], at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.sync(16000); err != nil {
		t.Fatal(err)
	}
	if err := f.sync(25000); err != nil {
		t.Fatal(err)
	}
	f.close(false)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, files[0].Name()))
	if err != nil || bytes.Contains(raw, []byte("patient")) {
		t.Errorf("the payload is readable: %v", err)
	}
	if f, err = open(secret, 1<<20).open(k, n); err != nil || f.synced != 25000 {
		t.Fatalf("synced to %d: %v", f.synced, err)
	}
	got := make([]byte, 25000)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, payload[:25000]) {
		t.Errorf("other bytes: %v", err)
	}
	f.close(false)
	if f, err = open(secret, 1<<20).open(k, n+1); err != nil || f.synced != 0 {
		t.Errorf("another length goes on at %d: %v", f.synced, err)
	}
	f.close(true)
	if files, _ = os.ReadDir(dir); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
}

// Old parts make room for new ones, those in use do not; without a secret nothing outlives the program; junk is removed.
func TestPartialFolder(t *testing.T) {
	dir, secret := t.TempDir(), bytes.Repeat([]byte{3}, 32)
	p, err := openPartFolder(dir, secret, 1000, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	keys := []key{{1}, {2}, {3}}
	var files []*partFile
	for _, k := range keys[:2] {
		f, err := p.open(k, 500)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if _, err := p.open(keys[2], 500); !errors.Is(err, ErrFull) {
		t.Errorf("more than allowed: %v", err)
	}
	files[0].close(false)
	f, err := p.open(keys[2], 500)
	if err != nil {
		t.Fatal(err)
	}
	f.close(false)
	files[1].close(false)
	if p.files[keys[0]] != nil || p.used != 1000 {
		t.Errorf("%d bytes, %v", p.used, p.files)
	}
	if err := os.WriteFile(filepath.Join(dir, "junk.part"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err = openPartFolder(dir, secret, 1000, time.Hour); err != nil || len(p.files) != 2 || p.used != 1000 {
		t.Errorf("%v %v", p.files, err)
	}
	if p, err = openPartFolder(dir, nil, 1000, time.Hour); err != nil || len(p.files) != 0 || p.used != 0 {
		t.Errorf("%v %v", p.files, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
