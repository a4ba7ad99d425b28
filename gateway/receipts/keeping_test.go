package receipts

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDiskFails has writes, syncs and new files fail for a while: nothing is lost, and the chain holds.
func TestDiskFails(t *testing.T) {
	for name, spoil := range map[string]func(j *Journal){
		"write": func(j *Journal) { // as a full disk does, after half a line
			_, _ = j.file.WriteString("half a li")
			j.file = reopen(t, j, os.O_RDONLY)
			j.torn = true
		},
		"next file": func(j *Journal) { j.opts.FileBytes = 1; j.dir += "/gone" },
	} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			j, err := Open(dir, bytes.Repeat([]byte{7}, KeySize), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := j.Append(Entry{Item: "1", Queue: "q"}); err != nil {
				t.Fatal(err)
			}
			spoil(j)
			for _, item := range []string{"2", "3"} {
				if err := j.Append(Entry{Item: item, Queue: "q"}); err == nil {
					t.Errorf("%s: no error for %s", name, item)
				}
			}
			j.mu.Lock()
			if j.dir = dir; name == "write" {
				j.file = reopen(t, j, os.O_WRONLY)
			}
			j.mu.Unlock()
			time.Sleep(tryEvery + 300*time.Millisecond)
			if err := j.Append(Entry{Item: "4", Queue: "q"}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			items := ""
			s, err := j.Walk(t.Context(), func(e Entry) error { items += e.Item; return nil })
			if err != nil || s.Broken != "" || items != "1234" {
				t.Errorf("%s: %q, %+v, %v", name, items, s, err)
			}
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func reopen(t *testing.T, j *Journal, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(j.file.Name(), flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = j.file.Close()
	return f
}

// TestSyncFails takes back what a failed sync was for and writes it again.
func TestSyncFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j, err := Open(dir, bytes.Repeat([]byte{7}, KeySize), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Append(Entry{Item: "1", Queue: "q"}); err != nil {
			t.Fatal(err)
		}
		pipe, far, err := os.Pipe() // it takes what is written, and cannot be synced
		if err != nil {
			t.Fatal(err)
		}
		defer pipe.Close()
		good := j.file
		j.file = far
		if err := j.Append(Entry{Item: "2", Queue: "q"}); err == nil {
			t.Error("a pipe was synced")
		}
		_ = far.Close()
		j.mu.Lock()
		j.file = good
		j.mu.Unlock()
		time.Sleep(tryEvery + 300*time.Millisecond)
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		if j, err = Open(dir, bytes.Repeat([]byte{7}, KeySize), Options{}); err != nil {
			t.Fatal(err)
		}
		items := ""
		s, err := j.Walk(t.Context(), func(e Entry) error { items += e.Item; return nil })
		if err != nil || s.Broken != "" || items != "12" {
			t.Errorf("%q, %+v, %v", items, s, err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestOneSyncForMany looks whether all that Append returned for is durable, whoever synced it.
func TestOneSyncForMany(t *testing.T) {
	j, err := Open(t.TempDir(), bytes.Repeat([]byte{7}, KeySize), Options{FileBytes: 3000})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Go(func() {
			if err := j.Append(Entry{Item: fmt.Sprint(n), Queue: "q"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	j.mu.Lock()
	if j.synced != j.end || len(j.fresh) != 0 {
		t.Errorf("written up to %+v, synced up to %+v", j.end, j.synced)
	}
	j.mu.Unlock()
	if s, err := j.Walk(t.Context(), func(Entry) error { return nil }); err != nil || s.Broken != "" || s.Receipts != 200 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}
